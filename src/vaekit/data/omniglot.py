"""OMNIGLOT, handwritten characters of fifty alphabets: from the original images, and as the paper on IWAE has it."""

# N examples, (C, H, W) = (1, 28, 28)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.data.door import Parts
from vaekit.data.errors import DataFormatError
from vaekit.data.matlab import read_matlab
from vaekit.data.npy import read_arrays
from vaekit.data.resize import area_resize
from vaekit.data.transforms import Scale

BACKGROUND, EVALUATION = "images_background.npz", "images_evaluation.npz"
CHARDATA = "chardata.mat"
_SIDE, _DRAWERS = 105, 20
_AT_ONCE = 16
_VALIDATION_DRAWERS = 2
_IWAE_VALIDATION = 1345


def read_omniglot(files: Mapping[str, Path]) -> Parts:
    """Training and validation images from the background alphabets, test images from the others; a class is a character.

    Raises:
        DataFormatError: If a file is damaged or another one.
    """
    background, evaluation = _characters(files[BACKGROUND]), _characters(files[EVALUATION])
    kept = _DRAWERS - _VALIDATION_DRAWERS
    known, unknown = len(background), len(evaluation)
    return Parts(
        (
            _drawn(background[:, :kept], 0),
            _drawn(background[:, kept:], 0),
            _drawn(evaluation, known),
        ),
        scaling=f"ink, resized from {_SIDE} x {_SIDE} to 28 x 28 pixels by averaging areas, to 8 bits, value / 255",
        splitting=(
            f"test is the {unknown} characters of the evaluation alphabets, none of which is seen in training; "
            f"validation is the last {_VALIDATION_DRAWERS} of {_DRAWERS} drawers of each background character"
        ),
        class_names=tuple(f"character {number + 1}" for number in range(known + unknown)),
        notes=(
            "neither images nor split are those of the paper on IWAE, so numbers are not comparable with it: that is omniglot_iwae",
        ),
    )


def _characters(path: Path) -> Tensor:
    """The ink of a file, uint8, shape (characters, drawers, 28, 28)."""
    paper = read_arrays(path).get("images", np.zeros(0))
    if paper.dtype != np.bool_ or paper.shape[1:] != (_DRAWERS, _SIDE, _SIDE) or not len(paper):
        raise DataFormatError(
            f"{path} has images of type {paper.dtype} and shape {paper.shape}, "
            f"expected booleans of (characters, {_DRAWERS}, {_SIDE}, {_SIDE})."
        )
    # in the file, paper is True; a few characters at once, as the whole in bytes would be 200 MB more
    chunks = (paper[start : start + _AT_ONCE] for start in range(0, len(paper), _AT_ONCE))
    ink = (torch.from_numpy(np.where(chunk, np.uint8(0), np.uint8(255))) for chunk in chunks)
    return torch.cat([area_resize(chunk, (28, 28)) for chunk in ink])


def _drawn(characters: Tensor, first: int) -> Split:
    labels = torch.arange(first, first + len(characters)).repeat_interleave(characters.shape[1])
    return Split(characters.reshape(-1, 1, 28, 28), (Scale(255),), labels)


def read_omniglot_iwae(files: Mapping[str, Path]) -> Parts:
    """The 24,345 training and 8,070 test images of Burda et al. (2016), the last 1,345 training images for validation.

    Raises:
        DataFormatError: If the file is damaged or another one.
    """
    path = files[CHARDATA]
    train, test = _columns(path, "data"), _columns(path, "testdata")
    if len(train) <= _IWAE_VALIDATION:
        raise DataFormatError(f"{path} has {len(train)} training images, expected more than {_IWAE_VALIDATION:,}.")
    scale = Scale(1.0)
    splits = (
        Split(train[:-_IWAE_VALIDATION].clone(), (scale,)),
        Split(train[-_IWAE_VALIDATION:].clone(), (scale,)),
        Split(test, (scale,)),
    )
    return Parts(
        splits,
        scaling="values as stored",
        splitting=f"split of the paper on IWAE, its validation part the last {_IWAE_VALIDATION:,} training images",
        notes=("the images are not those of data=omniglot, so numbers of the two are not comparable",),
    )


def _columns(path: Path, variable: str) -> Tensor:
    values = read_matlab(path, variable)
    good = values.ndim == 2 and len(values) == 784 and values.size
    if not good or not 0 <= float(values.min()) <= float(values.max()) <= 1:
        raise DataFormatError(f"{path} has {variable} of shape {values.shape}, expected (784, N) and values in [0, 1].")
    # a column is an image, stored column by column
    images = values.T.reshape(-1, 1, 28, 28).swapaxes(2, 3)
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
