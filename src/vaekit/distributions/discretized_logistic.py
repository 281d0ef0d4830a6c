"""The logistic distribution, rounded to evenly spaced values in [0, 1]."""

# *b batch, M levels, delta distance between two of them

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import softplus

from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import uniform

# beyond it log(1 + exp(a)) is a to the last digit of float64
_LINEAR = 40.0


class DiscretizedLogistic(Distribution):
    r"""The level nearest to a logistic variable.

    With :math:`\delta = 1 / (M - 1)`, :math:`a = (x + \delta/2 - \mu) / s` and :math:`b = (x - \delta/2 - \mu) / s`,

    .. math:: P(x) = \mathrm{sigmoid}(a) - \mathrm{sigmoid}(b)
        = \mathrm{sigmoid}(a) \, \mathrm{sigmoid}(-b) \, (1 - e^{-\delta/s}), \qquad x \in \{0, \delta, ..., 1\},

    where a is infinite at x = 1 and b minus infinite at x = 0: the outermost levels take the tails. The product has no difference
    of nearly equal numbers, so its logarithm is exact however far out x lies.

    Arguments:
        loc: :math:`\mu`, in units of x, shape (*b).
        scale: :math:`s > 0`, broadcasts with `loc`.
        levels: M, 2 or more.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), https://arxiv.org/abs/1606.04934
        | PixelCNN++ (Salimans, Karpathy, Chen and Kingma, 2017), equation 2, https://arxiv.org/abs/1701.05517
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, loc: Tensor, scale: Tensor, levels: int) -> None:
        self.loc, self.scale, self.levels = loc, scale, levels
        shape = torch.broadcast_shapes(loc.shape, scale.shape)  # type: ignore[no-untyped-call]
        super().__init__(shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Every number in [0, 1] is accepted; only the levels have probabilities that sum to one."""
        return constraints.unit_interval

    @property
    def mean(self) -> Tensor:
        r""":math:`\delta \sum_{k=1}^{M-1} P(x \ge k \delta)`, (*b)."""
        total = torch.zeros((), dtype=self.loc.dtype, device=self.loc.device)
        for _, above in self._above():  # one by one: M values for each pixel of each image are many
            total = total + above
        return total / (self.levels - 1)

    @property
    def variance(self) -> Tensor:
        r""":math:`\delta^2 \sum_{k=1}^{M-1} (2k - 1) P(x \ge k \delta)` less the squared mean, (*b)."""
        total = torch.zeros((), dtype=self.loc.dtype, device=self.loc.device)
        for k, above in self._above():
            total = total + (2 * k - 1) * above
        return (total / (self.levels - 1) ** 2 - self.mean.square()).clamp_min(0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, for values that broadcast with (*b)."""
        half = 0.5 / (self.levels - 1)
        centred, lowest, highest = value - self.loc, value < half, value > 1.0 - half
        upper = softplus(-(centred + half) / self.scale, threshold=_LINEAR).masked_fill(highest, 0.0)
        lower = softplus((centred - half) / self.scale, threshold=_LINEAR).masked_fill(lowest, 0.0)
        inside = (-torch.expm1(-2.0 * half / self.scale)).log()
        return torch.where(lowest | highest, 0.0, inside) - upper - lower

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *b), through vaekit's noise."""
        return reparameterised(self.expand(self._extended_shape(torch.Size(sample_shape))))

    def expand(self, batch_shape: Any, _instance: None = None) -> DiscretizedLogistic:
        """The same distribution in a larger batch."""
        return DiscretizedLogistic(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.levels)

    def _above(self) -> Iterator[tuple[int, Tensor]]:
        for k in range(1, self.levels):
            yield k, ((self.loc - (k - 0.5) / (self.levels - 1)) / self.scale).sigmoid()


@reparameterised.register
def _(q: DiscretizedLogistic) -> Tensor:
    with torch.no_grad():
        u = uniform(q.batch_shape, dtype=q.loc.dtype, device=q.loc.device)
        x = q.loc + q.scale * u.logit()
        return (x * (q.levels - 1)).round().clamp(0, q.levels - 1) / (q.levels - 1)
