"""The aggregate posterior, an even mixture of the posteriors of all examples: its density, and that of its dimensions."""

# N examples, Q draws, M components, L latent dimensions

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_normal(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density of normal numbers, nats: shapes (*) that broadcast, nothing summed."""
    return -0.5 * ((z - loc) / scale).square() - scale.log() - 0.5 * math.log(2.0 * math.pi)


def aggregate_log_density(own: Tensor, log_q: Tensor, is_own: Tensor, size: int) -> tuple[Tensor, Tensor]:
    r"""Log-density of draws :math:`z_n \sim q(z|x_n)` under the aggregate posterior, with their own posterior in it and without.

    .. math::
        \hat q(z_n) = \frac1N q(z_n|x_n) + \frac{N-1}{N} \frac1{M_n} \sum_{m \ne n} q(z_n|x_m), \qquad
        \hat q_{-n}(z_n) = \frac1{M_n} \sum_{m \ne n} q(z_n|x_m)

    where the sums run over those of the M components that are not the draw's own, and :math:`M_n` is their number. With all
    posteriors as components, :math:`M_n = N - 1`, the first is the density of the aggregate posterior of the N examples exactly.
    With a random part of them it is unbiased, and its logarithm too low on average (Jensen). The second is an unbiased
    estimate of the density under examples without end, and its logarithm too low on average.

    The weights are those of densities of all dimensions together. For one dimension alone, give its densities in place of the
    sums over dimensions.

    Arguments:
        own: log q(z_n | x_n), nats, shape (*, Q).
        log_q: log q(z_n | x_m), nats, shape (*, Q, M).
        is_own: Where m is n, bool, shape (Q, M): at most once in a row, and not in all of a row.
        size: N, 2 or more.

    Returns:
        Both in nats, shape (*, Q).

    Raises:
        ValueError: If a draw is left without a component that is not its own.

    References:
        | Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), section 3 and appendix C.2; from the
          weights of a minibatch there these differ in being alike for all components but the draw's own
        | https://arxiv.org/abs/1802.04942
    """
    others = (~is_own).sum(-1)
    if size < 2 or bool((others < 1).any()):
        raise ValueError(
            f"A mixture of {size} posteriors with {log_q.shape[-1]} of them as components has none but the draw's own: give two "
            "examples or more."
        )
    summed = log_q.masked_fill(is_own, -math.inf).logsumexp(-1)
    without = summed - others.to(summed).log()
    with_own = torch.logaddexp(own - math.log(size), without + math.log((size - 1) / size))
    return with_own, without


def normal_aggregate(
    z: Tensor, own: tuple[Tensor, Tensor], components: tuple[Tensor, Tensor], is_own: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""`aggregate_log_density` of all dimensions together and of each alone, for posteriors that are diagonal normals.

    Memory: a few matrices (Q, M), whatever L.

    Arguments:
        z: Draws, shape (Q, L).
        own: Means and standard deviations of the posteriors they were drawn from, each (Q, L).
        components: Those of the components, each (M, L).
        is_own: Where the component is the draw's own posterior, bool, (Q, M).
        size: N.

    Returns:
        Together, with and without the draw's own posterior, (Q,) each; then of each dimension, likewise, (Q, L) each. Nats.
    """
    together_own = z.new_zeros(len(z))
    together = z.new_zeros(is_own.shape)
    dimensions = []
    for j in range(z.shape[1]):
        single_own = log_normal(z[:, j], own[0][:, j], own[1][:, j])
        single = log_normal(z[:, j, None], components[0][:, j], components[1][:, j])
        dimensions.append(aggregate_log_density(single_own, single, is_own, size))
        together_own, together = together_own + single_own, together + single
    with_own, without = (torch.stack(parts, -1) for parts in zip(*dimensions, strict=True))
    return *aggregate_log_density(together_own, together, is_own, size), with_own, without
