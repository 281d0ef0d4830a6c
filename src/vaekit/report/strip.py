"""Rows of images whose columns mean something: traversals, interpolations, samples by class."""

# R rows, S columns, (C, H, W) image, F features of a table

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaekit.report.rows import fans
from vaekit.report.sheet import MARGIN, Sheet
from vaekit.report.style import INK, legible, text_width, write_message
from vaekit.report.tiles import GAP, TILE, Array, enlarge, to_pixels

WIDTH = 1400  # pixels that a row may take before its tiles become smaller
LABEL, TICK = 8.5, 7.0  # sizes of type
LONGEST = 24  # letters of a label
APART = 18  # pixels more between a walk and the examples at its ends
TICKS = 28  # pixels for the names of the columns


def strips(
    images: Array,
    path: Path,
    rows: Sequence[str],
    columns: Sequence[str] = (),
    caption: str = "",
    *,
    ends: Array | None = None,
    low: float = 0.0,
    high: float = 1.0,
    features: Sequence[str] = (),
) -> None:
    """Show images as named rows and columns; for a table, each row as a fan of lines over the features.

    Arguments:
        images: Shape (R, S, C, H, W), or (R, S, F) for a table.
        path: The PNG to write.
        rows: R names, at the left.
        columns: S names, above; none to leave them out.
        caption: What the reader should know, above the picture.
        ends: Shape (2, C, H, W): shown before and after each row, a little apart; images only.
        low: The value shown as black; images only.
        high: The value shown as white; images only.
        features: Names of the features; tables only.

    Raises:
        ValueError: If the shapes or the numbers of names do not fit together.
    """
    images = np.asarray(images)
    if images.ndim not in (3, 5) or len(rows) != len(images) or len(columns) not in (0, images.shape[1]):
        raise ValueError(
            "Strips have images of shape (R, S, C, H, W), or (R, S, F) for a table, R names of rows and S of columns or none, "
            f"received {images.shape}, {len(rows)} and {len(columns)}."
        )
    if not images.size:
        write_message("nothing to show", path)
    elif images.ndim == 3:
        fans(images, path, rows, columns, caption, features)
    else:
        _draw(images, path, rows, columns, caption, ends, low, high)


def _draw(
    images: Array,
    path: Path,
    rows: Sequence[str],
    columns: Sequence[str],
    caption: str,
    ends: Array | None,
    low: float,
    high: float,
) -> None:
    names = list(columns)
    if ends is not None:
        first, last = (np.broadcast_to(end, (len(images), 1, *end.shape)) for end in np.asarray(ends))
        images = np.concatenate([first, images, last], axis=1)
        names = ["original", *columns, "original"] if columns else []
    size = images.shape[1]
    tiles = enlarge(to_pixels(images.reshape(-1, *images.shape[2:]), low, high), longest=min(TILE, WIDTH // size))
    _, height, width, _ = tiles.shape
    lefts = [column * (width + GAP) + APART * _gaps(column, size, ends) for column in range(size)]
    paper = np.full((len(rows) * (height + GAP) - GAP, lefts[-1] + width, 3), 255, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // size * (height + GAP), lefts[number % size]
        paper[top : top + height, left : left + width] = tile
    labels = [legible(row, LONGEST) for row in rows]
    above = TICKS if names else 0
    sheet = Sheet(paper, caption=caption, left=14 + max(text_width(label, LABEL) for label in labels), above=above)
    for number, label in enumerate(labels):
        middle = sheet.top + number * (height + GAP) + height / 2
        sheet.text(MARGIN, middle, label, size=LABEL, color=INK, ha="left", va="center")
    spacing = every(names, width + GAP)
    for column, name in enumerate(names):
        if column % spacing == 0 or (ends is not None and column in (0, size - 1)):
            sheet.text(sheet.left + lefts[column] + width / 2, sheet.top - 8, name, size=TICK, ha="center", va="bottom")
    sheet.write(path)


def _gaps(column: int, size: int, ends: Array | None) -> int:
    """How many wide gaps lie before a column: none, one after the first end, and two before the last."""
    return 0 if ends is None else (column > 0) + (column == size - 1)


def every(names: Sequence[str], width: int) -> int:
    """Which columns, `width` pixels wide, have room for their name: each, every second, and so on."""
    longest = max((text_width(legible(name, LONGEST), TICK) for name in names), default=0)
    return max(1, -(-(longest + 8) // width))
