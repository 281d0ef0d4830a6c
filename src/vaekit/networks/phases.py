"""Convolutions whose output has twice the sides of their input, computed at the smaller size.

A row of such an output sees two rows of the input, and which weights they meet depends on whether the row is even or odd. So there
are four small kernels, one for each *phase* (even or odd row, even or odd column), which are the output channels of one 2x2
convolution; its pixels are then put into their places. For a 3x3 convolution of an image whose pixels have been doubled these are
4/9 of the multiplications, and of a transposed 4x4 convolution of stride 2 they are the same ones, in a kernel that a CPU is
several times faster at where there are few output channels.

Written for one dimension, with :math:`w_0, w_1, \\dots` the weights of the large kernel, :math:`x_i` the input and zeros around it:

* pixels doubled, kernel 3, padding 1: :math:`y_{2i} = w_0 x_{i-1} + (w_1 + w_2) x_i` and
  :math:`y_{2i+1} = (w_0 + w_1) x_i + w_2 x_{i+1}`;
* transposed, kernel 4, stride 2, padding 1: :math:`y_{2i} = w_3 x_{i-1} + w_1 x_i` and :math:`y_{2i+1} = w_2 x_i + w_0 x_{i+1}`.
"""

# N images, I input channels, O output channels, h x w pixels of the input

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

# of the shorter side: below it the border that all phases need costs more than is saved
_LEAST = 4
# of a transposed convolution: with more, torch's own is as fast
_MOST_OUTPUTS = 4


def doubled(x: Tensor) -> Tensor:
    """Each pixel twice along both sides: (N, I, h, w) to (N, I, 2h, 2w)."""
    return interpolate(x, scale_factor=2, mode="nearest")


def of_doubled(convolution: nn.Module, x: Tensor, beside: Tensor | None = None) -> Tensor:
    """A 3x3 convolution with padding 1 of an image whose pixels are doubled: (N, I, h, w) to (N, O, 2h, 2w).

    Arguments:
        convolution: Of I input channels, or of those and the ones of `beside`.
        x: Shape (N, I, h, w).
        beside: Further input channels, in their full size: shape (N, J, 2h, 2w).
    """
    assert isinstance(convolution, nn.Conv2d)
    if not _pays(x):
        whole = doubled(x) if beside is None else torch.cat([doubled(x), beside], 1)
        out: Tensor = convolution(whole)
        return out
    inputs = x.shape[1]
    out = _of_doubled(convolution.weight[:, :inputs], convolution.bias, x)
    return out if beside is None else out + conv2d(beside, convolution.weight[:, inputs:], padding=1)


def _of_doubled(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    first, second, third = weight.unbind(2)
    rows = torch.stack([torch.stack([first, second + third], 2), torch.stack([first + second, third], 2)])
    first, second, third = rows.unbind(4)
    kernels = torch.stack([torch.stack([first, second + third], 4), torch.stack([first + second, third], 4)], 1)
    return _phased(x, kernels, bias)


def transposed(convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """A transposed 4x4 convolution of stride 2 with padding 1: (N, I, h, w) to (N, O, 2h, 2w)."""
    if not _pays(x) or convolution.out_channels > _MOST_OUTPUTS:
        out: Tensor = convolution(x)
        return out
    inputs, outputs = convolution.weight.shape[:2]
    # positions 3, 1 are the even phase, and 2, 0 the odd one
    split = convolution.weight.flip(2, 3).view(inputs, outputs, 2, 2, 2, 2)  # (I, O, tap, phase, tap, phase)
    return _phased(x, split.permute(3, 5, 1, 0, 2, 4), convolution.bias)


def _pays(x: Tensor) -> bool:
    return x.device.type == "cpu" and min(x.shape[-2:]) >= _LEAST


def _phased(x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """Kernels of each phase, (2, 2, O, I, 2, 2), over x, (N, I, h, w), with a border of zeros."""
    outputs = kernels.shape[2]
    pixels = conv2d(
        x, kernels.reshape(4 * outputs, *kernels.shape[3:]), None if bias is None else bias.repeat(4), padding=1
    )
    placed: Tensor = _Placed.apply(pixels)  # type: ignore[no-untyped-call]
    return placed


class _Placed(torch.autograd.Function):
    """Pixels of the four phases, (N, 4 O, h + 1, w + 1), in their places: (N, O, 2h, 2w)."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor) -> Tensor:
        count, channels, height, width = pixels.shape
        out = pixels.new_empty((count, 2 * height - 2, 2 * width - 2, channels // 4)).permute(0, 3, 1, 2)
        for phase, (row, column) in enumerate(_PHASES):
            own = pixels[:, phase * (channels // 4) : (phase + 1) * (channels // 4)]
            out[:, :, row::2, column::2] = own[:, :, row : row + height - 1, column : column + width - 1]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        taken: Tensor = _Taken.apply(gradients[0])  # type: ignore[no-untyped-call]
        return taken


class _Taken(torch.autograd.Function):
    """The adjoint of `_Placed`: each phase's pixels from an image, and zeros around them."""

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        count, channels, height, width = image.shape
        out = image.new_zeros((count, height // 2 + 1, width // 2 + 1, 4 * channels)).permute(0, 3, 1, 2)
        for phase, (row, column) in enumerate(_PHASES):
            own = out[:, phase * channels : (phase + 1) * channels]
            own[:, :, row : row + height // 2, column : column + width // 2] = image[:, :, row::2, column::2]
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        placed: Tensor = _Placed.apply(gradients[0])  # type: ignore[no-untyped-call]
        return placed


_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
