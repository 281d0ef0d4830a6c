"""The diagonal normal distribution whose variances are held to a range."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional, Consulted, doubled
from vaekit.conditionals.normal import Normal


class BoundedNormal(Conditional):
    r"""Diagonal normal, :math:`N(\mu, \mathrm{diag}(\sigma^2))`, with :math:`\log \sigma^2` between two bounds.

    As `Normal`, but the second half of the context is cut off where it leaves the range, as by a hard hyperbolic tangent: no
    posterior can become a point, nor wider than the upper bound says.

    Arguments:
        event_shape: Shape of one event; the context has twice its first dimension.
        low: Least :math:`\log \sigma^2`.
        high: Greatest.

    Raises:
        ValueError: If `low` is not below `high`.

    References:
        | VAE with a VampPrior (Tomczak and Welling, 2018), whose code holds log-variances to -6 and 2
        | https://arxiv.org/abs/1705.07120
    """

    def __init__(self, event_shape: Sequence[int], low: float = -6.0, high: float = 2.0) -> None:
        super().__init__(event_shape)
        if not low < high:
            raise ValueError(f"low is {low} and high is {high}, expected low < high, for example low=-6 high=2.")
        self.low, self.high = low, high
        self.normal = Normal(event_shape)

    @property
    def context_shape(self) -> torch.Size:
        """The event shape with its first dimension doubled."""
        return doubled(self.event_shape)

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        dim = -len(self.event_shape)
        loc, log_variance = context.chunk(2, dim=dim)
        held = torch.cat([loc, log_variance.clamp(self.low, self.high)], dim)
        normal: Distribution = self.normal(held, model)
        return normal
