"""Samples over the course of a training: a frame at a time as PNG, and all of them as one short GIF."""

# N images, (C, H, W) image, F features of a table

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from vaekit.files import write_atomically
from vaekit.report.rows import heat_map
from vaekit.report.sheet import Sheet
from vaekit.report.tiles import Array, Pixels, enlarge, mosaic, to_pixels

T = TypeVar("T")

COLUMNS, ROWS = 8, 4
SLOT = 64  # pixels along each side that an image has for itself, whatever its resolution
MOST_FRAMES = 40
STEP, HOLD = 180, 2500  # milliseconds that a frame is shown, and the last one
HEAVIEST = 1_000_000  # bytes of an animation
COLOURS = 64


def frame(images: Array, path: Path, caption: str = "", *, low: float = 0.0, high: float = 1.0) -> None:
    """Draw the first 32 samples as a grid of 8 x 4. All frames have one size, whatever the resolution of the images.

    Arguments:
        images: Shape (N, C, H, W), or (N, F) for a table, drawn as a heat map.
        path: The PNG to write.
        caption: Such as "epoch 12", on one line.
        low: The value shown as black; images only.
        high: The value shown as white; images only.

    Raises:
        ValueError: If the shape is neither of images nor of a table.
    """
    images = np.asarray(images)[: COLUMNS * ROWS]
    if images.ndim == 2:
        heat_map(images, path, caption, ())
        return
    slots = np.full((COLUMNS * ROWS, SLOT, SLOT, 3), 255, dtype=np.uint8)
    for slot, image in zip(slots, to_pixels(images, low, high), strict=False):
        _centre(slot, _fitted(image))
    Sheet(mosaic(slots, COLUMNS, gap=4), caption=caption).write(path)


def animation(frames: Sequence[Path | Array], path: Path) -> None:
    """Show frames one after the other, for ever, the last one held longer.

    Of more than forty frames, forty that are evenly spaced are shown, the last among them; fewer where the file would be larger
    than a megabyte. The same frames give the same bytes.

    Arguments:
        frames: Paths of PNG files, or pixels (H, W, 3) of uint8, of one size; in their order.
        path: The GIF to write.

    Raises:
        ValueError: Without frames, or if their sizes differ.
    """
    shown = [_opened(given) for given in _spaced(frames, MOST_FRAMES)]
    sizes = {image.size for image in shown}
    if len(sizes) != 1:
        raise ValueError(
            f"An animation needs frames of one size, received {len(shown)} with the sizes {sorted(sizes)}."
        )
    palette = _palette(_spaced(shown, 8))
    # no dithering: it would flicker, and weigh more
    drawn = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in shown]
    content = _gif(drawn)
    while len(content) >= HEAVIEST and len(drawn) > 2:
        drawn = _spaced(drawn, max(2, int(0.9 * len(drawn) * HEAVIEST / len(content))))
        content = _gif(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def _spaced(frames: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, the first and the last among them."""
    if len(frames) <= count:
        return list(frames)
    return [frames[round(index * (len(frames) - 1) / (count - 1))] for index in range(count)]


def _opened(given: Path | Array) -> Image.Image:
    if not isinstance(given, Path):
        return Image.fromarray(np.asarray(given, dtype=np.uint8))
    with Image.open(given, formats=["PNG"]) as image:
        return image.convert("RGB")


def _gif(drawn: list[Image.Image]) -> bytes:
    durations = [STEP] * (len(drawn) - 1) + [HOLD]
    buffer = BytesIO()
    drawn[0].save(buffer, "GIF", save_all=True, append_images=drawn[1:], duration=durations, loop=0, optimize=False)
    return buffer.getvalue()


def _palette(frames: list[Image.Image]) -> Image.Image:
    """One palette for all frames, or colours would change where the image does not."""
    pixels = np.concatenate([np.asarray(image)[::2, ::2] for image in frames])  # a quarter of them has all the colours
    return Image.fromarray(pixels).quantize(COLOURS, method=Image.Quantize.MEDIANCUT)


def _fitted(image: Pixels) -> Pixels:
    """At most a slot large: every pixel a whole number of times, or the mean of a whole number of pixels."""
    longest = max(image.shape[:2])
    if longest > SLOT:
        return np.asarray(Image.fromarray(image).reduce(-(-longest // SLOT)))
    fitted: Pixels = enlarge(image[None], longest=SLOT // longest * longest)[0]
    return fitted


def _centre(slot: Pixels, image: Pixels) -> None:
    height, width = image.shape[:2]
    top, left = (SLOT - height) // 2, (SLOT - width) // 2
    slot[top : top + height, left : left + width] = image
