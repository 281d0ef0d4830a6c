"""Fold the leading dimensions of a tensor into one, for layers that take a single batch dimension; and how images lie in memory.

Between convolutions the channels of a pixel lie side by side (`torch.channels_last`), which a CPU convolves a tenth to a third
faster; values and shapes are not touched by it.
"""

from __future__ import annotations

from collections.abc import Callable

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

    def through(images: Tensor) -> Tensor:
        # a single channel lies both ways, and says nothing of what is to come after it
        first = layers[0](_pixelwise(images))
        out: Tensor = layers[1:](_pixelwise(first))
        return out

    return folded(through, x, 3)


class Unflatten(nn.Unflatten):
    """Rows, (N, C H W), to images, (N, C, H, W), as convolutions like them."""

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C H W) to (N, C, H, W)."""
        return _pixelwise(super().forward(x))


def _pixelwise(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
