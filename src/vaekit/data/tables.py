"""Data sets out of tables with columns of every kind: numbers, categories, times, and missing values among them."""

# N rows

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data.batch import Dataset, Split
from vaekit.data.columns import Category, Columns, Constant, TableRestore
from vaekit.data.delimited import read_frame
from vaekit.data.frames import pandas
from vaekit.data.schema import TableWishes, chosen, infer
from vaekit.data.splits import Indices, hold_out, random_split
from vaekit.data.transforms import value_range

REMEDY = "likelihood=columns"


def table(
    path: str | os.PathLike[str],
    target: str | None = None,
    categories: Sequence[str] | None = None,
    log: Sequence[str] | None = None,
    missing: str | Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """The data set in a table: .csv, .tsv (both may be .gz) or .parquet, with the names of the columns in its first line.

    Numbers are standardised by mean and standard deviation of the training part. Text, booleans and what `categories` names
    become unit vectors; a missing category is a level of its own. A number that may be missing is its value (0 where it is not
    there) and whether it is observed. Dates and times are numbers. Columns of one value are set aside. On output every column
    comes back, in its own type and place.

    Arguments:
        path: The file.
        target: The column that is to be predicted from the others when a model is judged; it stays among the data.
        categories: Columns of whole numbers that are names of something.
        log: Columns of numbers from 0 of which log(1 + x) is standardised: those with heavy tails.
        missing: A cell, or several, that stand for a missing value, as an empty one and NaN do.
        drop: Columns to leave out.
        validation: Fraction of the rows for validation.
        test: Fraction for the test part.
        seed: Of the split.

    Raises:
        FileNotFoundError: If there is no such file.
        DataFormatError: If it is damaged or no table.
        ConfigError: If pandas or pyarrow is not installed.
        ValueError: For a column that cannot be modelled, which is named, or too few rows for three parts.
    """
    file = Path(path).expanduser()
    wishes = TableWishes(target, tuple(categories or ()), tuple(log or ()), tuple(drop or ()))
    absent = (missing,) if isinstance(missing, str) else tuple(missing or ())
    frame = read_frame(file, absent, wishes.categories)
    name = file.stem.removesuffix(".csv").removesuffix(".tsv")
    indices = random_split(len(frame), validation, test, seed)
    return tabled(Frames(name, frame, indices, f"split at random with seed {seed}"), wishes)


@dataclass(frozen=True)
class Frames:
    """A table and how it is divided.

    Attributes:
        name: Of the data set.
        frame: All rows, in pandas.
        indices: Positions of the training, validation and test rows.
        splitting: How they were chosen, as part of a sentence.
    """

    name: str
    frame: Any
    indices: Indices
    splitting: str


def divided(name: str, train: Any, test: Any, validation: float, seed: int) -> Frames:
    """A table with a published test part; validation is held out from the other at random."""
    rest, held = hold_out(len(train), validation, seed)
    tested = torch.arange(len(train), len(train) + len(test))
    how = f"test is the official part, validation held out at random with seed {seed}"
    return Frames(name, pandas().concat([train, test], ignore_index=True), (rest, held, tested), how)


def tabled(frames: Frames, wishes: TableWishes) -> Dataset:
    """The data set made of a table.

    Raises:
        ValueError: For a column that cannot be modelled; it is named.
    """
    frame = chosen(frames.frame, wishes, frames.name)
    columns = infer(frame, frames.indices[0].numpy(), wishes, frames.name)
    whole = Split(columns.coded(frame), (), _labels(columns, frame, wishes.target))
    train, validation, test = (whole.part(index) for index in frames.indices)
    ranges = [value_range(part) for part in (train, validation, test)]
    return Dataset(
        name=frames.name,
        train=train,
        validation=validation,
        test=test,
        description=_description(frames, columns, wishes, (len(train), len(validation), len(test))),
        binary=False,
        low=min(low for low, _, _ in ranges),
        high=max(high for _, high, _ in ranges),
        class_names=_class_names(columns, wishes.target),
        remedies={"scale": REMEDY},
        feature_names=columns.labels,
        columns=columns.layout,
        restore=TableRestore(columns),
        target=wishes.target,
    )


def columns_of(dataset: Dataset) -> Columns | None:
    """The columns of a table, None for other data."""
    return dataset.restore.columns if isinstance(dataset.restore, TableRestore) else None


def _labels(columns: Columns, frame: Any, target: str | None) -> Tensor | None:
    if target is None:
        return None
    category = columns[target]
    assert isinstance(category, Category)
    return torch.from_numpy(category.codes(frame[target]).astype(np.int64))


def _class_names(columns: Columns, target: str | None) -> tuple[str, ...]:
    if target is None:
        return ()
    category = columns[target]
    assert isinstance(category, Category)
    return tuple("missing" if level is None else str(level) for level in category.levels)


def _description(frames: Frames, columns: Columns, wishes: TableWishes, sizes: tuple[int, int, int]) -> str:
    train, validation, test = sizes
    kinds: Mapping[str, int] = {
        "numbers": sum(kind == 0 for kind in columns.layout),
        "numbers that may be missing": sum(kind == -1 for kind in columns.layout),
        "categories": sum(kind > 0 for kind in columns.layout),
        "of one value, set aside": sum(isinstance(column, Constant) for column in columns.columns),
    }
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    logged = f" (of log(1 + x) for {', '.join(wishes.log)})" if wishes.log else ""
    return (
        f"{frames.name}: {train:,} training, {validation:,} validation and {test:,} test rows of {len(columns.columns)} columns "
        f"({counted}), {len(columns.labels)} values each; numbers standardised on the training part{logged}, categories as unit "
        f"vectors; {frames.splitting}."
    )
