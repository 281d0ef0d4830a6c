"""The reconstruction term."""

from __future__ import annotations

from torch import Tensor

from vaekit.models.trace import Trace
from vaekit.objectives.base import Role, Term


class Reconstruction(Term):
    r"""Negative expected log-likelihood, :math:`-\frac1K \sum_k \log p(x | z_k)`: the distortion.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), equation 7
        | https://arxiv.org/abs/1312.6114
    """

    role = Role.DISTORTION

    def forward(self, trace: Trace) -> Tensor:
        """Nats, shape (B,)."""
        return -trace.log_px.mean(0)

    def elements(self, trace: Trace) -> int:
        """Values of one example."""
        return trace.px.event_shape.numel()
