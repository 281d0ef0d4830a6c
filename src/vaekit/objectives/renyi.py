"""The variational Renyi bound, and its limit."""

# K samples, B batch

from __future__ import annotations

from torch import Tensor

from vaekit.math.multi_sample import renyi_bound
from vaekit.objectives.base import Role
from vaekit.objectives.bound import Bound


class RenyiBound(Bound):
    r"""Minus the variational Renyi bound of the K draws, :math:`-\frac{1}{1 - \alpha} \log \frac1K \sum_k w_k^{1 - \alpha}`.

    Minus the ELBO at alpha 1, `ImportanceBound` at 0. In between, the posterior is held to cover less than the ELBO would have
    it and more than importance weighting. Its gradient is :math:`-\sum_k \tilde w_k \nabla \log w_k` with
    :math:`\tilde w_k \propto w_k^{1 - \alpha}`. Below 0 the number is no lower bound on log p(x), and its role says so.

    Arguments:
        alpha: Any number.

    References:
        | Renyi Divergence Variational Inference (Li and Turner, 2016), sections 3 and 4.1
        | https://arxiv.org/abs/1602.02311
    """

    def __init__(self, alpha: float = 0.5) -> None:
        super().__init__()
        self.alpha = alpha
        if alpha < 0.0:
            self.role = Role.OTHER

    def bound(self, log_w: Tensor) -> Tensor:
        """Nats, shape (B,)."""
        return renyi_bound(log_w, self.alpha)


class LargestWeight(Bound):
    r"""Minus the largest log-weight, :math:`-\max_k \log w_k`: the Renyi bound as alpha tends to minus infinity, "VR-max".

    Only the best of the K draws is trained with. It is no lower bound on log p(x) and is not reported as one: models are compared,
    and the best epoch chosen, by the ELBO.

    References:
        | Renyi Divergence Variational Inference (Li and Turner, 2016), section 4.2 and algorithm 1
        | https://arxiv.org/abs/1602.02311
    """

    role = Role.OTHER

    def bound(self, log_w: Tensor) -> Tensor:
        """Nats, shape (B,)."""
        return log_w.max(0).values
