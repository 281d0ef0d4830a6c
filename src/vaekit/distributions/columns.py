"""The distribution of a row of a table: independent columns, each a number, a number that may be missing, or a category."""

# *b batch, W values of an example, n numbers, m of them optional, k levels of a category, c categories of k levels

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid, one_hot

from vaekit.distributions.draw import chosen, reparameterised
from vaekit.distributions.noise import standard_normal, uniform

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Places:
    """Where the columns of a table lie among the W values of an example.

    Attributes:
        width: W.
        numbers: Places of the numbers, n.
        optional: Which of the numbers may be missing, m of 0 ... n - 1.
        observed: Places of the values that say whether these are observed, m.
        categories: For each number of levels, the places of the categories that have it, (c, k).
    """

    width: int
    numbers: Tensor
    optional: Tensor
    observed: Tensor
    categories: tuple[Tensor, ...]

    @classmethod
    def of(cls, layout: Sequence[int]) -> Places:
        """The places of columns: 0 for a number, -1 for a number that may be missing, k of 2 or more for a category."""
        widths = [{0: 1, -1: 2}.get(kind, kind) for kind in layout]
        starts = list(accumulate(widths, initial=0))
        blocks = defaultdict[int, list[list[int]]](list)
        for start, kind in zip(starts, layout, strict=False):
            if kind > 0:
                blocks[kind].append(list(range(start, start + kind)))
        numbers = [(start, kind) for start, kind in zip(starts, layout, strict=False) if kind <= 0]
        return cls(
            starts[-1],
            _integers([start for start, _ in numbers]),
            _integers([place for place, (_, kind) in enumerate(numbers) if kind == -1]),
            _integers([start + 1 for start, kind in numbers if kind == -1]),
            tuple(_integers(places) for places in blocks.values()),
        )

    def to(self, device: torch.device) -> Places:
        """The same on another device."""
        return Places(
            self.width,
            self.numbers.to(device),
            self.optional.to(device),
            self.observed.to(device),
            tuple(places.to(device) for places in self.categories),
        )


class ColumnsDistribution(Distribution):
    r"""Independent columns.

    .. math:: \log p(x) = \sum_{\mathrm{numbers}} o_d \log N(x_d; \mu_d, \sigma_d^2)
        + \sum_{\mathrm{optional}} \log \mathrm{Bernoulli}(o_d; \mathrm{sigmoid}(a_d))
        + \sum_{\mathrm{categories}} \sum_k x_{dk} \log \mathrm{softmax}(l_d)_k

    with :math:`o_d` = 1 where a number is observed, as one that cannot be missing always is. The value of a missing number is 0
    and has no density: the measure is that of the numbers which are there.

    Arguments:
        parameters: Means, logits of being observed, and logits of levels, each at the place of what it is of, shape (*b, W).
        scale: Standard deviations of the numbers, (n).
        places: Of the columns.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, parameters: Tensor, scale: Tensor, places: Places) -> None:
        self.parameters, self.scale, self.places = parameters, scale, places
        super().__init__(parameters.shape[:-1], parameters.shape[-1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Real vectors; those that no row of a table has are scored as well."""
        return constraints.real_vector

    @property
    def mean(self) -> Tensor:
        """(*b, W): of a number that may be missing, the mean times the probability that it is observed."""
        p, expected = self.places, self.parameters.clone()
        observed = self._observed
        expected[..., p.observed] = observed
        at = p.numbers[p.optional]
        expected[..., at] = self.parameters[..., at] * observed
        for block, logits in self._blocks():
            expected[..., block.flatten()] = logits.softmax(-1).flatten(-2)
        return expected

    @property
    def variance(self) -> Tensor:
        """(*b, W)."""
        p, mean = self.places, self.mean
        spread = mean * (1.0 - mean)
        spread[..., p.numbers] = self.scale.square().expand(*self.batch_shape, -1)
        at, observed = p.numbers[p.optional], self._observed
        square = self.scale[p.optional].square() + self.parameters[..., at].square()
        spread[..., at] = observed * square - mean[..., at].square()
        return spread

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, shape (*b), for values that broadcast with (*b, W)."""
        p = self.places
        z = (value[..., p.numbers] - self.parameters[..., p.numbers]) / self.scale
        density = -0.5 * z.square() - self.scale.log() - _HALF_LOG_2PI
        total = density.sum(-1)
        if len(p.optional):
            observed, logits = value[..., p.observed], self.parameters[..., p.observed]
            total = total - ((1.0 - observed) * density[..., p.optional]).sum(-1)
            total = total + (observed * logsigmoid(logits) + (1.0 - observed) * logsigmoid(-logits)).sum(-1)
        for block, logits in self._blocks():
            given = _blockwise(value, block)
            total = total + (given * logits.log_softmax(-1)).sum((-2, -1))
        return total

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *b, W), through vaekit's noise."""
        with torch.no_grad():
            return reparameterised(self.expand(self._extended_shape(torch.Size(sample_shape))[:-1]))

    def expand(self, batch_shape: Any, _instance: None = None) -> ColumnsDistribution:
        """The same distribution in a larger batch."""
        return ColumnsDistribution(self.parameters.expand(*batch_shape, -1), self.scale, self.places)

    @property
    def _observed(self) -> Tensor:
        return self.parameters[..., self.places.observed].sigmoid()

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Places (c, k) and logits (*b, c, k) of the categories with each number of levels."""
        for block in self.places.categories:
            yield block, _blockwise(self.parameters, block)


@reparameterised.register
def _(q: ColumnsDistribution) -> Tensor:
    p, lead, dtype, device = q.places, q.batch_shape, q.parameters.dtype, q.parameters.device
    drawn = torch.zeros_like(q.parameters)
    if len(p.numbers):
        noise = standard_normal(torch.Size([*lead, len(p.numbers)]), dtype=dtype, device=device)
        drawn[..., p.numbers] = q.parameters[..., p.numbers] + q.scale * noise
    if len(p.optional):
        u = uniform(torch.Size([*lead, len(p.optional)]), dtype=dtype, device=device)
        observed = (u < q.parameters[..., p.observed].sigmoid()).to(drawn.dtype)
        drawn[..., p.observed] = observed
        at = p.numbers[p.optional]
        drawn[..., at] = drawn[..., at] * observed
    for block, logits in q._blocks():
        drawn[..., block.flatten()] = one_hot(chosen(logits.softmax(-1)), block.shape[1]).to(drawn.dtype).flatten(-2)
    return drawn


def _blockwise(values: Tensor, block: Tensor) -> Tensor:
    """The values at the places of a block, (*b, W) to (*b, c, k)."""
    return values[..., block.flatten()].reshape(*values.shape[:-1], *block.shape)


def _integers(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
