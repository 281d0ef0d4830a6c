"""The rounded logistic likelihood with a scale of its own for each value."""

# K samples, B batch, M levels

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaekit.conditionals.base import Consulted, doubled
from vaekit.distributions.discretized_logistic import DiscretizedLogistic as Elementwise
from vaekit.likelihoods.base import DataRange, Likelihood
from vaekit.likelihoods.support import check_levels, given_levels

# where the mean of the data is 0 or 1 the sigmoid that leads there has no gradient
_INSIDE = 0.01


class PixelLogistic(Likelihood):
    r"""Independent values among 0, 1/(M-1), ..., 1; the first half of the context gives locations, the second log-scales.

    .. math:: P(x_d|z) = \mathrm{sigmoid}\left(\frac{x_d + \delta/2 - \mu_d}{s_d}\right)
        - \mathrm{sigmoid}\left(\frac{x_d - \delta/2 - \mu_d}{s_d}\right), \qquad \delta = \frac{1}{M - 1},

    with :math:`\mu` the sigmoid of the first half, and :math:`\log s` the second half, cut off where it leaves [low, high]. The
    outermost levels take the tails, so that probabilities sum to 1; the code that goes with the paper adds 1e-7 to each and leaves
    the tails out.

    Arguments:
        event_shape: Shape of one example; the context has twice its first dimension.
        levels: M, 256 for 8-bit images.
        low: Least log-scale, where values go from 0 to 1.
        high: Greatest.

    Raises:
        ValueError: If `low` is not below `high`.

    References:
        | VAE with a VampPrior (Tomczak and Welling, 2018), section 5, whose code holds log-scales to -4.5 and 0
        | https://arxiv.org/abs/1705.07120
    """

    discrete = True

    def __init__(self, event_shape: Sequence[int], levels: int | None, low: float = -4.5, high: float = 0.0) -> None:
        super().__init__(event_shape)
        if not low < high:
            raise ValueError(f"low is {low} and high is {high}, expected low < high, for example low=-4.5 high=0.")
        self.levels, self.low, self.high = given_levels(levels), low, high

    @property
    def context_shape(self) -> torch.Size:
        """The event shape with its first dimension doubled."""
        return doubled(self.event_shape)

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        loc, log_scale = context.chunk(2, dim=-len(self.event_shape))
        logistic = Elementwise(loc.sigmoid(), log_scale.clamp(self.low, self.high).exp(), self.levels)
        return Independent(logistic, len(self.event_shape), validate_args=False)

    def check(self, values: DataRange) -> None:
        """Raise unless every value is one of the levels."""
        check_levels(values, "discretised logistic", self.levels)

    def beginning(self, mean: Tensor) -> Tensor | None:
        """The mean of the data, and scales of a tenth, or of what the range has nearest to it."""
        scale = min(max(math.log(0.1), self.low), self.high)
        return torch.cat([mean.clamp(_INSIDE, 1.0 - _INSIDE).logit(), torch.full_like(mean, scale)])
