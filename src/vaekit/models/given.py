"""A way of drawing that draws nothing: values that are given, so that a model can be asked what it thinks of them."""

# K samples, B batch, L dimensions of all latents, *z event of a latent

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.draw import Draw
from vaekit.models.hierarchy import shares
from vaekit.models.level import Level


class Given:
    """Hands each level its share of given values, in place of a draw, and remembers what each was asked to be drawn from.

    Arguments:
        z: Values of all latents, flattened and side by side in ancestral order, (K, B, L).
        levels: In ancestral order.
        asked: The same, in the order in which they will ask.

    Raises:
        ValueError: If there are more or fewer values than the levels have.
    """

    def __init__(self, z: Tensor, levels: Sequence[Level], asked: Sequence[Level]) -> None:
        parts = {level.name: part for level, part in zip(levels, shares(levels, z), strict=True)}
        self._values = [parts[level.name] for level in asked]
        self.draws: list[Draw] = []

    def __call__(self, distribution: Distribution) -> Draw:
        """The value of the level whose turn it is, (K, B, *z), with its log-density under `distribution`."""
        value = self._values[len(self.draws)]
        self.draws.append(Draw(value, lambda: distribution.log_prob(value)))
        return self.draws[-1]

    @property
    def log_prob(self) -> Tensor:
        """Log-density of all values, each under the distribution that it was taken from: nats, (K, B)."""
        return torch.stack([drawn.log_prob for drawn in self.draws]).sum(0)
