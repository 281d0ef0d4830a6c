"""One level of a hierarchy: how features and state make the posterior's context, and how a draw changes the state."""

# K samples, B batch, *c context, *s state, *z event of a latent

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaekit.conditionals.base import Conditional


class FeaturesOnly(nn.Module):
    """Join: the posterior sees the features alone."""

    sees_state = False

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        """`features`, (K, B, *c)."""
        return features


class DrawOnly(nn.Module):
    """Merge: the next state is the draw alone."""

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        """`z`, (K, B, *z)."""
        return z


class Level(nn.Module):
    """A latent variable and its place in the model.

    Arguments:
        name: Unique in the model.
        posterior: q(z | context), where the context is what `join` returns.
        prior: p(z | context), where the context is what `inform` returns.
        join: (features, state) -> context of the posterior. One whose `sees_state` is False leaves the state aside.
        merge: (state, z) -> next state.
        inform: state -> context of the prior; the state itself where it is None.
    """

    def __init__(
        self,
        name: str,
        posterior: Conditional,
        prior: Conditional,
        join: nn.Module,
        merge: nn.Module,
        inform: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if posterior.event_shape != prior.event_shape:
            raise ValueError(
                f"The posterior of {name!r} is over {tuple(posterior.event_shape)}, its prior over "
                f"{tuple(prior.event_shape)}: give both the same event_shape."
            )
        self.name, self.posterior, self.prior = name, posterior, prior
        self.join, self.merge = join, merge
        self.inform = nn.Identity() if inform is None else inform

    @property
    def sees_state(self) -> bool:
        """Whether the posterior may hang on the latents above."""
        return bool(getattr(self.join, "sees_state", True))

    @property
    def event_shape(self) -> torch.Size:
        """Shape of the latent."""
        return self.posterior.event_shape
