"""The structure of the latents. A flat VAE is a top-down hierarchy of one level."""

# K samples, B batch, *c features, *s state

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.distributions.draw import Draw, draw
from vaekit.models.level import DrawOnly, FeaturesOnly, Level
from vaekit.models.trace import Latent
from vaekit.networks.growing import Growth

Drawing = Callable[[Distribution], Draw]


class Hierarchy(nn.Module, ABC):
    """How the latents of a model hang together."""

    @abstractmethod
    def infer(self, features: Tensor, model: Consulted, drawing: Drawing = draw) -> tuple[tuple[Latent, ...], Tensor]:
        """Latents given features (K, B, *c), in ancestral order, and the final state (K, B, *s).

        `drawing` says how a value is taken from each posterior: `draw` at random, `centre` for the mean.
        """

    @abstractmethod
    def generate(self, blank: Tensor, model: Consulted, drawing: Drawing = draw) -> Tensor:
        """The final state of a draw from the prior, (K, B, *s). `blank` is an empty state, (K, B, 0)."""

    @abstractmethod
    def rebuild(self, z: Tensor) -> Tensor:
        """The final state, (K, B, *s), of given values of all latents, flattened and side by side: (K, B, L)."""

    @abstractmethod
    def open(self) -> list[Level]:
        """The levels that take part at present, in ancestral order."""

    @abstractmethod
    def asked(self) -> list[Level]:
        """The same levels, in the order in which `infer` takes values from their posteriors."""

    def posterior(self, features: Tensor, model: Consulted) -> Distribution:
        """q of the first latent given features (K, B, *c). No prior is asked, as a prior may be who is asking."""
        first = self.open()[0]
        blank = features.new_zeros((*features.shape[:2], 0))
        q: Distribution = first.posterior(first.join(features, blank), model)
        return q


class TopDown(Hierarchy):
    """Each level's posterior and prior see the state that the levels above have left; the first state has width 0.

    Arguments:
        levels: From the top down.
        growth: Opens the levels one after another; a closed one is skipped. None where all are open from the start.

    References:
        | Ladder Variational Autoencoders (Sønderby et al., 2016), section 2.1
        | https://arxiv.org/abs/1602.02282
    """

    def __init__(self, levels: Sequence[Level], growth: Growth | None = None) -> None:
        super().__init__()
        check_names(levels)
        self.levels = nn.ModuleList(levels)
        self.growth = growth

    def infer(self, features: Tensor, model: Consulted, drawing: Drawing = draw) -> tuple[tuple[Latent, ...], Tensor]:
        """From the top down, each draw feeding the next level."""
        latents: list[Latent] = []
        state = features.new_zeros((*features.shape[:2], 0))
        for level in self.open():
            q = level.posterior(level.join(features, state), model)
            p, chained = level.prior(level.inform(state), model), bool(latents) and level.sees_state
            latent = Latent(level.name, q, p, drawing(q), chained=chained)
            latents.append(latent)
            state = level.merge(state, latent.draw.value)
        return tuple(latents), state

    def generate(self, blank: Tensor, model: Consulted, drawing: Drawing = draw) -> Tensor:
        """From the top down, each level from its prior."""
        state = blank
        for level in self.open():
            state = level.merge(state, drawing(level.prior(level.inform(state), model)).value)
        return state

    def rebuild(self, z: Tensor) -> Tensor:
        """Each level takes its share."""
        return rebuilt(self.open(), z)

    def open(self) -> list[Level]:
        """The levels that take part, from the top down."""
        levels = [level for level in self.levels if isinstance(level, Level)]
        return levels if self.growth is None else levels[: self.growth.stage + 1]

    def asked(self) -> list[Level]:
        """From the top down."""
        return self.open()


def flat(posterior: Conditional, prior: Conditional) -> TopDown:
    """The hierarchy of an ordinary VAE: one level, whose latent is the whole state."""
    return TopDown([Level("z", posterior, prior, join=FeaturesOnly(), merge=DrawOnly())])


def check_names(levels: Sequence[Level]) -> None:
    """Raise unless there is a level, and no two of them have one name."""
    names = [level.name for level in levels]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"A hierarchy needs one level or more with different names, received {names}.")


def rebuilt(levels: Sequence[Level], z: Tensor) -> Tensor:
    """The final state of given values of all levels, in ancestral order, flattened and side by side: (K, B, L) to (K, B, *s)."""
    state = z.new_zeros((*z.shape[:2], 0))
    for level, part in zip(levels, shares(levels, z), strict=True):
        state = level.merge(state, part)
    return state


def shares(levels: Sequence[Level], z: Tensor) -> list[Tensor]:
    """Values of all levels that lie flattened and side by side, (K, B, L), as one tensor for each: (K, B, *z).

    Raises:
        ValueError: If there are more or fewer values than the levels have.
    """
    sizes = [level.event_shape.numel() for level in levels]
    if z.shape[2:].numel() != sum(sizes):
        raise ValueError(
            f"The latents of this model have {sum(sizes)} dimensions in all, received an array of shape {tuple(z.shape[1:])}."
        )
    parts = torch.split(z.flatten(2), sizes, -1)
    return [part.reshape(*z.shape[:2], *level.event_shape) for level, part in zip(levels, parts, strict=True)]
