"""Data sets out of folders of images: what is decoded is stated, what is not is listed before anything is trained."""

# N examples, (C, H, W) image

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from vaekit.data.augment import Augmentation
from vaekit.data.batch import Dataset
from vaekit.data.decode import MODES, Geometry, decode, scan
from vaekit.data.door import Parts, Wishes, admit
from vaekit.data.folders import classes, list_files, splits_of
from vaekit.data.resize import area_resize, check_resolution, fit_description, fit_square
from vaekit.data.splits import divide
from vaekit.data.transforms import Scale


def images(
    path: str | os.PathLike[str],
    size: int | Sequence[int] | None = None,
    mode: str | None = None,
    binarisation: str = "none",
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    resolution: int | None = None,
    augmentation: Mapping[str, Augmentation] | None = None,
) -> Dataset:
    """The data set in a folder of PNG, JPEG, WebP, BMP or TIFF images, in the order of their paths.

    Folders are searched to any depth; hidden files and text files are passed over, any other file must be an image. Folders
    called train and test (and validation, or val) at the top are the splits; of train and val alone, val is the test part;
    otherwise images are split at random by the seed. If all images lie exactly one folder (further) down, those folders are
    the classes.

    At most 32 megapixels an image, told by its header before it is decoded. EXIF rotation is applied, alpha is composited on
    white, 16-bit grey becomes 8-bit (value / 257, rounded), palettes and CMYK become RGB, and of several frames the first is
    taken.

    Arguments:
        path: The folder.
        size: Height and width to resize to, or one number for both, each new pixel the mean of the area that it covers, without
            keeping the aspect ratio; None if the images have one size already.
        mode: L for grey, RGB for colour; None for grey where all images are grey, and RGB otherwise.
        binarisation: none, threshold, dynamic or static.
        validation: Fraction of the images for validation.
        test: Fraction for the test part.
        seed: Of the random split and of a static binarisation.
        resolution: Side of the squares that all images become, of whatever size they are: padded with zeros where the longer
            side is 3/4 of it to all of it, and otherwise resized to this longer side with their aspect ratio kept, then padded.
        augmentation: How training images are changed each time they are shown, by a name of yours and in this order.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
        DataFormatError: If files cannot be decoded; the message lists the first twenty.
        ValueError: If sizes differ and none is given, or an argument is wrong.
    """
    folder = Path(path).expanduser()
    target = _size(size)
    files = list_files(folder)
    scanned = scan(files)
    sizes = [extent for extent, _ in scanned]
    geometry, words = _geometry(sizes, target, resolution)
    stored = decode(files, _mode(mode, {kind for _, kind in scanned}), geometry, max(h * w for h, w in sizes))
    indices, splitting, kinds = splits_of(folder, files, validation, test, seed)
    labels, class_names = classes(kinds)
    splits = divide(stored, labels, indices, Scale(255))
    scaling = ", ".join(filter(None, (words, "value / 255")))
    result = Parts(splits, scaling=scaling, splitting=splitting, class_names=class_names)
    return admit(folder.resolve().name, result, Wishes(binarisation, seed, None, augmentation))


def _geometry(
    sizes: list[tuple[int, int]], target: tuple[int, int] | None, resolution: int | None
) -> tuple[Geometry, str]:
    """What makes all images one size, and what that is as part of a sentence, empty if nothing."""
    if resolution is not None:
        check_resolution(resolution)
    if target is None and resolution is None:
        _must_be_one_size(sizes)
        return _unchanged, ""
    if resolution is None:
        assert target is not None
        return partial(area_resize, size=target), f"resized to {target[0]} x {target[1]}"
    square = partial(fit_square, resolution=resolution)
    before = {target} if target is not None else set(sizes)
    words = _square_description(before, resolution)
    if target is None:
        return square, words
    first = partial(area_resize, size=target)
    return lambda image: square(first(image)), ", ".join(filter(None, (f"resized to {target[0]} x {target[1]}", words)))


def _square_description(sizes: set[tuple[int, int]], resolution: int) -> str:
    if len(sizes) == 1:
        return fit_description(next(iter(sizes)), resolution)
    return (
        f"made {resolution} x {resolution}: images with a longer side of {-(-3 * resolution // 4)} to {resolution} pixels "
        "padded with zeros, others resized to this longer side by averaging areas, then padded"
    )


def _unchanged(image: Tensor) -> Tensor:
    return image


def _size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(n, int) and 0 < n <= 4096 for n in pair):
        raise ValueError(f"data.size is {size}, expected height and width up to 4096, for example data.size=[64,64].")
    return pair[0], pair[1]


def _mode(mode: str | None, found: set[str]) -> str:
    if mode is None:
        return "L" if found == {"L"} else "RGB"
    if mode not in MODES:
        raise ValueError(f"data.mode is {mode!r}, expected L (grey) or RGB (colour).")
    return mode


def _must_be_one_size(sizes: list[tuple[int, int]]) -> None:
    counts = Counter(sizes).most_common()
    if len(counts) > 1:
        shown = ", ".join(f"{h} x {w} ({n})" for (h, w), n in counts[:5]) + (", ..." if len(counts) > 5 else "")
        (height, width), _ = counts[0]
        raise ValueError(
            f"images have {len(counts)} sizes, height x width (count): {shown}; expected one. "
            f"Write data.size=[{height},{width}] to resize them all, or data.resolution={max(height, width)} to make them squares."
        )
