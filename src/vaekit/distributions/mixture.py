"""A mixture of M distributions, scored without holding all of them for all values at once."""

# K samples, B batch, M components, n values, *z event of a latent

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.draw import chosen, reparameterised

# numbers held at a time where nothing is differentiated
_NUMBERS = 1 << 24


class Mixture(Distribution):
    r""":math:`p(z) = \sum_m w_m \, p_m(z)`, the same for the whole batch.

    Arguments:
        components: Batch shape (1, M).
        log_weights: :math:`\log w_m`, shape (M,).
        drawn: From indices of components, int64 (K, B), to a draw from each, (K, B, *z).
        batch_shape: (K, B).
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self,
        components: Distribution,
        log_weights: Tensor,
        drawn: Callable[[Tensor], Tensor],
        batch_shape: Sequence[int],
    ) -> None:
        self.components, self.log_weights, self.drawn = components, log_weights, drawn
        super().__init__(torch.Size(batch_shape), components.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """(K, B, *z)."""
        return self._average(self.components.mean[0]).expand(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        """Within and between the components, (K, B, *z)."""
        means = self.components.mean[0]
        within = self._average(self.components.variance[0])
        return (within + self._average((means - self._average(means)).square())).expand(self._extended_shape())

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, (K, B)."""
        dims = len(self.event_shape)
        lead = value.shape[: value.dim() - dims]
        flat = value.reshape(-1, 1, *self.event_shape)
        rows = max(1, _NUMBERS // (len(self.log_weights) * self.event_shape.numel()))
        nats = torch.cat([self._log_prob(part) for part in torch.split(flat, rows)]).reshape(lead)
        return nats + nats.new_zeros(self.batch_shape)  # a value without samples counts for all of them

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, K, B, *z), each from the component that was drawn for it."""
        count = torch.Size(sample_shape).numel()
        with torch.no_grad():
            probs = self.log_weights.softmax(0).expand(*self.batch_shape, -1)
            drawn = torch.stack([self.drawn(chosen(probs)) for _ in range(count)])
        return drawn.reshape(self._extended_shape(torch.Size(sample_shape)))

    def _log_prob(self, value: Tensor) -> Tensor:
        """(n, 1, *z) -> (n,)."""
        nats: Tensor = self.components.log_prob(value)
        mixed: Tensor = (nats + self.log_weights).logsumexp(-1)
        return mixed

    def _average(self, values: Tensor) -> Tensor:
        """Over the components, (M, *z) -> (*z)."""
        average: Tensor = torch.tensordot(self.log_weights.exp(), values, dims=1)
        return average


def even_log_weights(like: Tensor, count: int) -> Tensor:
    """The log-weights of `count` components that count alike, (M,)."""
    return like.new_full((count,), -math.log(count))


@reparameterised.register
def _(q: Mixture) -> Tensor:
    # without gradients: those of the drawn component alone would miss the change of the choice
    return q.sample()
