"""The point that an autoencoder encodes to."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.distributions.delta import Delta as DeltaDistribution


class Delta(Conditional):
    """The context itself, without noise: the posterior of a plain autoencoder.

    A point has no density, so the ELBO of such a model bounds nothing; validation goes by the reconstruction.

    Arguments:
        event_shape: Shape of one event, which is that of the context.

    References:
        | Reducing the Dimensionality of Data with Neural Networks (Hinton and Salakhutdinov, 2006)
        | https://doi.org/10.1126/science.1127647
    """

    bounded: ClassVar[bool] = False

    @property
    def context_shape(self) -> torch.Size:
        """The event shape."""
        return self.event_shape

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *event_shape)."""
        return DeltaDistribution(context, len(self.event_shape))
