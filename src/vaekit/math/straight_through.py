"""The value of one tensor with the gradient of another."""

from __future__ import annotations

from torch import Tensor


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    r"""Exactly `hard` in value, and `soft` in gradient: :math:`\partial / \partial \mathrm{soft}` is the identity.

    ``soft + (hard - soft).detach()`` would have the same gradient, but a value that is off by a rounding error; a difference of
    equal numbers is 0, so this way round it is exact.

    Arguments:
        hard: Finite, any shape.
        soft: Finite, the same shape.

    References:
        | Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation (Bengio et al., 2013),
          section 4 | https://arxiv.org/abs/1308.3432
    """
    return hard.detach() + (soft - soft.detach())
