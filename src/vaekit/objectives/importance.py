"""The importance-weighted bound as an objective."""

from __future__ import annotations

from torch import Tensor

from vaekit.math.importance import importance_bound
from vaekit.objectives.bound import Bound


class ImportanceBound(Bound):
    r"""Minus the importance-weighted bound on the evidence, :math:`-\log \frac1K \sum_k w_k`, of the K draws of the trace.

    With K = 1 it is minus the ELBO at that draw, nothing in closed form. Its gradient is :math:`-\sum_k \tilde w_k \nabla \log w_k`
    with the weights normalised over the draws, which is what autograd makes of the logarithm of the mean (equation 13): what is
    reported and what is minimised are one number. K is `training.samples`.

    References:
        | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), equations 8, 13 and 14
        | https://arxiv.org/abs/1509.00519
    """

    def bound(self, log_w: Tensor) -> Tensor:
        """Nats, shape (B,)."""
        return importance_bound(log_w)
