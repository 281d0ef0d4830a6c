"""What the layout of a folder says: which files are meant, which are train and test, which class each has."""

# N examples

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vaekit.data.splits import PART_NAMES, Indices, hold_out, random_split

_COMPANIONS = frozenset({".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".ini", ".db"})
_PART_OF = {word: part for part, words in PART_NAMES.items() for word in words}

Kinds = Sequence[tuple[str, ...]]


def list_files(folder: Path) -> list[Path]:
    """All files in a folder and below, in the order of their paths, without hidden ones and text.

    Raises:
        FileNotFoundError: If there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder. Write data.path=FOLDER with a folder of images.")
    found = sorted(_walk(folder), key=lambda file: file.relative_to(folder).as_posix())
    if not found:
        raise FileNotFoundError(f"{folder} has no images. Expected PNG, JPEG, WebP, BMP or TIFF files in it or below.")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() not in _COMPANIONS:
                yield Path(root, name)


def splits_of(
    folder: Path, files: Sequence[Path], validation: float, test: float, seed: int
) -> tuple[Indices, str, Kinds]:
    """Which files are in which part, how that came about as part of a sentence, and the folders below of each file.

    Folders called train and test are the parts; without one for validation, that fraction of train is held out. Of train and
    validation alone, as ImageNet has them, the second is the test part: numbers are to come from images that chose nothing.
    """
    kinds = [file.relative_to(folder).parts[:-1] for file in files]
    parts = [_PART_OF.get(kind[0].lower()) if kind else None for kind in kinds]
    if None in parts or "train" not in parts or len(set(parts)) < 2:
        return random_split(len(files), validation, test, seed), f"split at random with seed {seed}", kinds
    train, held, tested = (torch.tensor([n for n, part in enumerate(parts) if part == name]) for name in PART_NAMES)
    kinds = [kind[1:] for kind in kinds]
    if len(held) and len(tested):
        return (train, held, tested), "split as the folders say", kinds
    what = "test as the folders say" if len(tested) else "test is the folder of validation images, as there is no other"
    rest, chosen = hold_out(len(train), validation, seed)
    how = f"{what}, validation held out of train at random with seed {seed}"
    return (train[rest], train[chosen], tested if len(tested) else held), how, kinds


def classes(kinds: Kinds) -> tuple[Tensor | None, tuple[str, ...]]:
    """Class numbers, int64 of shape (N,), and names, if each file lies one folder down; otherwise None and no names."""
    if not all(len(kind) == 1 for kind in kinds):
        return None, ()
    names = sorted({kind[0] for kind in kinds})
    number = {name: n for n, name in enumerate(names)}
    return torch.tensor([number[kind[0]] for kind in kinds]), tuple(names)
