"""The normal distribution with diagonal covariance, given a context."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional, Consulted, doubled
from vaekit.distributions.normal import NormalEvent, once

# standard deviations from 1e-6 to 2e4: beyond any use, and their squares and inverse squares fit float32 with room
LOG_VARIANCE_RANGE = (-27.6, 19.8)


class Normal(Conditional):
    r"""Diagonal normal, :math:`N(\mu, \mathrm{diag}(\sigma^2))`.

    The first half of the context is :math:`\mu`, the second :math:`\log \sigma^2`, held to a range that
    float32 can square: one large output early in training must not end a run.

    Arguments:
        event_shape: Shape of one event; the context has twice its first dimension.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), equation 9 and appendix C.2
        | https://arxiv.org/abs/1312.6114
    """

    @property
    def context_shape(self) -> torch.Size:
        """The event shape with its first dimension doubled."""
        return doubled(self.event_shape)

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        loc, log_variance = once(context).chunk(2, dim=-len(self.event_shape))
        scale = (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()
        shape = torch.Size([context.shape[0], *loc.shape[1:]])
        return NormalEvent(loc, scale, shape, len(self.event_shape))
