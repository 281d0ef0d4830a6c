"""Normal likelihoods with one scale for all values: given, learned, or the best one in closed form."""

# K samples, B batch, D values of one example

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.distributions import Normal as TorchNormal

from vaekit.conditionals.base import Consulted
from vaekit.likelihoods.base import Likelihood

LOG_2PI = math.log(2.0 * math.pi)


class SharedScaleNormal(Likelihood):
    r"""Independent normal values with the context as means and one scale for all of them.

    .. math:: -\log p(x|z) = \frac{1}{2 \sigma^2} \|x - \mu\|^2 + D \log \sigma + \tfrac{D}{2} \log 2\pi

    With :math:`\sigma` = 1 and values in [0, 1] the reconstruction is worth so little that the posterior often collapses onto the
    prior: prefer a learned or an optimal scale.
    """

    @property
    def context_shape(self) -> torch.Size:
        """One mean for each value."""
        return self.event_shape

    @property
    @abstractmethod
    def scale(self) -> Tensor:
        """The present scale, shape ()."""

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for means of shape (K, B, *event_shape)."""
        return self._normal(context, self.scale)

    def check(self, low: float, high: float, remedies: Mapping[str, str]) -> None:
        """Every finite value is in the support."""

    def beginning(self, mean: Tensor) -> Tensor | None:
        """The mean of the data.

        A fresh decoder puts out noise that depends on z, which costs its square over sigma squared. Left to itself the model
        first narrows q(z|x) to one point for all data to be rid of it, pays for that in KL, and takes long to come back.
        """
        return mean

    @property
    def parameters_of_note(self) -> Mapping[str, float]:
        """The present scale, as sigma."""
        return {"sigma": float(self.scale.detach())}

    def _normal(self, loc: Tensor, scale: Tensor) -> Distribution:
        return Independent(TorchNormal(loc, scale, validate_args=False), len(self.event_shape), validate_args=False)


class Normal(SharedScaleNormal):
    """Normal likelihood with a given scale.

    Arguments:
        event_shape: Shape of one example.
        scale: Standard deviation of every value, above 0.
    """

    _like: Tensor

    def __init__(self, event_shape: Sequence[int], scale: float = 1.0) -> None:
        super().__init__(event_shape)
        self._scale = positive(scale)
        self.register_buffer("_like", torch.zeros(()), persistent=False)  # knows device and precision

    @property
    def scale(self) -> Tensor:
        """The given scale, in the precision that the module has now and not in the one it was made in."""
        return torch.full_like(self._like, self._scale)

    @property
    def constant(self) -> float:
        r"""All but the squares: :math:`D (\log \sigma + \frac12 \log 2\pi)`."""
        return self.event_shape.numel() * (math.log(self._scale) + 0.5 * LOG_2PI)


class LearnedScaleNormal(SharedScaleNormal):
    r"""Normal likelihood with one scale learned by gradient.

    :math:`\log \sigma = \log \sigma_0 + 20 \, \theta`. The factor makes an optimizer that normalises its steps, such as Adam, move
    :math:`\log \sigma` by twenty times the learning rate: one number that all values inform can and should settle faster than
    the weights, or short runs end long before it has. Plain gradient descent would square the factor: with optimizer=sgd
    take likelihood=normal_optimal.

    Arguments:
        event_shape: Shape of one example.
        scale: Standard deviation to start from, above 0.
    """

    GAIN = 20.0

    def __init__(self, event_shape: Sequence[int], scale: float = 1.0) -> None:
        super().__init__(event_shape)
        self.start = math.log(positive(scale))
        self.theta = nn.Parameter(torch.zeros(()))

    @property
    def scale(self) -> Tensor:
        """The learned scale."""
        return (self.start + self.GAIN * self.theta).exp()

    @property
    def constant(self) -> float:
        r""":math:`\frac{D}{2} \log 2\pi`."""
        return 0.5 * self.event_shape.numel() * LOG_2PI


class OptimalScaleNormal(SharedScaleNormal):
    r"""Normal likelihood with the scale that maximises it, :math:`\sigma^{*2} = \frac{1}{KBD} \sum (x - \mu)^2`, in closed form.

    While training, each batch is scored with its own optimal scale. By the envelope theorem its gradient with respect to the
    means is that of the profile likelihood :math:`\frac{D}{2} \log \sigma^{*2}`, so nothing is differentiated through it. Outside
    training the scale is a running average of those, :math:`\sigma^2 \leftarrow 0.95 \sigma^2 + 0.05 \sigma^{*2}` without start-up
    bias: evaluated numbers come from one fixed density and do not depend on the evaluation batch.

    Arguments:
        event_shape: Shape of one example.

    References:
        | Simple and Effective VAE Training with Calibrated Decoders (Rybkin, Daniilidis and Levine, 2021), equation 7
        | https://arxiv.org/abs/2006.13202
    """

    MOMENTUM = 0.95
    FLOOR = (
        1e-3  # below it a perfect reconstruction would send the density to infinity; a 256th of the usual range is 4e-3
    )

    variance: Tensor
    weight: Tensor

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__(event_shape)
        self.register_buffer("variance", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    @property
    def scale(self) -> Tensor:
        """The running average of the optimal scale; 1 before the first step."""
        fallback = torch.ones_like(self.variance)
        average = torch.where(self.weight > 0, self.variance / self.weight.clamp_min(1e-12), fallback)
        return average.sqrt().clamp_min(self.FLOOR)

    @property
    def constant(self) -> float:
        r""":math:`\frac{D}{2} (1 + \log 2\pi)`: at the optimal scale the squares sum to D on average over the batch."""
        return 0.5 * self.event_shape.numel() * (1.0 + LOG_2PI)

    def adapt(self, px: Distribution, x: Tensor) -> Distribution:
        """In training, `px` with the scale that is optimal for this batch; `px` itself otherwise."""
        if not self.training:
            return px
        with torch.no_grad():
            optimal = (x - px.mean).square().mean()
            self.variance.lerp_(optimal, 1.0 - self.MOMENTUM)
            self.weight.lerp_(torch.ones_like(self.weight), 1.0 - self.MOMENTUM)
        return self._normal(px.mean, optimal.sqrt().clamp_min(self.FLOOR))


def positive(scale: float) -> float:
    """`scale`, if it can be a standard deviation."""
    if not (scale > 0.0 and math.isfinite(scale)):
        raise ValueError(f"scale is {scale}, expected a standard deviation above 0, for example sigma=0.1.")
    return float(scale)
