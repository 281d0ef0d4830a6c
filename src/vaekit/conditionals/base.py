"""The interface of everything that turns a tensor into a distribution: q(z|h), p(z|s) and p(x|d)."""

# K samples, B batch, *c context, *x event of the data

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution


class Consulted(Protocol):
    """What a conditional may ask of the model that it is part of."""

    def posterior(self, x: Tensor) -> Distribution:
        """q(z | x) for data of shape (B, *x)."""


class Conditional(nn.Module, ABC):
    """From a context to a distribution over events of one shape.

    The layers that make the context are a network's; a conditional gives the numbers their meaning and holds only parameters
    that belong to the distribution itself, such as an observation scale.

    Attributes:
        event_shape: Shape of one event.
        bounded: Whether log-densities of this family and of a prior are over the same measure, so that their difference bounds
            the evidence. False for the point of an autoencoder, whose density is infinite.
    """

    bounded: ClassVar[bool] = True

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__()
        if any(side < 1 for side in event_shape):
            raise ValueError(
                f"event_shape is {list(event_shape)}, expected sizes of 1 or more, for example latent_dim=20."
            )
        self.event_shape = torch.Size(event_shape)

    @property
    @abstractmethod
    def context_shape(self) -> torch.Size:
        """Shape (*c) of the context for one event: what the network before it must put out."""

    @abstractmethod
    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """The distribution given a context of shape (K, B, *c), with batch shape (K, B). `model` may be consulted."""

    def begin(self, examples: Tensor) -> None:
        """A look at training examples, (N, *x), before the first step, for parts that start from the data."""


def doubled(shape: torch.Size) -> torch.Size:
    """The event shape with its first dimension twice as long: room for two parameters."""
    return torch.Size([2 * shape[0], *shape[1:]])
