"""The Bernoulli log-density from logits, summed over an event in as few passes over memory as it takes."""

# K samples, B batch, *x event of the data

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

# beyond it log(1 + exp(l)) is l to the last digit of float64
_LINEAR = 40.0


def bernoulli_log_prob(logits: Tensor, x: Tensor, event_dims: int) -> Tensor:
    r"""Log-probability of values in [0, 1] under independent Bernoulli distributions.

    .. math:: \sum_d x_d \, l_d - \log(1 + e^{l_d})

    Arguments:
        logits: :math:`l`, shape (K, B, *x).
        x: Values, shape (B, *x) or (K, B, *x), or anything else that broadcasts with the logits.
        event_dims: How many trailing dimensions are summed over.

    Returns:
        Nats, shape (K, B).
    """
    if x.requires_grad or x.dim() > logits.dim() or not _broadcasts(x, logits):
        return _summed(x * logits - softplus(logits, threshold=_LINEAR), event_dims)
    nats: Tensor = _LogProb.apply(logits, x, event_dims)  # type: ignore[no-untyped-call]
    return nats


def _broadcasts(x: Tensor, logits: Tensor) -> bool:
    return all(a in (1, b) for a, b in zip(reversed(x.shape), reversed(logits.shape), strict=False))


class _LogProb(torch.autograd.Function):
    """torch's own cross-entropy takes a dozen passes forward and back; this takes three each way."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor, event_dims: int) -> Tensor:
        ctx.save_for_backward(logits, x)
        ctx.event_dims = event_dims
        return _summed(softplus(logits, threshold=_LINEAR).addcmul_(x, logits, value=-1.0), event_dims).neg()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, x = ctx.saved_tensors
        gradient = gradients[0].reshape(*gradients[0].shape, *[1] * ctx.event_dims)
        if torch.is_grad_enabled():  # a second derivative is wanted
            return gradient * (x - logits.sigmoid()), None, None
        return logits.sigmoid().sub_(x).mul_(-gradient), None, None


def _summed(values: Tensor, event_dims: int) -> Tensor:
    return values.flatten(-event_dims).sum(-1) if event_dims else values
