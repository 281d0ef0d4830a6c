"""Caltech 101 Silhouettes: the outlines of objects, filled."""

# N examples, (C, H, W) = (1, 28, 28)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from vaekit.data.batch import Split
from vaekit.data.door import Parts
from vaekit.data.errors import DataFormatError
from vaekit.data.matlab import read_matlab, read_matlab_text
from vaekit.data.transforms import Scale

FILE = "caltech101_silhouettes_28_split1.mat"


def read_silhouettes(files: Mapping[str, Path]) -> Parts:
    """The three published parts, the object 1 and the ground 0, upright.

    Raises:
        DataFormatError: If the file is damaged or another one.
    """
    path = files[FILE]
    names = read_matlab_text(path, "classnames")
    train, validation, test = (_part(path, part, len(names)) for part in ("train", "val", "test"))
    return Parts(
        (train, validation, test),
        scaling="object 1 and ground 0 (the file has them the other way round)",
        splitting="split as published",
        class_names=names,
    )


def _part(path: Path, part: str, classes: int) -> Split:
    values, labels = read_matlab(path, f"{part}_data"), read_matlab(path, f"{part}_labels")
    if values.ndim != 2 or values.shape[1] != 784 or not np.isin(values, (0, 1)).all():
        raise DataFormatError(f"{path} has {part}_data of shape {values.shape}, expected (N, 784) and values 0 and 1.")
    numbers = labels.reshape(-1).astype(np.int64) - 1  # they start at 1
    if len(numbers) != len(values) or numbers.min() < 0 or numbers.max() >= classes:
        raise DataFormatError(
            f"{path} has {part}_labels of shape {labels.shape}, expected {len(values)} of 1 to {classes}."
        )
    upright = values.reshape(-1, 1, 28, 28).swapaxes(2, 3)  # stored column by column
    return Split(torch.from_numpy(1 - upright.astype(np.uint8)), (Scale(1.0),), torch.from_numpy(numbers))
