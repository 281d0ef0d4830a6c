"""The normal likelihood with a scale of its own for each value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditionals.base import Consulted, doubled
from vaekit.conditionals.normal import LOG_VARIANCE_RANGE
from vaekit.distributions.normal import NormalEvent
from vaekit.likelihoods.base import DataRange, Likelihood
from vaekit.likelihoods.scale import LOG_2PI, positive
from vaekit.likelihoods.support import check_no_counts


class PixelNormal(Likelihood):
    r"""Independent normal values; the first half of the context is the means, the second half s gives the variances.

    .. math:: -\log p(x|z) = \sum_d \frac{(x_d - \mu_d)^2}{2 \sigma_d^2} + \log \sigma_d + \tfrac12 \log 2\pi,
        \qquad \sigma_d^2 = \epsilon^2 + e^{s_d}

    s is held to the range of `conditionals.Normal`. The floor :math:`\epsilon` is part of the density: a value that is the same in
    all data, such as the border of a digit, would otherwise be worth any number of nats, and no other term could be read.

    Arguments:
        event_shape: Shape of one example; the context has twice its first dimension.
        floor: :math:`\epsilon`, the smallest standard deviation, above 0. A 256th of the usual range is 4e-3.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), appendix C.2
        | https://arxiv.org/abs/1312.6114
    """

    def __init__(self, event_shape: Sequence[int], floor: float = 1e-3) -> None:
        super().__init__(event_shape)
        self.floor = positive(floor, "floor", "floor=1e-3")

    @property
    def context_shape(self) -> torch.Size:
        """The event shape with its first dimension doubled."""
        return doubled(self.event_shape)

    @property
    def constant(self) -> float:
        r""":math:`\frac{D}{2} \log 2\pi`."""
        return self.event_shape.numel() * 0.5 * LOG_2PI

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        loc, log_variance = context.chunk(2, dim=-len(self.event_shape))
        scale = (log_variance.clamp(*LOG_VARIANCE_RANGE).exp() + self.floor**2).sqrt()
        return NormalEvent(loc, scale, loc.shape, len(self.event_shape))

    def check(self, values: DataRange) -> None:
        """Every finite value is in the support; raw counts are refused."""
        check_no_counts(values, "normal")

    def beginning(self, mean: Tensor) -> Tensor | None:
        """The mean of the data, and variances of nearly 1."""
        return torch.cat([mean, torch.zeros_like(mean)])
