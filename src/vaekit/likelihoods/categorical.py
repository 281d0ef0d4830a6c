"""The categorical likelihood of discrete grey values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaekit.conditionals.base import Consulted
from vaekit.distributions.levels import LevelsCategorical
from vaekit.likelihoods.base import DataRange, Likelihood
from vaekit.likelihoods.layout import parameters, several
from vaekit.likelihoods.support import check_levels, given_levels


class Categorical(Likelihood):
    r"""Independent values among 0, 1/(M-1), ..., 1, each with a probability of its own for every level.

    .. math:: P(x_d = k / (M - 1) | z) = \mathrm{softmax}(l_d)_k

    Nothing tells it that neighbouring levels are alike, so it needs much data where M is large.

    Arguments:
        event_shape: Shape of one example; the context, :math:`l`, has M times its first dimension.
        levels: M, 256 for 8-bit images.

    References:
        | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner and Kavukcuoglu, 2016), section 3.4: the softmax over levels
        | https://arxiv.org/abs/1601.06759
    """

    discrete = True

    def __init__(self, event_shape: Sequence[int], levels: int | None) -> None:
        super().__init__(event_shape)
        self.levels = given_levels(levels)

    @property
    def context_shape(self) -> torch.Size:
        """The event shape with its first dimension M times as long."""
        return several(self.event_shape, self.levels)

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        logits = parameters(context, self.event_shape, self.levels)
        return Independent(LevelsCategorical(logits), len(self.event_shape), validate_args=False)

    def check(self, values: DataRange) -> None:
        """Raise unless every value is one of the levels."""
        check_levels(values, "categorical", self.levels)
