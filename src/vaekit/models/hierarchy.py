"""The structure of the latents. A flat VAE is a top-down hierarchy of one level."""

# K samples, B batch, *c features, *s state

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.distributions.draw import Draw, draw
from vaekit.models.level import DrawOnly, FeaturesOnly, Level
from vaekit.models.trace import Latent

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


class TopDown(Hierarchy):
    """Each level's posterior and prior see the state that the levels above have left; the first state has width 0.

    Arguments:
        levels: From the top down.

    References:
        | Ladder Variational Autoencoders (Sønderby et al., 2016), section 2.1
        | https://arxiv.org/abs/1602.02282
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        names = [level.name for level in levels]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"A hierarchy needs one level or more with different names, received {names}.")
        self.levels = nn.ModuleList(levels)

    def infer(self, features: Tensor, model: Consulted, drawing: Drawing = draw) -> tuple[tuple[Latent, ...], Tensor]:
        """From the top down, each draw feeding the next level."""
        latents = []
        state = features.new_zeros((*features.shape[:2], 0))
        for level in self._ordered():
            q = level.posterior(level.join(features, state), model)
            latent = Latent(level.name, q, level.prior(state, model), drawing(q))
            latents.append(latent)
            state = level.merge(state, latent.draw.value)
        return tuple(latents), state

    def generate(self, blank: Tensor, model: Consulted, drawing: Drawing = draw) -> Tensor:
        """From the top down, each level from its prior."""
        state = blank
        for level in self._ordered():
            state = level.merge(state, drawing(level.prior(state, model)).value)
        return state

    def _ordered(self) -> Iterator[Level]:
        for level in self.levels:
            assert isinstance(level, Level)
            yield level


def flat(posterior: Conditional, prior: Conditional) -> TopDown:
    """The hierarchy of an ordinary VAE: one level, whose latent is the whole state."""
    return TopDown([Level("z", posterior, prior, join=FeaturesOnly(), merge=DrawOnly())])
