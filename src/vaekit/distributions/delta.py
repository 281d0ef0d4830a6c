"""All mass on one point."""

# *b batch, *e event

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class Delta(Distribution):
    """The distribution of a value that is certain: what the encoder of a plain autoencoder puts out.

    It has no density. `log_prob` is taken over the counting measure, 0 at the point and minus infinity elsewhere, so a
    difference of it and a density is a number, but no bound on anything. There is no entropy.

    Arguments:
        value: The point, shape (*b, *e).
        event_dims: Dimensions of the event.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, value: Tensor, event_dims: int = 0) -> None:
        self.value = value
        split = value.dim() - event_dims
        super().__init__(value.shape[:split], value.shape[split:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Every point of the event's space is accepted."""
        return constraints.independent(constraints.real, len(self.event_shape))  # type: ignore[no-untyped-call]

    @property
    def mean(self) -> Tensor:
        """The point, (*b, *e)."""
        return self.value

    @property
    def mode(self) -> Tensor:
        """The point, (*b, *e)."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """0, (*b, *e)."""
        return torch.zeros_like(self.value)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The point, as often as asked for."""
        return self.value.expand(self._extended_shape(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """0 at the point, minus infinity elsewhere, (*b)."""
        dims = len(self.event_shape)
        same = value == self.value
        same = same.flatten(same.dim() - dims).all(-1) if dims else same
        zero = torch.zeros((), dtype=self.value.dtype, device=self.value.device)
        return torch.where(same, zero, -float("inf"))

    def expand(self, batch_shape: Any, _instance: None = None) -> Delta:
        """The same point in a larger batch."""
        return Delta(self.value.expand(*batch_shape, *self.event_shape), len(self.event_shape))
