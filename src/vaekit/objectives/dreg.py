"""The importance-weighted bound with an encoder's gradient that does not fade."""

# K samples, B batch

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.math.importance import importance_bound
from vaekit.models.trace import Trace
from vaekit.objectives.bound import Bound
from vaekit.objectives.path import check_path, path_log_q
from vaekit.objectives.routed import routed


class DReG(Bound):
    r"""Minus the importance-weighted bound, with the doubly reparameterised gradient.

    .. math::
        \nabla_\phi = -\sum_k \tilde w_k^2 \, \frac{\partial \log w_k}{\partial z_k} \frac{\partial z_k}{\partial \phi}, \qquad
        \nabla_\theta = -\sum_k \tilde w_k \, \nabla_\theta \log w_k, \qquad \tilde w_k = w_k / \sum_j w_j

    The value is that of `ImportanceBound`, and so is the mean of the gradient. The encoder's has the score of q reparameterised
    once more, after which its signal-to-noise ratio rises with K, where the ordinary one falls. With K = 1 it is that of `PathKL`.
    It costs one more pass back through the decoder.

    Raises:
        ValueError: When called, if the draws have no path derivative, or one latent is drawn given another.

    References:
        | Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives (Tucker et al., 2019), section 3
        | https://arxiv.org/abs/1810.04152
    """

    def bound(self, log_w: Tensor) -> Tensor:
        """The importance-weighted bound, nats, shape (B,)."""
        return importance_bound(log_w)

    def forward(self, trace: Trace) -> Tensor:
        """Nats, shape (B,)."""
        log_q = path_log_q(trace)
        log_p = torch.stack([latent.log_p for latent in trace.latents]).sum(0)
        log_w = (trace.log_px + log_p - log_q).detach()
        weights = log_w.softmax(0)
        return -self.bound(log_w) - routed(trace, log_q, encoder=weights.square(), decoder=weights)

    def check(self, trace: Trace) -> None:
        """Raise if the draws have no path derivative."""
        check_path(trace)
