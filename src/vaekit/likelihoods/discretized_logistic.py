"""Likelihoods of discrete grey values: a rounded logistic variable, and a mixture of them."""

# K samples, B batch, M levels, N components

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution, Independent, MixtureSameFamily

from vaekit.conditionals.base import Consulted
from vaekit.distributions.discretized_logistic import DiscretizedLogistic as Elementwise
from vaekit.likelihoods.base import DataRange, Likelihood
from vaekit.likelihoods.layout import parameters, several
from vaekit.likelihoods.scale import LearnedScale
from vaekit.likelihoods.support import check_levels, given_levels

# a scale of e^-14 puts all mass on one of 65536 levels, one of e^14 half of it on either end
LOG_SCALE_RANGE = (-14.0, 14.0)
# where scales begin, and how far components begin to either side of the data's mean: values go from 0 to 1
_START = 0.1
_SPREAD = 0.2


class DiscretizedLogistic(LearnedScale):
    r"""Independent values among 0, 1/(M-1), ..., 1, with the context as locations and one learned scale.

    .. math:: P(x_d|z) = \mathrm{sigmoid}\left(\frac{x_d + \delta/2 - \mu_d}{s}\right)
        - \mathrm{sigmoid}\left(\frac{x_d - \delta/2 - \mu_d}{s}\right), \qquad \delta = \frac{1}{M - 1},

    and the outermost levels take the tails. These are probabilities: the bound is on that of the image as it is stored, and
    compares with a lossless code for it. The mean of p(x|z) is that of the rounded variable and stays in [0, 1].

    Arguments:
        event_shape: Shape of one example.
        levels: M, 256 for 8-bit images.
        scale: s to start from, above 0, where values go from 0 to 1.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), https://arxiv.org/abs/1606.04934
        | PixelCNN++ (Salimans, Karpathy, Chen and Kingma, 2017), equation 2, https://arxiv.org/abs/1701.05517
    """

    discrete = True
    log_normaliser = 0.0
    scale_name = "logistic_scale"

    def __init__(self, event_shape: Sequence[int], levels: int | None, scale: float = _START) -> None:
        super().__init__(event_shape, scale)
        self.levels = given_levels(levels)

    def around(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Independent rounded logistic variables with locations (K, B, *event_shape) and one scale."""
        return Independent(Elementwise(loc, scale, self.levels), len(self.event_shape), validate_args=False)

    def check(self, values: DataRange) -> None:
        """Raise unless every value is one of the levels."""
        check_levels(values, "discretised logistic", self.levels)


class DiscretizedLogisticMixture(Likelihood):
    r"""Independent values among 0, 1/(M-1), ..., 1, each from its own mixture of rounded logistic variables.

    .. math:: P(x_d|z) = \sum_{n=1}^N \pi_{dn} \left[\mathrm{sigmoid}\left(\frac{x_d + \delta/2 - \mu_{dn}}{s_{dn}}\right)
        - \mathrm{sigmoid}\left(\frac{x_d - \delta/2 - \mu_{dn}}{s_{dn}}\right)\right], \qquad \delta = \frac{1}{M - 1}

    The context holds, one after the other along its first dimension, the logits of :math:`\pi`, then :math:`\mu`, then
    :math:`\log s`. Given z all values are independent: the channels of a pixel share no component and do not see each other, which
    in the paper they do.

    Arguments:
        event_shape: Shape of one example; the context has 3 N times its first dimension.
        levels: M, 256 for 8-bit images.
        components: N.

    References:
        | PixelCNN++ (Salimans, Karpathy, Chen and Kingma, 2017), section 2.1, https://arxiv.org/abs/1701.05517
    """

    discrete = True

    def __init__(self, event_shape: Sequence[int], levels: int | None, components: int = 5) -> None:
        super().__init__(event_shape)
        if components < 1:
            raise ValueError(f"components is {components}, expected 1 or more.")
        self.levels, self.components = given_levels(levels), components

    @property
    def context_shape(self) -> torch.Size:
        """The event shape with its first dimension 3 N times as long."""
        return several(self.event_shape, 3 * self.components)

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        logits, loc, log_scale = parameters(context, self.event_shape, 3 * self.components).chunk(3, -1)
        mixture = MixtureSameFamily(
            TorchCategorical(logits=logits, validate_args=False),
            Elementwise(loc, log_scale.clamp(*LOG_SCALE_RANGE).exp(), self.levels),
            validate_args=False,
        )
        return Independent(mixture, len(self.event_shape), validate_args=False)

    def check(self, values: DataRange) -> None:
        """Raise unless every value is one of the levels."""
        check_levels(values, "discretised logistic mixture", self.levels)

    def beginning(self, mean: Tensor) -> Tensor | None:
        """Components of one weight and scale, side by side around the mean of the data."""
        offsets = torch.linspace(-_SPREAD, _SPREAD, self.components) if self.components > 1 else torch.zeros(1)
        loc = [mean + offset for offset in offsets.to(mean)]
        return torch.cat(
            [torch.zeros_like(mean)] * self.components
            + loc
            + [torch.full_like(mean, math.log(_START))] * self.components
        )
