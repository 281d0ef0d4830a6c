"""Numbers that examples are conditioned on, such as an age or a dose: read beside the data, standardised on the training part."""

# N examples, F conditions

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.data.npy import Array, read_arrays

_REMEDY = "Write data.conditions=NAME of an array in the .npz file, or data.conditions=FILE.npy."


def find_conditions(file: Path, arrays: Mapping[str, Array], conditions: str) -> Array:
    """The array called `conditions` in the archive, or in the .npy file of that path.

    Raises:
        FileNotFoundError: If there is no such .npy file.
        ValueError: If there is neither.
    """
    if conditions in arrays and len(arrays) > 1:
        return arrays[conditions]
    if conditions.lower().endswith(".npy"):
        return read_arrays(Path(conditions).expanduser())[""]
    held = ", ".join(filter(None, arrays)) or "one array"
    raise ValueError(f"{file} holds {held}, expected conditions called {conditions!r}. {_REMEDY}")


def as_conditions(values: npt.NDArray[Any], size: int, name: str) -> Tensor:
    """Conditions of `size` examples, float64, shape (N, F).

    Raises:
        ValueError: If they are not finite real numbers of shape (N,) or (N, F).
    """
    columns = values[:, None] if values.ndim == 1 else values
    if columns.ndim != 2 or len(columns) != size or not columns.shape[1] or columns.dtype.kind not in "biuf":
        raise ValueError(
            f"conditions {name} have shape {values.shape} and type {values.dtype}, "
            f"expected ({size},) or ({size}, F) and real numbers."
        )
    numbers = columns.astype(np.float64)
    rows = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(rows):
        shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        raise ValueError(
            f"conditions {name} are NaN or infinite in {len(rows)} of {size} rows: {shown}. "
            "Expected finite numbers; remove or fill these rows."
        )
    return torch.from_numpy(numbers)


def conditioned(
    splits: tuple[Split, Split, Split], conditions: tuple[Tensor, Tensor, Tensor], name: str
) -> tuple[tuple[Split, Split, Split], str]:
    r"""The splits with conditions :math:`(c - m) / s`, and what was done, as part of a sentence.

    :math:`m` and :math:`s` are the mean and the standard deviation (of divisor N) of the training part, so that nothing about
    the other parts is known to what is trained.

    Raises:
        ValueError: If a condition does not vary over the training part.
    """
    train = conditions[0]
    mean, deviation = train.mean(0), train.std(0, correction=0)
    constant = (train.amin(0) == train.amax(0)).nonzero().flatten().tolist()
    if constant:
        raise ValueError(
            f"conditions {name} do not vary over the training part in column {', '.join(map(str, constant))}. "
            "Leave out what is constant."
        )
    a, b, c = (
        replace(split, conditions=((values - mean) / deviation).to(torch.float32))
        for split, values in zip(splits, conditions, strict=True)
    )
    how = f"conditioned on {name} ({train.shape[1]} numbers, standardised by mean and standard deviation of the training part)"
    return (a, b, c), how
