"""Bounds on the evidence from several importance weights, other than the importance-weighted one itself."""

# S draws in all, M groups of K draws, S = M K

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.math.importance import importance_bound

# below this |1 - alpha|, log E exp((1 - alpha) d) is too near 0 for a difference of logarithms
_NEAR_ONE = 1e-3


def grouped_bound(log_w: Tensor, groups: int) -> Tensor:
    r"""The mean over M groups of the importance-weighted bound of the K draws in each: that of MIWAE.

    .. math:: \frac1M \sum_{m=1}^M \log \frac1K \sum_{k=1}^K w_{m,k}

    Its expectation is that of :math:`\mathcal{L}_K`, with an M-th of the variance: the ELBO for K = 1, IWAE for M = 1.

    Arguments:
        log_w: Log importance weights of S = M K draws, shape (S, *), nats.
        groups: M, a divisor of S.

    Returns:
        Nats, shape (*).

    Raises:
        ValueError: If the draws do not fall into M groups of one size.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), section 5: MIWAE
        | https://arxiv.org/abs/1802.04537
    """
    return importance_bound(in_groups(log_w, groups)).mean(0)


def in_groups(log_w: Tensor, groups: int) -> Tensor:
    """(S, *) to (K, M, *), with M = `groups`.

    Raises:
        ValueError: If M does not divide S.
    """
    if groups < 1 or log_w.shape[0] % groups:
        raise ValueError(
            f"{log_w.shape[0]} draws do not fall into {groups} groups of one size: write training.samples=K x {groups}, such as "
            f"{8 * max(1, groups)}."
        )
    return log_w.reshape(groups, -1, *log_w.shape[1:]).transpose(0, 1)


def combined_bound(log_w: Tensor, beta: float) -> Tensor:
    r"""A mixture of the ELBO and the importance-weighted bound of the same K draws: that of CIWAE.

    .. math:: \beta \, \frac1K \sum_k \log w_k + (1 - \beta) \log \frac1K \sum_k w_k

    Arguments:
        log_w: Log importance weights, shape (K, *), nats.
        beta: From 0, the importance-weighted bound, to 1, the ELBO.

    Returns:
        Nats, shape (*).

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), section 5: CIWAE
        | https://arxiv.org/abs/1802.04537
    """
    return beta * log_w.mean(0) + (1.0 - beta) * importance_bound(log_w)


def renyi_bound(log_w: Tensor, alpha: float) -> Tensor:
    r"""The variational Renyi bound from K draws.

    .. math:: \frac{1}{1 - \alpha} \log \frac1K \sum_k w_k^{1 - \alpha}

    It falls as alpha rises: the importance-weighted bound at 0, the mean of :math:`\log w_k` (the ELBO) in the limit of 1, the
    largest :math:`\log w_k` in the limit of minus infinity. A lower bound on the evidence, in expectation, for alpha of 0 and more;
    below 0 it is none.

    Arguments:
        log_w: Log importance weights, shape (K, *), nats.
        alpha: Any number.

    Returns:
        Nats, shape (*).

    References:
        | Renyi Divergence Variational Inference (Li and Turner, 2016), section 4.1 and theorem 2
        | https://arxiv.org/abs/1602.02311
    """
    power = 1.0 - alpha
    if power == 0.0:
        return log_w.mean(0)
    if abs(power) >= _NEAR_ONE:
        return importance_bound(power * log_w) / power
    centre = log_w.mean(0)
    return centre + torch.log1p(torch.expm1(power * (log_w - centre)).mean(0)) / power
