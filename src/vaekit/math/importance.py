"""Bounds on the evidence from importance weights."""

from __future__ import annotations

import math

from torch import Tensor


def importance_bound(log_w: Tensor) -> Tensor:
    r"""Importance-weighted lower bound on the log evidence.

    .. math:: \log \frac1K \sum_{k=1}^K w_k, \qquad w_k = p(x, z_k) / q(z_k | x)

    Its expectation is the ELBO for K = 1, never falls as K grows, and tends to :math:`\log p(x)`.

    Arguments:
        log_w: Log importance weights, shape (K, *), nats.

    Returns:
        Nats, shape (*).

    References:
        | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), equation 8
        | https://arxiv.org/abs/1509.00519
    """
    return log_w.logsumexp(0) - math.log(log_w.shape[0])


def effective_sample_size(log_w: Tensor) -> Tensor:
    r"""How many of K importance weights carry the sum.

    .. math:: \Big( \sum_k w_k \Big)^2 \Big/ \sum_k w_k^2 \;=\; 1 \Big/ \sum_k \tilde w_k^2, \qquad \tilde w_k = w_k / \sum_j w_j

    K where all weights are equal, 1 where one of them is all.

    Arguments:
        log_w: Log importance weights, shape (K, *), nats.

    Returns:
        From 1 to K, shape (*).

    References:
        | Monte Carlo Strategies in Scientific Computing (Liu, 2001), section 2.5.3
    """
    return (2.0 * log_w.logsumexp(0) - (2.0 * log_w).logsumexp(0)).exp()
