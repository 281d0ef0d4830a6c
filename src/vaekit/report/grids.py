"""Figures that are grids of images: reconstructions, generated samples, the decoded plane.

Tables take the same two functions; their pictures are drawn in `rows.py`.
"""

# N examples, (C, H, W) image, F features of a table, R coordinates along each axis of the plane

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaekit.report.rows import heat_map, lines
from vaekit.report.sheet import MARGIN, Sheet
from vaekit.report.strip import TICK, TICKS, every
from vaekit.report.style import INK, write_message
from vaekit.report.tiles import GAP, TILE, Array, Pixels, enlarge, mosaic, to_pixels

WIDTH = 1400  # pixels that a row of tiles may take
LABELS = 150  # pixels for the words at the left of a row
BLOCK_GAP = 22


def reconstructions(
    originals: Array,
    reconstructions: Array,
    path: Path,
    caption: str = "",
    *,
    low: float = 0.0,
    high: float = 1.0,
    features: Sequence[str] = (),
) -> None:
    """Show each original over its reconstruction; for a table, both as lines over the features.

    Arguments:
        originals: Shape (N, C, H, W), or (N, F) for a table.
        reconstructions: The same shape.
        path: The PNG to write.
        caption: What the reader should know, above the picture.
        low: The value shown as black; images only.
        high: The value shown as white; images only. Values outside `[low, high]` are clipped for display.
        features: Names of the features; tables only.

    Raises:
        ValueError: If the shapes differ or are neither of images nor of a table.
    """
    originals, reconstructions = np.asarray(originals), np.asarray(reconstructions)
    if originals.shape != reconstructions.shape:
        raise ValueError(
            f"Originals and reconstructions have one shape, received {originals.shape} and {reconstructions.shape}."
        )
    if not originals.size:
        write_message("no examples to reconstruct", path)
    elif originals.ndim == 2:
        lines(originals, reconstructions, path, caption, features)
    else:
        _pairs(to_pixels(originals, low, high), to_pixels(reconstructions, low, high), path, caption)


def generated_samples(
    images: Array,
    path: Path,
    caption: str = "",
    *,
    low: float = 0.0,
    high: float = 1.0,
    features: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> None:
    """Show samples of the model as a square grid, or in named columns; for a table, as a heat map with the features as columns.

    Arguments:
        images: Shape (N, C, H, W), or (N, F) for a table.
        path: The PNG to write.
        caption: What the reader should know, above the picture.
        low: The value shown as black; images only.
        high: The value shown as white; images only.
        features: Names of the features; tables only.
        columns: Names of what the samples are of in turn, such as the classes: a column for each; images only.

    Raises:
        ValueError: If the shape is neither of images nor of a table.
    """
    images = np.asarray(images)
    if not images.size:
        write_message("no samples", path)
    elif images.ndim == 2:
        heat_map(images, path, caption, features)
    elif columns:
        _in_columns(to_pixels(images, low, high), path, caption, columns)
    else:
        tiles = enlarge(to_pixels(images, low, high), longest=TILE - 16)
        _, height, width, _ = tiles.shape
        across = max(1, math.ceil(math.sqrt(len(tiles) * (height + GAP) / (width + GAP))))
        Sheet(mosaic(tiles, across), caption=caption).write(path)


def manifold(
    images: Array,
    path: Path,
    axes: tuple[str, str],
    coordinates: Array,
    caption: str = "",
    *,
    low: float = 0.0,
    high: float = 1.0,
) -> None:
    """Show what a plane of the latent space decodes to, laid out as the scatter of `latent_space` is.

    Arguments:
        images: Shape (R, R, C, H, W), as they lie: `images[i, j]` is decoded from `coordinates[j]` on the first axis,
            which runs to the right, and `coordinates[R - 1 - i]` on the second, which runs upwards.
        path: The PNG to write.
        axes: Names of the two axes, such as "z[3], KL 2.31 nats".
        coordinates: Shape (R,), increasing; usually quantiles of the standard normal.
        caption: What the reader should know, above the picture.
        low: The value shown as black.
        high: The value shown as white.

    Raises:
        ValueError: If `images` is no square grid of images or `coordinates` does not fit it.
    """
    images, coordinates = np.asarray(images), np.asarray(coordinates, dtype=np.float64)
    if images.ndim != 5 or images.shape[0] != images.shape[1] or coordinates.shape != images.shape[:1]:
        raise ValueError(
            "A decoded plane has images of shape (R, R, C, H, W) and coordinates of shape (R,), "
            f"received {images.shape} and {coordinates.shape}."
        )
    size = images.shape[0]
    pixels = to_pixels(images.reshape(-1, *images.shape[2:]), low, high)
    tiles = enlarge(pixels, longest=max(28, min(TILE, 800 // size)))
    sheet = Sheet(mosaic(tiles, size, gap=2), caption=caption, left=70, bottom=64)
    _, height, width, _ = tiles.shape
    _ticks(sheet, coordinates, width + 2, height + 2)
    middle = sheet.left + size * (width + 2) / 2, sheet.top + size * (height + 2) / 2
    sheet.text(middle[0], sheet.top + size * (height + 2) + 36, f"{axes[0]}  →", color=INK, ha="center", va="top")
    sheet.text(MARGIN, middle[1], f"{axes[1]}  →", color=INK, ha="left", va="center", rotation=90)
    sheet.write(path)


def _in_columns(pixels: Pixels, path: Path, caption: str, columns: Sequence[str]) -> None:
    tiles = enlarge(pixels, longest=min(TILE - 16, WIDTH // len(columns)))
    width = tiles.shape[2] + GAP
    sheet = Sheet(mosaic(tiles, len(columns)), caption=caption, above=TICKS)
    for column in range(0, len(columns), every(columns, width)):
        middle = sheet.left + column * width + tiles.shape[2] / 2
        sheet.text(middle, sheet.top - 8, columns[column], size=TICK, ha="center", va="bottom")
    sheet.write(path)


def _pairs(originals: Array, decoded: Array, path: Path, caption: str) -> None:
    above, below = enlarge(originals), enlarge(decoded)
    count, height, width, _ = above.shape
    columns = max(1, min(count, (WIDTH + GAP) // (width + GAP)))
    blocks = [
        mosaic(
            np.concatenate([above[start : start + columns], below[start : start + columns]]),
            min(columns, count - start),
        )
        for start in range(0, count, columns)
    ]
    step = 2 * height + GAP + BLOCK_GAP
    paper = np.full((step * len(blocks) - BLOCK_GAP, blocks[0].shape[1], 3), 255, dtype=np.uint8)
    for number, block in enumerate(blocks):
        paper[number * step : number * step + block.shape[0], : block.shape[1]] = block
    sheet = Sheet(paper, caption=caption, left=LABELS)
    for number in range(len(blocks)):
        middle = sheet.top + number * step + height / 2
        sheet.text(sheet.left - 14, middle, "original", ha="right", va="center")
        sheet.text(sheet.left - 14, middle + height + GAP, "reconstruction", ha="right", va="center")
    sheet.write(path)


def _ticks(sheet: Sheet, coordinates: Array, width: int, height: int) -> None:
    size = len(coordinates)
    every = max(1, math.ceil(64 / width), math.ceil(30 / height))
    for index in range(size // 2 % every, size, every):
        label = f"{coordinates[index]:.2f}"
        sheet.text(
            sheet.left + (index + 0.5) * width, sheet.top + size * height + 8, label, size=7, ha="center", va="top"
        )
        sheet.text(sheet.left - 8, sheet.top + (size - index - 0.5) * height, label, size=7, ha="right", va="center")
