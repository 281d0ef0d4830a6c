"""Fold the leading dimensions of a tensor into one, for layers that take a single batch dimension; and how images lie in memory.

Between convolutions the channels of a pixel lie side by side (`torch.channels_last`), which a CPU convolves a tenth to a third
faster; values and shapes are not touched by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def folded(function: Callable[[Tensor], Tensor], x: Tensor, event_dims: int) -> Tensor:
    """Apply `function`, which knows one batch dimension, to `x` with any number of them.

    Arguments:
        function: From (N, *) to (N, *).
        x: Shape (*lead, *event), where the event has `event_dims` dimensions.
        event_dims: How many dimensions belong to one example.

    Returns:
        Shape (*lead, *): the importance samples were part of the batch.
    """
    lead = x.shape[: x.dim() - event_dims]
    out = function(x.reshape(-1, *x.shape[len(lead) :]))
    return out.view(*lead, *out.shape[1:])


def convolved(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Apply layers, of which the first is or begins with a convolution, to images (*, C, H, W), folded."""
    return folded(lambda images: layers(_pixelwise(images)), x, 3)


class Flatten(nn.Module):
    """Images, (N, C, H, W), as convolutions like them, to rows, (N, C H W), as products do; the gradient on its way back too."""

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C H W)."""
        rows: Tensor = _Rows.apply(x)  # type: ignore[no-untyped-call]
        return rows


class Unflatten(nn.Unflatten):
    """Rows, (N, C H W), to images, (N, C, H, W), as convolutions like them."""

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C H W) to (N, C, H, W)."""
        return _pixelwise(super().forward(x))


class _Rows(torch.autograd.Function):
    """An operation whose operands lie differently takes twenty times as long as the copy that spares it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.flatten(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _pixelwise(gradients[0].view(ctx.shape))


def _pixelwise(images: Tensor) -> Tensor:
    if images.shape[1] == 1 and images.is_contiguous():
        # a single channel lies both ways, and its strides say which of them it is taken for
        return images.view(images.shape[0], *images.shape[2:], 1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)
