"""Laplace likelihoods with one scale for all values: given, or learned."""

from __future__ import annotations

import math

from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.distributions import Laplace as TorchLaplace

from vaekit.likelihoods.scale import GivenScale, LearnedScale, SharedScale


class LaplaceFamily(SharedScale):
    r"""Independent Laplace values with the context as locations and one scale for all of them.

    .. math:: -\log p(x|z) = \frac{1}{b} \sum_d |x_d - \mu_d| + D \log b + D \log 2

    The standard deviation of a value is :math:`\sqrt 2 \, b`.
    """

    log_normaliser = math.log(2.0)
    scale_name = "laplace_scale"
    title = "Laplace"

    def around(self, loc: Tensor, scale: Tensor) -> Distribution:
        """Independent Laplace variables with locations (K, B, *event_shape) and one scale."""
        return Independent(TorchLaplace(loc, scale, validate_args=False), len(self.event_shape), validate_args=False)


class Laplace(GivenScale, LaplaceFamily):
    """Laplace likelihood with a given scale: an absolute error, weighted by 1 / b.

    Arguments:
        event_shape: Shape of one example.
        scale: b, above 0.
    """


class LearnedScaleLaplace(LearnedScale, LaplaceFamily):
    """Laplace likelihood with one scale learned by gradient.

    Arguments:
        event_shape: Shape of one example.
        scale: b to start from, above 0.
    """
