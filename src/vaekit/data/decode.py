"""Image files to tensors: what is wrong with any of them is told in one error, and headers are read before pixels."""

# N examples, (C, H, W) image

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vaekit.data.errors import DataFormatError

MODES = {"L": 1, "RGB": 3}  # and their channels
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"})
_PIXELS = 32_000_000  # of one image: a phone's photograph, and 128 MB when decoded
_AT_ONCE = 8_000_000  # of the images that are decoded at the same time
_WORKERS = 8
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "I"})
_SHOWN = 20
_ORIENTATION = 0x0112  # EXIF
_QUARTER_TURNS = frozenset({5, 6, 7, 8})

Geometry = Callable[[Tensor], Tensor]  # of uint8 images (1, C, H, W)

Scanned = tuple[tuple[int, int], str]
Broken = list[tuple[Path, Exception]]


def scan(files: Sequence[Path]) -> list[Scanned]:
    """Upright (height, width) of each image, and L if it is grey or RGB if not, from the headers.

    Raises:
        DataFormatError: If files are no images of an accepted format, or too large; the message lists the first twenty.
    """
    scanned: list[Scanned] = []
    broken: Broken = []
    with _quiet():
        for file in files:
            try:
                scanned.append(_header(file))
            except _UNREADABLE as error:
                broken.append((file, error))
    _refuse(broken, len(files))
    return scanned


def decode(files: Sequence[Path], mode: str, geometry: Geometry, largest: int) -> Tensor:
    """The pixels of all files, uint8, shape (N, C, H, W), by several threads at once.

    Arguments:
        files: That `scan` has accepted.
        mode: L or RGB.
        geometry: From an image of shape (1, C, H, W) to one of the size that all are to have.
        largest: Pixels of the largest image, which bounds how many are decoded at the same time.

    Raises:
        DataFormatError: If files are damaged; the message lists the first twenty.
    """

    def read(file: Path) -> Tensor | Exception:
        try:
            return geometry(_pixels(file, mode))
        except _UNREADABLE as error:
            return error

    stored = torch.empty(0, dtype=torch.uint8)
    broken: Broken = []
    pool = ThreadPoolExecutor(max(1, min(_WORKERS, _AT_ONCE // largest)))
    try:
        with _quiet():
            for number, image in enumerate(pool.map(read, files)):
                if isinstance(image, Exception):
                    broken.append((files[number], image))
                    continue
                if not len(stored):
                    stored = torch.empty((len(files), *image.shape[1:]), dtype=torch.uint8)
                stored[number] = image[0]
    finally:
        pool.shutdown(cancel_futures=True)  # who interrupts does not wait for the rest
    _refuse(broken, len(files))
    return stored


def _refuse(broken: Broken, total: int) -> None:
    if not broken:
        return
    lines = [f"  {file}: {error or type(error).__name__}" for file, error in broken[:_SHOWN]]
    if len(broken) > _SHOWN:
        lines.append(f"  ... and {len(broken) - _SHOWN} more")
    head = f"{len(broken)} of {total} files cannot be used as images (PNG, JPEG, WebP, BMP or TIFF). Repair or remove them:"
    raise DataFormatError("\n".join((head, *lines)))


@contextmanager
def _quiet() -> Iterator[None]:
    # around all threads: the filters belong to the process. Pillow warns of damaged metadata, which do not change pixels, and
    # of bombs from 89 megapixels on; here it is 32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# what Pillow raises on damaged files, by format: it documents OSError only
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    Image.DecompressionBombError,
)


@contextmanager
def _open(file: Path) -> Iterator[Image.Image]:
    if file.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"suffix {file.suffix!r} is none of an accepted format")
    if file.stat().st_size == 0:
        raise ValueError("empty file")
    # opened here, not by Pillow: given a path, Pillow 13.0 maps a plain TIFF into memory and mixes up its axes if it is turned
    with file.open("rb") as content, Image.open(content, formats=_FORMATS) as image:
        if image.width * image.height > _PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, expected at most {_PIXELS // 10**6} million")
        yield image


def _header(file: Path) -> Scanned:
    with _open(file) as image:
        grey = image.mode in _GREY_MODES
        if image.mode == "F" or image.mode.startswith("I;32"):
            raise ValueError("values of 32 bits, expected 8 or 16")
        return _upright_size(image), "L" if grey else "RGB"


def _upright_size(image: Image.Image) -> tuple[int, int]:
    # turned images are few and are decoded here: whether the size of a turned TIFF is told before or after turning
    # depends on the version of Pillow
    upright = _turned(image) if image.getexif().get(_ORIENTATION, 1) in _QUARTER_TURNS else image
    return upright.height, upright.width


def _turned(image: Image.Image) -> Image.Image:
    image.load()  # which turns a TIFF already and forgets its mark, while the mark of an unread one would turn it again
    return ImageOps.exif_transpose(image)


def _pixels(file: Path, mode: str) -> Tensor:
    with _open(file) as image:
        converted = _on_white(_eight_bit(_turned(image))).convert(mode)
    values = np.asarray(converted, dtype=np.uint8)
    return torch.from_numpy(values.reshape(1, *values.shape[:2], -1).copy()).permute(0, 3, 1, 2)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"values in [{values.min():.0f}, {values.max():.0f}], expected 8 or 16 bits")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))
