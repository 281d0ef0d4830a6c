"""CelebA, photographs of faces, out of the folder that its makers hand out; they allow nobody to hand it on."""

# N examples, (C, H, W) image

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vaekit.data.augment import Augmentation
from vaekit.data.batch import Dataset
from vaekit.data.decode import decode, scan
from vaekit.data.door import Parts, Wishes, admit
from vaekit.data.errors import DataFormatError
from vaekit.data.folders import list_files
from vaekit.data.resize import area_resize
from vaekit.data.splits import Indices, divide, random_split
from vaekit.data.transforms import Scale

PARTITION = "list_eval_partition.txt"
_FOLDER = "img_align_celeba"
_IMAGES = 202_599
_LARGEST_LIST = 16 * 2**20  # bytes; the published list has 2.8 million


def celeba(
    path: str | os.PathLike[str],
    crop: int = 140,
    size: int = 64,
    binarisation: str = "none",
    seed: int = 0,
    augmentation: Mapping[str, Augmentation] | None = None,
) -> Dataset:
    """CelebA, aligned and cropped, in colour: the centre of each image, resized, with the official parts.

    The file list_eval_partition.txt, beside the folder of images, in it or in the folder Eval, says which images are for
    training, validation and test. Where it is not there, a tenth each is drawn for validation and test at random by the seed.

    Arguments:
        path: The folder img_align_celeba with images of 178 x 218 pixels, or the one above it.
        crop: Side of the square in the middle that is kept: 140 pixels in the papers on VAEs (Tolstikhin et al. 2018; Ghosh et
            al. 2020), others have 108, 148 or 178. Numbers compare for the same one only.
        size: Side that it is resized to, each new pixel the mean of the area that it covers.
        binarisation: none, threshold, dynamic or static.
        seed: Of a random split and of a static binarisation.
        augmentation: How training images are changed each time they are shown, by a name of yours and in this order.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
        DataFormatError: If files cannot be decoded, or the list does not fit the images.
        ValueError: If images are smaller than the square, or an argument is wrong.

    References:
        | Deep Learning Face Attributes in the Wild (Liu et al., 2015)
        | https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
    """
    _check(crop, size)
    given = Path(path).expanduser()
    folder = given / _FOLDER if (given / _FOLDER).is_dir() else given
    files = list_files(folder)
    sizes = [extent for extent, _ in scan(files)]
    smallest = min(min(extent) for extent in sizes)
    if smallest < crop:
        raise ValueError(
            f"data.crop is {crop}, but images in {folder} have a side of {smallest} pixels; write data.crop={smallest}."
        )

    def middle(image: Tensor) -> Tensor:
        top, left = (image.shape[-2] - crop) // 2, (image.shape[-1] - crop) // 2
        return area_resize(image[..., top : top + crop, left : left + crop], (size, size))

    indices, splitting = _parts(folder, files, seed)
    stored = decode(files, "RGB", middle, max(h * w for h, w in sizes))
    splits = divide(stored, None, indices, Scale(255))
    resized = "" if size == crop else f", resized to {size} x {size} by averaging areas"
    scaling = f"middle {crop} x {crop} pixels{resized}, value / 255"
    missing = f"{len(files):,} of {_IMAGES:,} images are there, so numbers are not comparable with published ones"
    result = Parts(splits, scaling=scaling, splitting=splitting, notes=() if len(files) == _IMAGES else (missing,))
    return admit("celeba", result, Wishes(binarisation, seed, None, augmentation))


def _check(crop: int, size: int) -> None:
    for name, value in (("crop", crop), ("size", size)):
        if not 1 <= value <= 4096:
            raise ValueError(f"data.{name} is {value}, expected a number of pixels from 1 to 4096.")


def _parts(folder: Path, files: Sequence[Path], seed: int) -> tuple[Indices, str]:
    places = (folder, folder.parent, folder / "Eval", folder.parent / "Eval")
    found = next((place / PARTITION for place in places if (place / PARTITION).is_file()), None)
    if found is None:
        return random_split(
            len(files), 0.1, 0.1, seed
        ), f"split at random with seed {seed}, as {PARTITION} is not there"
    listed = _listed(found)
    unknown = [file.name for file in files if file.name not in listed]
    if unknown:
        raise DataFormatError(
            f"{found} does not list {len(unknown)} of {len(files)} images, {unknown[0]} among them. Fetch it again."
        )
    part = torch.tensor([listed[file.name] for file in files])
    train, validation, test = ((part == number).nonzero().flatten() for number in range(3))
    if not (len(train) and len(validation) and len(test)):
        raise DataFormatError(
            f"{found} puts {len(train)}, {len(validation)} and {len(test)} of the images here into training, validation and test; "
            f"expected some in each. Add images, or remove the list for a random split."
        )
    return (train, validation, test), "split as published"


def _listed(path: Path) -> dict[str, int]:
    """Part of each image by its name: 0 training, 1 validation, 2 test."""
    if path.stat().st_size > _LARGEST_LIST:
        raise DataFormatError(f"{path} has {path.stat().st_size:,} bytes, expected at most {_LARGEST_LIST:,}.")
    listed = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        words = line.split()
        if len(words) != 2 or words[1] not in {"0", "1", "2"}:
            raise DataFormatError(f"{path}, line {number} is {line[:80]!r}, expected a file name and 0, 1 or 2.")
        listed[words[0]] = int(words[1])
    return listed
