"""The path derivative: the density of the posterior is differentiated by the draw alone, and by no parameter of its own."""

# K samples, B batch, *z event of a latent

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

from vaekit.distributions.detached import detached
from vaekit.models.trace import Latent, Trace
from vaekit.objectives.kl import MonteCarloKL


def path_log_q(trace: Trace) -> Tensor:
    r"""log q(z|x) of the draws with the parameters of q held still, nats, shape (K, B).

    Its value is that of log q; its gradient lacks the score :math:`\nabla_\phi \log q_\phi(z)`, whose mean is 0.

    Raises:
        ValueError: If the draws have no path derivative, or one latent is drawn given another.
    """
    check_path(trace)
    return torch.stack([detached(latent.q).log_prob(latent.draw.value) for latent in trace.latents]).sum(0)


def check_path(trace: Trace) -> None:
    """Raise unless every latent is a differentiable function of its own posterior's parameters, and of no other latent.

    Where the posterior of one latent is conditioned on the draw of another, its parameters cannot be held still as a whole: the
    other draw reaches the density through them, and that is a path.

    Raises:
        ValueError: Naming the latent.
    """
    for latent in trace.latents:
        detached(latent.q)
    check_separate(trace)


def check_separate(trace: Trace) -> None:
    """Raise if one latent is drawn given another, or has no gradient though its posterior has.

    Raises:
        ValueError: Naming the latent.
    """
    chained = [latent.name for latent in trace.latents if latent.chained]
    if torch.is_grad_enabled():
        for latent in trace.latents:
            if not latent.draw.value.requires_grad and _learns(latent):
                raise ValueError(
                    f"The draws of {latent.name!r} have no gradient to their parameters: write objective=elbo, or "
                    "posterior=normal."
                )
        # of traces that were not made by a hierarchy, too
        chained += [latent.name for latent, other in permutations(trace.latents, 2) if _sees(latent, other)]
    if chained:
        raise ValueError(
            f"The latent {chained[0]!r} is drawn given another one, and this gradient is only known for latents that are drawn "
            "independently given the data: write objective=elbo or objective=iwae."
        )


def _learns(latent: Latent) -> bool:
    try:
        return latent.q.mean.requires_grad
    except NotImplementedError:  # no mean to ask, as of a flow: taken to learn
        return True


def _sees(latent: Latent, other: Latent) -> bool:
    # nothing is computed where there is no way from the one to the other
    value = latent.draw.value
    if not (value.requires_grad and other.draw.value.requires_grad):
        return False
    (slope,) = torch.autograd.grad(
        value, other.draw.value, grad_outputs=torch.ones_like(value), retain_graph=True, allow_unused=True
    )
    return slope is not None


class PathKL(MonteCarloKL):
    r"""The KL from draws, differentiated along the path of the draws alone ("sticking the landing").

    .. math:: \frac1K \sum_k \log q_{\bar\phi}(z_k|x) - \log p(z_k), \qquad z_k = h_\phi(\epsilon_k, x)

    with :math:`\bar\phi` held still. Beside `Reconstruction` it makes the ELBO whose gradient lacks the score of q. Both gradients
    have one mean; this one has no variance where q is the true posterior, while that of the other stays. Farther away either may
    be the quieter one. The number that is reported is that of `MonteCarloKL`.

    Raises:
        ValueError: When called, if the draws have no path derivative, or one latent is drawn given another.

    References:
        | Sticking the Landing (Roeder, Wu and Duvenaud, 2017), its path derivative and algorithm 1
        | https://arxiv.org/abs/1703.09194
    """

    def forward(self, trace: Trace) -> Tensor:
        """Nats, shape (B,)."""
        log_p = torch.stack([latent.log_p for latent in trace.latents]).sum(0)
        return (path_log_q(trace) - log_p).mean(0)

    def check(self, trace: Trace) -> None:
        """Raise if the draws have no path derivative."""
        check_path(trace)
