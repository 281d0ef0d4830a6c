"""A categorical distribution over evenly spaced values in [0, 1]."""

# *b batch, M levels

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.draw import chosen, reparameterised


class LevelsCategorical(Distribution):
    r"""Over the values 0, 1/(M-1), ..., 1, with :math:`P(k / (M - 1)) = \mathrm{softmax}(l)_k`.

    Arguments:
        logits: :math:`l`, shape (*b, M) with M of 2 or more.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.levels = logits.shape[-1]
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Every number in [0, 1] is accepted, and taken for the level nearest to it."""
        return constraints.unit_interval

    @property
    def mean(self) -> Tensor:
        """(*b)."""
        return self.logits.softmax(-1) @ self._grid

    @property
    def variance(self) -> Tensor:
        """(*b)."""
        return (self.logits.softmax(-1) * (self._grid - self.mean[..., None]).square()).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, for values that broadcast with (*b)."""
        index = (value.detach() * (self.levels - 1)).round().long()
        shape = torch.broadcast_shapes(index.shape, self.batch_shape)  # type: ignore[no-untyped-call]
        logits = self.logits.expand(*shape, self.levels).gather(-1, index.expand(shape)[..., None])
        return logits[..., 0] - self.logits.logsumexp(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *b), through vaekit's noise."""
        return reparameterised(self.expand(self._extended_shape(torch.Size(sample_shape))))

    def expand(self, batch_shape: Any, _instance: None = None) -> LevelsCategorical:
        """The same distribution in a larger batch."""
        return LevelsCategorical(self.logits.expand(*batch_shape, self.levels))

    @property
    def _grid(self) -> Tensor:
        return torch.linspace(0.0, 1.0, self.levels, dtype=self.logits.dtype, device=self.logits.device)


@reparameterised.register
def _(q: LevelsCategorical) -> Tensor:
    return chosen(q.logits.softmax(-1)).to(q.logits.dtype) / (q.levels - 1)
