"""Data sets out of .npy and .npz files: tables and images, checked before anything is trained on them."""

# N examples, F features, (C, H, W) image

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.data.augment import Augmentation
from vaekit.data.batch import Dataset, Split
from vaekit.data.conditions import as_conditions, conditioned, find_conditions
from vaekit.data.door import Parts, Wishes, admit
from vaekit.data.npy import Array, read_arrays
from vaekit.data.splits import PART_NAMES, hold_out, random_split
from vaekit.data.transforms import Scale

_MAIN = ("x", "data", "X")
_LABELS = ("labels", "y")
_CHANNELS = frozenset({1, 3, 4})
_VALUE_FORMS = ("{}", "x_{}", "X_{}", "{}_data", "{}_x", "{}_images")
_LABEL_FORMS = ("y_{}", "labels_{}", "{}_labels", "{}_y")
_EXACT = 2**24  # integers up to here are exact in float32
_ROWS = 1024  # looked at together


def array(
    path: str | os.PathLike[str],
    key: str | None = None,
    labels: str | None = None,
    scale: float = 1.0,
    binarisation: str = "none",
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    resolution: int | None = None,
    augmentation: Mapping[str, Augmentation] | None = None,
    conditions: str | None = None,
) -> Dataset:
    """The data set in a .npy or .npz file.

    Shapes: (N, F) is a table; (N, H, W) are grey images; (N, C, H, W) are images if C is 1, 3 or 4, otherwise (N, H, W, C) are
    if the last axis is 1, 3 or 4. Types: uint8 and float32 are kept; bool becomes uint8, float64 and float16 become float32,
    other integers uint8 where they fit and else float32 if that holds them exactly (up to 2**24).

    An archive that holds train and test (also x_train, train_data, ...) is split as it says; if it has no validation part, that
    is held out at random from its training part. Anything else is split at random by the seed.

    Arguments:
        path: The file.
        key: Name of the array in an archive; None for the only one beside labels, or the one called x, data or X.
        labels: Name of the labels in an archive; None for labels or y if there. Numbers or strings, shape (N,).
        scale: Values are divided by it: 255 for bytes.
        binarisation: none, threshold, dynamic or static.
        validation: Fraction of the examples for validation.
        test: Fraction for the test part.
        seed: Of the split and of a static binarisation.
        resolution: Side of the squares that all images become: padded with zeros where the longer side is 3/4 of it to all of
            it, and otherwise resized by averaging areas to this longer side, then padded. None to leave their size.
        augmentation: How training images are changed each time they are shown, by a name of yours and in this order.
        conditions: Name of an array in the archive, or path of a .npy file: real numbers that the examples are conditioned on,
            shape (N,) or (N, F), standardised by the training part. An archive that is split has them split likewise.

    Raises:
        FileNotFoundError: If there is no such file.
        DataFormatError: If it is damaged or holds Python objects.
        ValueError: If shape, type or values will not do, or there are too few examples for three parts.
    """
    file = Path(path).expanduser()
    arrays = read_arrays(file)
    given = {} if key is not None else _given_splits(arrays)
    beside = _Beside(labels, conditions)
    if given:
        pieces, splitting = _as_given(file, arrays, given, beside, validation, seed)
    else:
        pieces, splitting = _at_random(file, arrays, key, beside, (validation, test), seed)
    scaling = "values as stored" if scale == 1 else f"value / {scale:g}"
    train, held, tested = (Split(piece.stored, (Scale(scale),), piece.labels) for piece in pieces)
    splits, notes = _conditioned((train, held, tested), pieces, conditions)
    parts = Parts(splits, scaling=scaling, splitting=splitting, class_names=pieces[0].class_names, notes=notes)
    return admit(file.stem, parts, Wishes(binarisation, seed, resolution, augmentation), rescale=_rescale(parts.splits))


@dataclass(frozen=True)
class _Beside:
    """Names of what lies beside the data in a file, None where the user gives none."""

    labels: str | None
    conditions: str | None


@dataclass(frozen=True)
class _Piece:
    stored: Tensor
    labels: Tensor | None
    class_names: tuple[str, ...]
    conditions: Tensor | None


_Pieces = tuple[_Piece, _Piece, _Piece]


def _conditioned(
    splits: tuple[Split, Split, Split], pieces: _Pieces, name: str | None
) -> tuple[tuple[Split, Split, Split], tuple[str, ...]]:
    given = [piece.conditions for piece in pieces if piece.conditions is not None]
    if name is None or len(given) < len(pieces):
        return splits, ()
    train, held, tested = given
    splits, how = conditioned(splits, (train, held, tested), name)
    return splits, (how,)


def _at_random(
    file: Path, arrays: Mapping[str, Array], key: str | None, beside: _Beside, sizes: tuple[float, float], seed: int
) -> tuple[_Pieces, str]:
    name = _main_name(file, arrays, key, beside)
    stored = _checked(arrays[name], _called(file, name))
    label_name = _label_name(file, arrays, beside.labels)
    numbers, names = (None, ()) if label_name is None else as_labels([arrays[label_name]], [len(stored)], label_name)
    c = None
    if beside.conditions is not None:
        c = as_conditions(find_conditions(file, arrays, beside.conditions), len(stored), beside.conditions)
    train, held, tested = (
        _Piece(
            torch.from_numpy(stored[index.numpy()]),
            None if numbers is None else numbers[0][index],
            names,
            None if c is None else c[index],
        )
        for index in random_split(len(stored), *sizes, seed)
    )
    return (train, held, tested), f"split at random with seed {seed}"


def _as_given(
    file: Path, arrays: Mapping[str, Array], given: Mapping[str, str], beside: _Beside, fraction: float, seed: int
) -> tuple[_Pieces, str]:
    stored = {part: as_stored(arrays[name], _called(file, name)) for part, name in given.items()}
    shapes = {part: tuple(values.shape[1:]) for part, values in stored.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{file} has parts of different shapes: {shapes}. Expected one shape of examples.")
    numbers, names = _given_labels(file, arrays, stored, beside.labels)
    conditions = _given_conditions(file, arrays, stored, beside.conditions)
    if "validation" in given:
        return _pieces(stored, numbers, conditions, names), "split as the file says"
    rest, held = hold_out(len(stored["train"]), fraction, seed)
    for table in (stored, numbers, conditions):
        if "train" in table:
            table["train"], table["validation"] = table["train"][rest], table["train"][held]
    how = f"test as the file says, validation held out at random with seed {seed}"
    return _pieces(stored, numbers, conditions, names), how


def _pieces(
    stored: Mapping[str, Tensor],
    numbers: Mapping[str, Tensor],
    conditions: Mapping[str, Tensor],
    names: tuple[str, ...],
) -> _Pieces:
    train, held, tested = (_Piece(stored[part], numbers.get(part), names, conditions.get(part)) for part in PART_NAMES)
    return train, held, tested


def _given_splits(arrays: Mapping[str, Array]) -> dict[str, str]:
    """Names of the arrays of the parts, where an archive has at least train and test."""
    found = {part: _first(arrays, words, _VALUE_FORMS) for part, words in PART_NAMES.items()}
    named = {part: name for part, name in found.items() if name is not None}
    return named if {"train", "test"} <= named.keys() else {}


def _given_labels(
    file: Path, arrays: Mapping[str, Array], stored: Mapping[str, Tensor], labels: str | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    forms = _LABEL_FORMS if labels is None else (f"{labels}_{{}}", f"{{}}_{labels}")
    found = {part: _first(arrays, PART_NAMES[part], forms) for part in stored}
    named = {part: name for part, name in found.items() if name is not None}
    if not named and labels is None:
        return {}, ()
    if len(named) < len(found):
        lacking = ", ".join(part for part in found if part not in named)
        raise ValueError(f"{file} has labels for some parts only, not for {lacking}. Found {', '.join(arrays)}.")
    sizes = [len(stored[part]) for part in named]
    numbers, names = as_labels([arrays[name] for name in named.values()], sizes, ", ".join(named.values()))
    return dict(zip(named, numbers, strict=True)), names


def _given_conditions(
    file: Path, arrays: Mapping[str, Array], stored: Mapping[str, Tensor], conditions: str | None
) -> dict[str, Tensor]:
    if conditions is None:
        return {}
    found = {part: _first(arrays, PART_NAMES[part], (f"{conditions}_{{}}", f"{{}}_{conditions}")) for part in stored}
    named = {part: name for part, name in found.items() if name is not None}
    if len(named) < len(found):
        wanted = ", ".join(f"{conditions}_{part}" for part in found if part not in named)
        raise ValueError(f"{file} is split and holds {', '.join(arrays)}, expected conditions called {wanted} too.")
    return {part: as_conditions(arrays[name], len(stored[part]), name) for part, name in named.items()}


def _first(arrays: Mapping[str, Array], words: tuple[str, ...], forms: tuple[str, ...]) -> str | None:
    names = (form.format(word) for word in words for form in forms)
    return next((name for name in names if name in arrays), None)


def _main_name(file: Path, arrays: Mapping[str, Array], key: str | None, beside: _Beside) -> str:
    if key is not None and key in arrays:
        return key
    others = [name for name in arrays if len(arrays) == 1 or name not in {beside.labels, beside.conditions, *_LABELS}]
    if key is None and len(others) == 1:
        return others[0]
    usual = next((name for name in _MAIN if name in arrays), None)
    if key is None and usual is not None:
        return usual
    wanted = "an array called x, data or X" if key is None else f"an array called {key!r}"
    raise ValueError(f"{file} holds {', '.join(arrays) or 'one array'}, expected {wanted}. Write data.key=NAME.")


def _label_name(file: Path, arrays: Mapping[str, Array], labels: str | None) -> str | None:
    if labels is None:
        return next((name for name in _LABELS if name in arrays and len(arrays) > 1), None)
    if labels in arrays and len(arrays) > 1:
        return labels
    raise ValueError(
        f"{file} holds {', '.join(filter(None, arrays)) or 'one array'}, expected labels called {labels!r}. "
        "Write data.labels=NAME of an array in an .npz file beside the data."
    )


def _called(file: Path, name: str) -> str:
    return f"{name} in {file}" if name else str(file)


def as_stored(values: npt.NDArray[Any], name: str) -> Tensor:
    """Values as they are kept: uint8 or float32, shape (N, F) or (N, C, H, W).

    Raises:
        ValueError: If the shape, the type or the values will not do; the message has what was found and expected.
    """
    shaped = _checked(values, name)
    return torch.from_numpy(shaped.copy() if not shaped.flags.writeable else shaped)


def _checked(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """As `as_stored`, but what is still in the file stays there."""
    shaped = np.ascontiguousarray(_as_examples(_as_type(values, name), name))
    _must_be_finite(shaped, name)
    return shaped


def _as_type(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # an overflow becomes infinite and is then refused with its row
            return values.astype(np.float32, copy=False)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} has values of type {values.dtype}, expected real numbers or booleans.")
    if values.dtype == np.uint8 or not values.size:
        return values
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high <= 255:
        return values.astype(np.uint8)
    if max(-low, high) > _EXACT:
        raise ValueError(
            f"{name} has integers in [{low}, {high}], expected at most {_EXACT} in size, which float32 holds exactly. "
            "Convert them yourself: array.astype('float32')."
        )
    return values.astype(np.float32)


def _as_examples(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    if values.size:
        if values.ndim == 2:
            return values
        if values.ndim == 3:
            return values[:, None]
        if values.ndim == 4 and values.shape[1] in _CHANNELS:
            return values
        if values.ndim == 4 and values.shape[3] in _CHANNELS:
            return np.moveaxis(values, 3, 1)
    raise ValueError(
        f"{name} has shape {values.shape}, expected (N, F) for a table, or for images (N, H, W), (N, C, H, W) or (N, H, W, C) "
        "with C of 1, 3 or 4, and nothing empty. Reshape it and save it again."
    )


def _must_be_finite(values: npt.NDArray[Any], name: str) -> None:
    if values.dtype.kind != "f" or (np.isfinite(values.min()) and np.isfinite(values.max())):
        return
    rows = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    shown = ", ".join(str(row) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")
    raise ValueError(
        f"{name} has NaN or infinite values (in float32) in {len(rows)} of {len(values)} rows: {shown}. "
        "Expected finite numbers. Remove or fill these rows and save it again."
    )


def as_labels(arrays: list[npt.NDArray[Any]], sizes: list[int], name: str) -> tuple[list[Tensor], tuple[str, ...]]:
    """Class numbers 0, 1, ... of labels given as numbers or strings, in their sorted order, and the names of the classes.

    Raises:
        ValueError: If an array of labels is not of shape (N,), or holds neither whole numbers nor strings.
    """
    flat = []
    for values, size in zip(arrays, sizes, strict=True):
        column = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        whole = column.dtype.kind in "biuU" or (column.dtype.kind == "f" and bool((column == np.round(column)).all()))
        if column.shape != (size,) or not whole:
            raise ValueError(
                f"labels {name} have shape {values.shape} and type {values.dtype}, expected ({size},) and whole numbers or strings."
            )
        flat.append(column.astype(np.int64) if column.dtype.kind in "bf" else column)
    classes, numbers = np.unique(np.concatenate(flat), return_inverse=True)
    tensor = torch.from_numpy(numbers.astype(np.int64))
    return list(torch.split(tensor, sizes)), tuple(str(value) for value in classes)


def _rescale(splits: tuple[Split, Split, Split]) -> str:
    highest = max(float(split.dense.max()) for split in splits)
    whole = all(bool((rows == rows.round()).all()) for split in splits for rows in torch.split(split.dense, _ROWS))
    # whole numbers up to 255 are bytes, and up to 65,535 two of them; anything else is divided by its maximum
    bound = next((b for b in (255, 65535) if whole and 1 < highest <= b), highest)
    return f"data.scale={bound:.10g}"
