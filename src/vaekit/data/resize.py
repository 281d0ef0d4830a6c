"""Images made a square of a given side: padded where they nearly have it, else resized by averaging areas."""

# N examples, (C, H, W) image, (h, w) its size afterwards

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_LARGEST = 4096
_AT_ONCE = 2**22  # pixels resized at once: bounds the memory, not the result


def check_resolution(resolution: int) -> None:
    """Raise `ValueError` if that is no side of a square image."""
    if isinstance(resolution, bool) or not isinstance(resolution, int) or not 1 <= resolution <= _LARGEST:
        raise ValueError(
            f"data.resolution is {resolution}, expected a whole number of pixels from 1 to {_LARGEST}, "
            "for example data.resolution=32."
        )


def fitted_size(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    """Height and width before padding: the same if the longer side L has 3/4 resolution <= L <= resolution.

    Otherwise the longer side becomes the resolution and the other keeps the aspect ratio, rounded, at least one pixel.
    """
    longest = max(size)
    if 3 * resolution <= 4 * longest and longest <= resolution:
        return size
    # rounded half up, in whole numbers
    height, width = (max(1, (2 * side * resolution + longest) // (2 * longest)) for side in size)
    return height, width


def fit_square(stored: Tensor, resolution: int) -> Tensor:
    """Images of shape (N, C, H, W) as squares of side `resolution`: of their fitted size, centred, zeros around.

    Where an odd number of rows or columns is to be added, one more is added below, or to the right.
    """
    height, width = size = fitted_size((stored.shape[-2], stored.shape[-1]), resolution)
    top, left = (resolution - height) // 2, (resolution - width) // 2
    return pad(area_resize(stored, size), (left, resolution - width - left, top, resolution - height - top))


def fit_description(size: tuple[int, int], resolution: int) -> str:
    """What `fit_square` does to images of this height and width, as part of a sentence; empty if nothing."""
    fitted = fitted_size(size, resolution)
    square = (resolution, resolution)
    words = [] if fitted == size else [f"resized from {_said(size)} to {_said(fitted)} pixels by averaging areas"]
    words += [] if fitted == square else [f"padded with zeros from {_said(fitted)} to {_said(square)} pixels"]
    return ", ".join(words)


def _said(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def area_resize(stored: Tensor, size: tuple[int, int]) -> Tensor:
    """Images resized so that each new pixel is the mean of the area that it covers.

    Arguments:
        stored: Of any type, shape (N, C, H, W).
        size: (h, w).

    Returns:
        In the same type, integers rounded to the nearest (a half to the even one), shape (N, C, h, w).
    """
    if tuple(stored.shape[-2:]) == tuple(size):
        return stored
    (height, width), planes = stored.shape[-2:], stored.flatten(0, 1)
    # sums of bytes below 2**24 are exact in float32 too, and come twice as fast
    exact = torch.float32 if stored.dtype == torch.uint8 and 255 * height * width < 2**24 else torch.float64
    rows, columns = overlaps(height, size[0]).T.to(exact), overlaps(width, size[1]).T.to(exact)
    resized = torch.empty((len(planes), *size), dtype=stored.dtype)
    at_once = max(1, _AT_ONCE // (height * width))
    for start in range(0, len(planes), at_once):
        part = slice(start, start + at_once)
        # two large products rather than a small one for each plane; each leaves the axes turned, and twice turned is upright
        turned = (planes[part].to(exact) @ columns).mT.contiguous()
        mean = (turned @ rows).mT / (height * width)
        resized[part] = mean if stored.is_floating_point() else mean.round()
    return resized.reshape(*stored.shape[:2], *size)


def overlaps(old: int, new: int) -> Tensor:
    r"""How much of each old pixel each new one covers, in units of 1/new of an old pixel: float64, shape (new, old).

    New pixel i covers :math:`[i\,old/new, (i+1)\,old/new)`; each row adds up to `old`. They are whole numbers, so that sums over
    8-bit values are exact whatever their order.
    """
    i, j = torch.arange(new, dtype=torch.float64)[:, None], torch.arange(old, dtype=torch.float64)
    return (torch.minimum((i + 1) * old, (j + 1) * new) - torch.maximum(i * old, j * new)).clamp_min(0)
