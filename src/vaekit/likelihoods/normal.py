"""Normal likelihoods with one scale for all values: given, learned, or the best one in closed form."""

# K samples, B batch, D values of one example

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.normal import NormalEvent
from vaekit.likelihoods.scale import LOG_2PI, GivenScale, LearnedScale, SharedScale


class NormalFamily(SharedScale):
    r"""Independent normal values with the context as means and one standard deviation for all of them.

    .. math:: -\log p(x|z) = \frac{1}{2 \sigma^2} \|x - \mu\|^2 + D \log \sigma + \tfrac{D}{2} \log 2\pi

    With :math:`\sigma` = 1 and values in [0, 1] the reconstruction is worth so little that the posterior often collapses onto the
    prior: prefer a learned or an optimal scale.
    """

    log_normaliser = 0.5 * LOG_2PI
    scale_name = "sigma"
    title = "normal"

    def around(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Independent normals with means (K, B, *event_shape) and one standard deviation."""
        return NormalEvent(loc, scale, loc.shape, len(self.event_shape))


class Normal(GivenScale, NormalFamily):
    """Normal likelihood with a given standard deviation.

    Arguments:
        event_shape: Shape of one example.
        scale: Standard deviation of every value, above 0.
    """


class LearnedScaleNormal(LearnedScale, NormalFamily):
    """Normal likelihood with one standard deviation learned by gradient.

    Arguments:
        event_shape: Shape of one example.
        scale: Standard deviation to start from, above 0.
    """


class OptimalScaleNormal(NormalFamily):
    r"""Normal likelihood with the scale that maximises it, :math:`\sigma^{*2} = \frac{1}{KBD} \sum (x - \mu)^2`, in closed form.

    While training, each batch is scored with its own optimal scale. By the envelope theorem its gradient with respect to the
    means is that of the profile likelihood :math:`\frac{D}{2} \log \sigma^{*2}`, so nothing is differentiated through it. Outside
    training the scale is a running average of those, :math:`\sigma^2 \leftarrow 0.95 \sigma^2 + 0.05 \sigma^{*2}` without start-up
    bias: evaluated numbers come from one fixed density and do not depend on the evaluation batch.

    Arguments:
        event_shape: Shape of one example.

    References:
        | Simple and Effective VAE Training with Calibrated Decoders (Rybkin, Daniilidis and Levine, 2021)
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
        return self.around(px.mean, optimal.sqrt().clamp_min(self.FLOOR))
