"""The standard normal prior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.distributions.normal import NormalEvent


class StandardNormal(Conditional):
    """p(z) = N(0, I), whatever the context.

    Arguments:
        event_shape: Shape of one latent.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), section 3
        | https://arxiv.org/abs/1312.6114
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__(event_shape)
        self.register_buffer("loc", torch.zeros(self.event_shape), persistent=False)
        self.register_buffer("scale", torch.ones(self.event_shape), persistent=False)

    @property
    def context_shape(self) -> torch.Size:
        """Nothing is needed: (0,)."""
        return torch.Size([0])

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B) of the context, event `event_shape`."""
        shape = torch.Size([*context.shape[:2], *self.event_shape])
        return NormalEvent(self.loc, self.scale, shape, len(self.event_shape))
