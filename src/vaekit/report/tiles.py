"""From arrays of images to one sheet of pixels: display scaling, enlargement by whole factors, mosaics."""

# N images, (C, H, W) image, R x S mosaic

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pixels = NDArray[np.uint8]

GAP = 6  # pixels of paper between two tiles
TILE = 104  # pixels along the longer side that a small image is enlarged to
NOT_A_NUMBER = (213, 94, 0)  # vermilion: a nan pixel must not pass for a dark one


def to_pixels(images: Array, low: float = 0.0, high: float = 1.0) -> Pixels:
    """Rescale `[low, high]` to `[0, 255]` and clip; clipping comes first, or 1.01 would wrap around to black.

    Arguments:
        images: Shape (N, C, H, W). One channel is grey, three are red, green, blue; of any other
            number the mean is shown.
        low: The value shown as black.
        high: The value shown as white.

    Returns:
        Shape (N, H, W, 3); pixels that are nan are vermilion.

    Raises:
        ValueError: If `images` has not four axes or `low` is not below `high`.
    """
    images = np.asarray(images, dtype=np.float64)
    if images.ndim != 4:
        raise ValueError(f"Images have shape (N, C, H, W), received {images.shape}. Add the channel axis: x[:, None].")
    if not low < high:
        raise ValueError(f"The display range needs low < high, received low={low:.6g}, high={high:.6g}.")
    images = images if images.shape[1] in (1, 3) else images.mean(axis=1, keepdims=True)
    unit = (np.clip(images, low, high) - low) / (high - low)
    missing = np.isnan(unit).any(axis=1)
    pixels = np.rint(np.nan_to_num(unit) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3)).copy()
    pixels[missing] = NOT_A_NUMBER
    return pixels


def enlarge(pixels: Pixels, longest: int = TILE) -> Pixels:
    """Repeat every pixel a whole number of times, so that small images are large enough to see and stay crisp.

    Arguments:
        pixels: Shape (N, H, W, 3).
        longest: About the length of the longer side afterwards; larger images stay as they are.
    """
    factor = max(1, round(longest / max(pixels.shape[1:3])))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def mosaic(tiles: Pixels, columns: int, gap: int = GAP) -> Pixels:
    """Lay tiles (N, H, W, 3) out row by row on white paper, `columns` in a row."""
    count, height, width = tiles.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet
