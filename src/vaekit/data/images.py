"""Data sets out of folders of images: what is decoded is stated, what is not is listed before anything is trained."""

# N examples, (C, H, W) image

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vaekit.data.batch import Dataset
from vaekit.data.door import Parts, admit
from vaekit.data.errors import DataFormatError
from vaekit.data.folders import classes, list_files, splits_of
from vaekit.data.splits import divide
from vaekit.data.transforms import Scale

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"})
_PIXELS = 32_000_000  # of one image: a phone's photograph, and 128 MB when decoded
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "I"})
_MODES = {"L": 1, "RGB": 3}
_SHOWN = 20
_ORIENTATION = 0x0112  # EXIF
_QUARTER_TURNS = frozenset({5, 6, 7, 8})


def images(
    path: str | os.PathLike[str],
    size: int | Sequence[int] | None = None,
    mode: str | None = None,
    binarisation: str = "none",
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """The data set in a folder of PNG, JPEG, WebP, BMP or TIFF images, in the order of their paths.

    Folders are searched to any depth; hidden files and text files are passed over, any other file must be an image. Folders
    called train and test (and validation, or val) at the top are the splits; otherwise images are split at random by the
    seed. If all images lie exactly one folder (further) down, those folders are the classes.

    At most 32 megapixels an image, told by its header before it is decoded. EXIF rotation is applied, alpha is composited on
    white, 16-bit grey becomes 8-bit (value / 257, rounded), palettes and CMYK become RGB, and of several frames the first is
    taken.

    Arguments:
        path: The folder.
        size: Height and width to resize to, or one number for both, by area-weighted (antialiased) averaging without keeping
            the aspect ratio; None if the images have one size already.
        mode: L for grey, RGB for colour; None for grey where all images are grey, and RGB otherwise.
        binarisation: none, threshold, dynamic or static.
        validation: Fraction of the images for validation.
        test: Fraction for the test part.
        seed: Of the random split and of a static binarisation.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
        DataFormatError: If files cannot be decoded; the message lists the first twenty.
        ValueError: If sizes differ and none is given, or an argument is wrong.
    """
    folder = Path(path).expanduser()
    target = _size(size)
    files = list_files(folder)
    scanned = _scan(files)
    chosen = _mode(mode, {kind for _, kind in scanned})
    height, width = target or _common_size([extent for extent, _ in scanned])
    stored = _decode(files, chosen, (height, width))
    indices, splitting, kinds = splits_of(folder, files, validation, test, seed)
    labels, class_names = classes(kinds)
    splits = divide(stored, labels, indices, Scale(255))
    scaling = "value / 255" if target is None else f"resized to {height} x {width}, value / 255"
    result = Parts(splits, scaling=scaling, splitting=splitting, class_names=class_names)
    return admit(folder.resolve().name, result, binarisation=binarisation, seed=seed)


def _size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(n, int) and 0 < n <= 4096 for n in pair):
        raise ValueError(f"data.size is {size}, expected height and width up to 4096, for example data.size=[64,64].")
    return pair[0], pair[1]


Scanned = tuple[tuple[int, int], str]
Broken = list[tuple[Path, Exception]]


def _scan(files: list[Path]) -> list[Scanned]:
    """Upright (height, width) and mode of each image, from the headers; all that is wrong with any of them in one error."""
    scanned: list[Scanned] = []
    broken: Broken = []
    for file in files:
        try:
            scanned.append(_header(file))
        except _UNREADABLE as error:
            broken.append((file, error))
    _refuse(broken, len(files))
    return scanned


def _refuse(broken: Broken, total: int) -> None:
    if not broken:
        return
    lines = [f"  {file}: {error or type(error).__name__}" for file, error in broken[:_SHOWN]]
    if len(broken) > _SHOWN:
        lines.append(f"  ... and {len(broken) - _SHOWN} more")
    head = f"{len(broken)} of {total} files cannot be used as images (PNG, JPEG, WebP, BMP or TIFF). Repair or remove them:"
    raise DataFormatError("\n".join((head, *lines)))


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
    with file.open("rb") as content, warnings.catch_warnings():
        # Pillow warns of damaged metadata, which do not change pixels, and of bombs from 89 megapixels on; here it is 32
        warnings.simplefilter("ignore")
        with Image.open(content, formats=_FORMATS) as image:
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


def _mode(mode: str | None, found: set[str]) -> str:
    if mode is None:
        return "L" if found == {"L"} else "RGB"
    if mode not in _MODES:
        raise ValueError(f"data.mode is {mode!r}, expected L (grey) or RGB (colour).")
    return mode


def _common_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    counts = Counter(sizes).most_common()
    if len(counts) > 1:
        shown = ", ".join(f"{h} x {w} ({n})" for (h, w), n in counts[:5]) + (", ..." if len(counts) > 5 else "")
        (height, width), _ = counts[0]
        raise ValueError(
            f"images have {len(counts)} sizes, height x width (count): {shown}; expected one. "
            f"Write data.size=[{height},{width}] to resize them all."
        )
    return counts[0][0]


def _decode(files: list[Path], mode: str, size: tuple[int, int]) -> Tensor:
    height, width = size
    stored = torch.empty((len(files), _MODES[mode], height, width), dtype=torch.uint8)
    broken: Broken = []
    for number, file in enumerate(files):
        try:
            stored[number] = _pixels(file, mode, size)
        except _UNREADABLE as error:
            broken.append((file, error))
    _refuse(broken, len(files))
    return stored


def _pixels(file: Path, mode: str, size: tuple[int, int]) -> Tensor:
    height, width = size
    with _open(file) as image:
        converted = _on_white(_eight_bit(_turned(image))).convert(mode)
    if converted.size != (width, height):
        converted = converted.resize((width, height), Image.Resampling.BOX)
    values = np.asarray(converted, dtype=np.uint8)
    return torch.from_numpy(values.reshape(height, width, -1).copy()).permute(2, 0, 1)


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
