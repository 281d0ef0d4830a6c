"""Independent normal variables as one event, whose parameters are kept in the shape in which they are known."""

# K samples, B batch, *x event

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class NormalEvent(Independent):  # type: ignore[type-arg]
    r"""`Independent(Normal(loc, scale), event_dims)` with a faster log-density.

    .. math:: \log p(x) = -\tfrac12 \sum_d \Big(\frac{x_d - \mu_d}{\sigma_d}\Big)^2 - \sum_d \log \sigma_d - \tfrac{D}{2} \log 2\pi

    What is the same for all samples, examples or values is worked out once.

    Arguments:
        loc: :math:`\mu`, of a shape that broadcasts to `shape`.
        scale: :math:`\sigma`, above 0, likewise.
        shape: Of batch and event, (K, B, *x).
        event_dims: Dimensions of the event.
    """

    def __init__(self, loc: Tensor, scale: Tensor, shape: torch.Size, event_dims: int) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(
            Normal(loc.expand(shape), scale.expand(shape), validate_args=False), event_dims, validate_args=False
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, shape (K, B), for values of shape (B, *x) or (K, B, *x)."""
        size = self.event_shape.numel()
        squares = self._summed(((value - self.loc) / self.scale).square())
        nats = -0.5 * squares - self._summed(self.scale.log()) - size * _HALF_LOG_2PI
        return nats.expand(torch.broadcast_shapes(nats.shape, self.batch_shape))  # type: ignore[no-untyped-call]

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> NormalEvent:  # type: ignore[override]
        """The same event in a larger batch."""
        shape = torch.Size([*batch_shape, *self.event_shape])
        return NormalEvent(self.loc, self.scale, shape, self.reinterpreted_batch_ndims)

    def _summed(self, values: Tensor) -> Tensor:
        """The sum over an event, also of what is the same for several of its values."""
        dims = self.reinterpreted_batch_ndims
        if not dims:
            return values
        lead = values.shape[: max(values.dim() - dims, 0)]
        return values.expand(*lead, *self.event_shape).flatten(-dims).sum(-1)


def once(parameter: Tensor) -> Tensor:
    """A parameter (K, B, *z) that has been expanded over samples, as it was before: (1, B, *z); others as they are.

    Its gradient then is that of all samples together, which is what the parameter before the expansion has.
    """
    return parameter[:1] if parameter.shape[0] > 1 and parameter.stride(0) == 0 else parameter
