"""The continuous Bernoulli: an exponential density on [0, 1]."""

# *b batch

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import uniform

# nearer to 0 than this the formulas lose digits to differences, and their series have theirs
_SERIES = 0.5
_SERIES_OF_DRAWS = 1e-3


class ContinuousBernoulli(Distribution):
    r"""The density on [0, 1] whose logarithm is a straight line.

    .. math:: p(x) = C(\lambda) \lambda^x (1 - \lambda)^{1 - x} = \frac{\eta \, e^{\eta x}}{e^\eta - 1},
        \qquad \lambda = \mathrm{sigmoid}(\eta), \qquad C(\lambda) = \frac{2 \tanh^{-1}(1 - 2 \lambda)}{1 - 2 \lambda}

    Computed as :math:`\log p(x) = \eta (x - [\eta > 0]) - R(\eta)`, :math:`R(\eta) = \log \frac{1 - e^{-|\eta|}}{|\eta|}`, which is
    smooth at :math:`\lambda = 1/2`, where C takes the form 0/0, and has no difference of large numbers.

    Arguments:
        logits: :math:`\eta`, shape (*b). The mean is not :math:`\lambda`.

    References:
        | The continuous Bernoulli: fixing a pervasive error in variational autoencoders (Loaiza-Ganem and Cunningham, 2019),
          section 3, https://arxiv.org/abs/1907.06845
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """[0, 1]."""
        return constraints.unit_interval

    @property
    def mean(self) -> Tensor:
        r""":math:`\frac{1}{1 - e^{-\eta}} - \frac{1}{\eta}`, (*b)."""
        return _mean(self.logits)

    @property
    def variance(self) -> Tensor:
        r""":math:`\frac{1}{\eta^2} - \frac{e^{-|\eta|}}{(1 - e^{-|\eta|})^2}`, (*b)."""
        small, a = _split(self.logits, _SERIES)
        s = torch.where(small, self.logits, 0.0).square()
        series = 1 / 12 - s * (1 / 240 - s * (1 / 6048 - s * (1 / 172800 - s / 5322240)))
        return torch.where(small, series, 1.0 / a.square() - (-a).exp() / torch.expm1(-a).square())

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, for values in [0, 1] that broadcast with (*b)."""
        rest: Tensor = _LogMass.apply(self.logits)  # type: ignore[no-untyped-call]
        return self.logits * (value - (self.logits > 0).to(self.logits.dtype)) - rest

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *b), through vaekit's noise."""
        return reparameterised(self.expand(self._extended_shape(torch.Size(sample_shape))))

    def expand(self, batch_shape: Any, _instance: None = None) -> ContinuousBernoulli:
        """The same distribution in a larger batch."""
        return ContinuousBernoulli(self.logits.expand(batch_shape))


@reparameterised.register
def _(q: ContinuousBernoulli) -> Tensor:
    r"""The inverse of the distribution function, :math:`\log(1 + u (e^\eta - 1)) / \eta`, from the side where it is steep."""
    eta, u = q.logits, uniform(q.batch_shape, dtype=q.logits.dtype, device=q.logits.device)
    small, a = _split(eta, _SERIES_OF_DRAWS)
    flat = torch.where(small, eta, 0.0)
    series = u + flat * u * (1.0 - u) * (0.5 + flat * (1.0 - 2.0 * u) / 6.0)
    positive = eta > 0
    # of the mirrored variable, 1 - x, where eta is positive
    x = -torch.log1p(torch.where(positive, 1.0 - u, u) * torch.expm1(-a)) / a
    return torch.where(small, series, torch.where(positive, 1.0 - x, x)).clamp(0.0, 1.0)


class _LogMass(torch.autograd.Function):
    r""":math:`R(\eta) = \log \frac{1 - e^{-|\eta|}}{|\eta|}`, with the derivative that keeps its digits near 0."""

    @staticmethod
    def forward(ctx: Any, eta: Tensor) -> Tensor:
        ctx.save_for_backward(eta)
        a = eta.abs().clamp_min(torch.finfo(eta.dtype).tiny)
        return (torch.expm1(-a) / -a).log()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (eta,) = ctx.saved_tensors
        gradient: Tensor = gradients[0] * (_mean(eta) - (eta > 0).to(eta.dtype))
        return gradient


def _mean(eta: Tensor) -> Tensor:
    small, a = _split(eta, _SERIES)
    near = torch.where(small, eta, 0.0)
    s = near.square()
    series = 0.5 + near * (1 / 12 - s * (1 / 720 - s * (1 / 30240 - s * (1 / 1209600 - s / 47900160))))
    return torch.where(small, series, 0.5 + eta.sign() * (0.5 - (-a).exp() / torch.expm1(-a) - 1.0 / a))


def _split(eta: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Where eta is nearer to 0 than `limit`, and its absolute value, kept from 0 there so that no gradient is NaN."""
    small = eta.abs() < limit
    return small, torch.where(small, 1.0, eta).abs()
