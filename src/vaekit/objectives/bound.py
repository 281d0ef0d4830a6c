"""Terms that are minus a bound on the evidence, made of the log importance weights of a trace."""

# K samples, B batch

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from vaekit.models.trace import Trace
from vaekit.objectives.base import Role, Term


class Bound(Term):
    """Minus a bound on log p(x), as one term: what is minimised has the value of the bound, and is reported as it is."""

    role = Role.BOUND

    @abstractmethod
    def bound(self, log_w: Tensor) -> Tensor:
        """The bound, nats, (B,), of log importance weights (K, B)."""

    def forward(self, trace: Trace) -> Tensor:
        """Minus the bound: nats, shape (B,)."""
        return -self.bound(trace.log_w)

    def elements(self, trace: Trace) -> int:
        """Values of one example: the evidence is theirs."""
        return trace.px.event_shape.numel()
