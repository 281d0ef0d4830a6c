"""The beta that an objective really has, after weights and reductions."""

from __future__ import annotations

from vaekit.models.trace import Trace
from vaekit.objectives.base import Objective, Role


def effective_beta(objective: Objective, trace: Trace) -> float | None:
    r"""The factor on the KL in nats when the factor on the reconstruction in nats is one.

    With `MeanReduction` and weight beta: :math:`\beta \cdot D / L` for D values of an example and L latent dimensions.

    Arguments:
        objective: At its present step.
        trace: Any trace of the model; only shapes are read.

    Returns:
        The ratio, or None where the objective lacks one of the two terms, or holds one to a target instead of weighing it.
    """
    coefficients = objective.coefficients(trace)
    reconstruction = sum(float(coefficients[name]) for name in objective.having(Role.DISTORTION))
    kl = [float(coefficients[name]) for name in objective.having(Role.RATE)]
    return sum(kl) / reconstruction if kl and reconstruction and objective.plain else None
