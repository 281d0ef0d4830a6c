"""Independent Bernoulli variables as one event, scored in one go."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent

from vaekit.math.cross_entropy import bernoulli_log_prob


class BernoulliEvent(Independent):  # type: ignore[type-arg]
    """`Independent(Bernoulli(logits=logits), event_dims)` with a faster log-density.

    Arguments:
        logits: Shape (K, B, *x).
        event_dims: Dimensions of the event.
    """

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        super().__init__(Bernoulli(logits=logits, validate_args=False), event_dims, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, shape (K, B), for values of shape (B, *x) or (K, B, *x)."""
        return bernoulli_log_prob(self.base_dist.logits, value, self.reinterpreted_batch_ndims)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> BernoulliEvent:  # type: ignore[override]
        """The same event in a larger batch."""
        logits = self.base_dist.logits
        return BernoulliEvent(logits.expand(*batch_shape, *self.event_shape), self.reinterpreted_batch_ndims)
