"""Likelihoods whose context is a location for each value, with one scale for all values: given, or learned."""

# D values of one example

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Consulted
from vaekit.likelihoods.base import DataRange, Likelihood
from vaekit.likelihoods.support import check_no_counts

LOG_2PI = math.log(2.0 * math.pi)


class SharedScale(Likelihood):
    r"""Independent values with the context as locations and one scale for all of them.

    .. math:: -\log p(x|z) = \sum_d \rho\left(\frac{x_d - \mu_d}{\sigma}\right) + D \log \sigma + D \log C

    Attributes:
        log_normaliser: log C, of one value.
        scale_name: What its scale is called among the parameters of note.
        title: What it is called in a message.
    """

    log_normaliser: ClassVar[float]
    scale_name: ClassVar[str]
    title: ClassVar[str]

    @property
    def context_shape(self) -> torch.Size:
        """One location for each value."""
        return self.event_shape

    @property
    @abstractmethod
    def scale(self) -> Tensor:
        """The present scale, shape ()."""

    @abstractmethod
    def around(self, loc: Tensor, scale: Tensor) -> Distribution:
        """The distribution with locations (K, B, *event_shape) and one scale: batch (K, B), event `event_shape`."""

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for locations of shape (K, B, *event_shape)."""
        return self.around(context, self.scale)

    def check(self, values: DataRange) -> None:
        """Every finite value is in the support; raw counts are refused."""
        check_no_counts(values, self.title)

    def beginning(self, mean: Tensor) -> Tensor | None:
        """The mean of the data.

        A fresh decoder puts out noise that depends on z, which costs its square over sigma squared. Left to itself the model
        first narrows q(z|x) to one point for all data to be rid of it, pays for that in KL, and takes long to come back.
        """
        return mean

    @property
    def parameters_of_note(self) -> Mapping[str, float]:
        """The present scale."""
        return {self.scale_name: float(self.scale.detach())}


class GivenScale(SharedScale):
    """With a scale that stays as it is given.

    Arguments:
        event_shape: Shape of one example.
        scale: Of every value, above 0.
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
        r"""All that does not depend on the locations: :math:`D (\log \sigma + \log C)`."""
        return self.event_shape.numel() * (math.log(self._scale) + self.log_normaliser)


class LearnedScale(SharedScale):
    r"""With one scale learned by gradient.

    :math:`\log \sigma = \log \sigma_0 + 20 \, \theta`. The factor makes an optimizer that normalises its steps, such as Adam, move
    :math:`\log \sigma` by twenty times the learning rate: one number that all values inform can and should settle faster than
    the weights, or short runs end long before it has. Plain gradient descent would square the factor: with optimizer=sgd
    take likelihood=normal_optimal.

    Arguments:
        event_shape: Shape of one example.
        scale: Scale to start from, above 0.
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
        r""":math:`D \log C`."""
        return self.event_shape.numel() * self.log_normaliser


def positive(scale: float, name: str = "scale", example: str = "sigma=0.1") -> float:
    """`scale`, if it can be one."""
    if not (scale > 0.0 and math.isfinite(scale)):
        raise ValueError(f"{name} is {scale}, expected a finite number above 0, for example {example}.")
    return float(scale)
