"""The beta that an objective really has, after weights and reductions, and the one that a weight beside a mean stands for."""

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


def equivalent_beta(kld_weight: float, features: int) -> float:
    r"""The beta that a KL weight beside a mean squared error is, at :math:`\sigma = 1`.

    Many scripts minimise :math:`L = \frac1D \|x - \mu\|^2 + w \, \mathrm{KL}`, a mean over the D values of an example beside a sum
    over latent dimensions. With the normal likelihood of :math:`\sigma = 1`, for which
    :math:`-\log p(x|z) = \frac12 \|x - \mu\|^2 + \mathrm{const}`,

    .. math:: \frac{D}{2} L = \frac12 \|x - \mu\|^2 + \frac{w D}{2} \mathrm{KL}
              = -\log p(x|z) + \beta \, \mathrm{KL} - \mathrm{const}, \qquad \beta = \frac{w D}{2}

    So both have the same minima, their gradients differ by the factor D / 2, and the same w is another beta for another number of
    values.

    Arguments:
        kld_weight: w.
        features: D.

    Returns:
        beta, without a unit.
    """
    return kld_weight * features / 2.0
