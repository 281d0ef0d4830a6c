"""Augmentation: training images shown flipped or cropped, drawn anew each time, on the device that holds them."""

# B batch, (C, H, W) image

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from vaekit.distributions.noise import uniform


class Augmentation(ABC):
    """A random change of an image that leaves it an image of the same kind; training examples only are shown so.

    Its noise is that of `vaekit.distributions.noise`: torch's generator while training, whose state is in the checkpoint.

    Attributes:
        resamples: Whether new values are made between those of neighbouring pixels.
    """

    resamples: ClassVar[bool]

    @property
    @abstractmethod
    def description(self) -> str:
        """What is done, as part of a sentence."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Images of shape (B, C, H, W) to images of the same shape and type, each changed on its own."""


class RandomFlip(Augmentation):
    """Mirror an image left to right with probability p.

    Arguments:
        p: From 0 to 1.

    Raises:
        ValueError: If p is not a probability.
    """

    resamples = False

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}, expected a probability from 0 to 1.")
        self.p = p

    @property
    def description(self) -> str:
        """What is done, as part of a sentence."""
        return f"mirrored left to right with probability {self.p:g}"

    def __call__(self, x: Tensor) -> Tensor:
        """Images of shape (B, C, H, W), some of them mirrored."""
        return torch.where(_uniform(x, 1)[:, :, None, None] < self.p, x.flip(-1), x)


class RandomResizedCrop(Augmentation):
    r"""Cut a random rectangle out of an image and stretch it to the image's size, bilinearly.

    With :math:`a` uniform over `scale` and :math:`\log r` uniform over the logarithms of `ratio`, the rectangle is
    :math:`\sqrt{a H W r}` wide and :math:`\sqrt{a H W / r}` high, a side that would be longer than the image's being cut to it, and
    lies anywhere inside with equal probability. Rectangles need not begin at whole pixels. As a rectangle is never larger than
    the image, nothing is made smaller, and bilinear sampling needs no smoothing.

    Arguments:
        scale: Smallest and largest fraction of the area, in (0, 1].
        ratio: Smallest and largest width over height, in pixels.

    Raises:
        ValueError: If the numbers are not such ranges.

    References:
        | Going Deeper with Convolutions (Szegedy et al., 2015), section 6: an area of 8 % to 100 %, an aspect ratio of 3/4 to 4/3
        | https://arxiv.org/abs/1409.4842
    """

    resamples = True

    def __init__(self, scale: Sequence[float] = (0.8, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)) -> None:
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale is {list(scale)}, expected two fractions of the area such as [0.8, 1.0].")
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1] < math.inf:
            raise ValueError(f"ratio is {list(ratio)}, expected two ratios of width to height such as [0.75, 1.33].")
        self.scale, self.ratio = tuple(scale), tuple(ratio)

    @property
    def description(self) -> str:
        """What is done, as part of a sentence."""
        (smallest, largest), (narrowest, widest) = self.scale, self.ratio
        return (
            f"cropped at random to {smallest:g} to {largest:g} of the area, "
            f"width over height {narrowest:.3g} to {widest:.3g}, and stretched bilinearly"
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Images of shape (B, C, H, W), a part of each stretched over all of it."""
        width, height, left, top = self.rectangles(x).unbind(1)
        theta = x.new_zeros(len(x), 2, 3)
        # coordinates from -1 to 1 over the whole image: the rectangle's size, and its centre
        theta[:, 0, 0], theta[:, 0, 2] = width, 2 * left + width - 1
        theta[:, 1, 1], theta[:, 1, 2] = height, 2 * top + height - 1
        grid = affine_grid(theta, list(x.shape), align_corners=False)
        cut = grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        # weights that add up to 1 but for rounding may leave the range of the values, and with it that of a likelihood
        return torch.maximum(torch.minimum(cut, x.amax((1, 2, 3), keepdim=True)), x.amin((1, 2, 3), keepdim=True))

    def rectangles(self, x: Tensor) -> Tensor:
        """Width, height, left and top of a rectangle for each image, as fractions of its sides, shape (B, 4)."""
        u = _uniform(x, 4)
        smallest, largest = self.scale
        narrow, wide = (math.log(r) for r in self.ratio)
        area = smallest + (largest - smallest) * u[:, 0]
        ratio = (narrow + (wide - narrow) * u[:, 1]).exp() * (x.shape[-2] / x.shape[-1])
        width, height = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
        return torch.stack((width, height, (1 - width) * u[:, 2], (1 - height) * u[:, 3]), 1)


def _uniform(x: Tensor, numbers: int) -> Tensor:
    return uniform(torch.Size((1, len(x), numbers)), dtype=x.dtype, device=x.device).squeeze(0)
