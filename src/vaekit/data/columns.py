"""The columns of a table: how each becomes the values that a model sees, and how such values become the column again."""

# N rows, W values of an example, k levels of a category

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.data.coded import Coded
from vaekit.data.frames import as_csv, as_parquet, dated, pandas, seconds
from vaekit.errors import closest
from vaekit.files import write_atomically

Numbers = npt.NDArray[np.float64]
Level = str | int | float | bool | None
VERSION = 1


@dataclass(frozen=True)
class Number:
    r"""A column of numbers or times, which a model sees as :math:`z = (x - m) / s`, or :math:`(\log(1 + x) - m) / s`.

    Times are seconds since 1970. In float32 a value comes back to a relative error of 6e-8 of its distance from the mean, which
    for whole numbers is exact up to eight million.

    Attributes:
        name: Of the column.
        dtype: What pandas calls its type.
        mean: m, of the training part, after the logarithm where there is one.
        scale: s, its standard deviation, with divisor N.
        low: Smallest value of the training part.
        high: Largest value of the training part.
        step: All values are multiples of it: 1 for whole numbers, 0.01 for two decimals, 86400 for days; None for any value.
        log: Whether the logarithm is taken.
        optional: Whether the column has missing values; a model then sees 0 for those, and beside it whether it was observed.
        form: How a time is written, for columns that are text; empty for all others.
    """

    name: str
    dtype: str
    mean: float
    scale: float
    low: float
    high: float
    step: float | None = None
    log: bool = False
    optional: bool = False
    form: str = ""

    @property
    def layout(self) -> int:
        """-1 where values may be missing, else 0."""
        return -1 if self.optional else 0

    @property
    def labels(self) -> list[str]:
        """Names of the values that a model sees."""
        return [self.name, f"{self.name} observed"] if self.optional else [self.name]

    def numbers(self, series: Any) -> Numbers:
        """The values, (N,), NaN where they are missing.

        Raises:
            ValueError: If they are no numbers, infinite, missing where none may be, or have no logarithm.
        """
        x = as_numbers(series, self.form)
        if np.isinf(x).any():
            raise ValueError(
                f"column {self.name!r} is infinite in {np.isinf(x).sum()} of {len(x)} rows. Expected finite numbers: "
                f"remove these rows, or write \"data.missing=['inf','-inf']\" to take them for missing."
            )
        if not self.optional and np.isnan(x).any():
            raise ValueError(
                f"column {self.name!r} is missing in {np.isnan(x).sum()} of {len(x)} rows, "
                "and has no missing values in the data that the model was trained on."
            )
        if self.log and np.nanmin(x, initial=0.0) < 0:
            raise ValueError(
                f"column {self.name!r} has values below 0, down to {np.nanmin(x):.6g}, and data.log takes log(1 + x). "
                f"Leave {self.name} out of data.log."
            )
        return x

    def encode(self, series: Any) -> Numbers:
        """What a model sees, (N,), 0 where a value is missing."""
        x = self.numbers(series)
        z: Numbers = ((np.log1p(x) if self.log else x) - self.mean) / self.scale
        return np.where(np.isnan(z), 0.0, z)

    def decode(self, values: Numbers) -> Numbers:
        """Back from (N, 1), or (N, 2) with the probability that a value is observed; NaN where that is below one half.

        A mean of p(x|z) is of the value times whether it is observed; it is divided by this probability.
        """
        z = values[:, 0]
        if self.optional:
            observed = values[:, 1]
            z = np.where(observed >= 0.5, z / np.maximum(observed, 0.5), np.nan)
        x = z * self.scale + self.mean
        # where exp overflows, the largest float that there is: no model means it
        return np.expm1(np.minimum(x, 700.0)) if self.log else x

    def generated(self, numbers: Numbers) -> Numbers:
        """Numbers moved into the range of the training part, which a normal density leaves, and to multiples of the step."""
        return rounded(np.clip(numbers, self.low, self.high), self.step)

    def series(self, numbers: Numbers) -> Any:
        """The column, in its own type."""
        x = rounded(numbers, self.step)
        pd = pandas()
        if self.form or self.dtype.startswith("datetime64"):
            return dated(x, self.dtype, self.form)
        if self.dtype.lower().startswith(("int", "uint")):
            limits = np.iinfo(self.dtype.lower())
            whole = np.clip(x, max(limits.min, -(2**53)), min(limits.max, 2**53))
            return pd.Series(whole, dtype="Float64").astype("Int64").astype(self.dtype)
        return pd.Series(x).astype(self.dtype)


@dataclass(frozen=True)
class Category:
    """A column of names, which a model sees as a unit vector.

    Attributes:
        name: Of the column.
        dtype: What pandas calls its type.
        levels: The values that it has, in the order of the unit vectors; None stands for a missing one.
        inner: Of the type `category`, the type of the values.
        ordered: Of the type `category`, whether its values have an order.
    """

    name: str
    dtype: str
    levels: tuple[Level, ...]
    inner: str = ""
    ordered: bool = False

    @property
    def layout(self) -> int:
        """The number of levels, k."""
        return len(self.levels)

    @property
    def labels(self) -> list[str]:
        """Names of the values that a model sees."""
        return [f"{self.name}={'missing' if level is None else level}" for level in self.levels]

    def codes(self, series: Any) -> npt.NDArray[np.int64]:
        """Which level each row has, (N,).

        Raises:
            ValueError: For a value that is none of the levels.
        """
        codes, found = pandas().factorize(series)
        places = {level: place for place, level in enumerate(self.levels)}
        given = [plain(value) for value in found]
        strange = [value for value in given if value not in places]
        if strange or (None not in places and (codes < 0).any()):
            shown = ", ".join(map(repr, strange[:5])) or "missing values"
            raise ValueError(
                f"column {self.name!r} has {shown}, which is not among its {len(self.levels)} levels: "
                f"{', '.join(map(repr, self.levels[:10]))}{', ...' if len(self.levels) > 10 else ''}."
            )
        table = np.array([*(places[value] for value in given), places.get(None, -1)], dtype=np.int64)
        numbers: npt.NDArray[np.int64] = table[codes]
        return numbers

    def decode(self, values: Numbers) -> Numbers:
        """The level with the largest of k values, (N,), for a unit vector or probabilities, (N, k)."""
        codes: Numbers = values.argmax(1).astype(np.float64)
        return codes

    def generated(self, numbers: Numbers) -> Numbers:
        """The same: there are no other levels."""
        return numbers

    def series(self, numbers: Numbers) -> Any:
        """The column, in its own type."""
        pd, codes = pandas(), numbers.astype(np.int64)
        values = np.empty(len(self.levels), dtype=object)
        values[:] = self.levels
        column = pd.Series(values[codes], dtype=object)
        if self.dtype != "category":
            return column.astype(self.dtype)
        known = pd.Index([level for level in self.levels if level is not None]).astype(self.inner)
        return column.astype(pd.CategoricalDtype(known, self.ordered))


@dataclass(frozen=True)
class Constant:
    """A column that has one value throughout the training part: no model sees it, and it comes back on output."""

    of: Number | Category

    @property
    def name(self) -> str:
        """Of the column."""
        return self.of.name

    def series(self, count: int) -> Any:
        """The column, with `count` rows."""
        value = 0 if isinstance(self.of, Category) else self.of.low
        return self.of.series(np.full(count, float(value)))


Column = Number | Category | Constant
_KINDS: dict[str, type[Number] | type[Category]] = {"number": Number, "category": Category}


@dataclass(frozen=True)
class Columns:
    """All columns of a table, in its order: from frames to what a model sees and back.

    Attributes:
        columns: Each with what it needs for both ways.
    """

    columns: tuple[Column, ...]

    @cached_property
    def seen(self) -> tuple[Number | Category, ...]:
        """The columns that a model sees: all but the constant ones."""
        return tuple(column for column in self.columns if not isinstance(column, Constant))

    @property
    def layout(self) -> tuple[int, ...]:
        """How the columns lie in an example: 0 for a number, -1 for one that may be missing, k for a category."""
        return tuple(column.layout for column in self.seen)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the W values of an example."""
        return tuple(label for column in self.seen for label in column.labels)

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]

    def __getitem__(self, name: str) -> Number | Category:
        """The column called `name`, of those that a model sees."""
        return next(column for column in self.seen if column.name == name)

    def coded(self, frame: Any) -> Coded:
        """The rows of a frame in a compact form that becomes dense a batch at a time.

        Raises:
            ValueError: If a column is not there, or has values that it cannot have; it is named.
        """
        numbers, observed, codes = list[Numbers](), list[Any](), list[Any]()
        for column in self.seen:
            if column.name not in frame.columns:
                raise ValueError(f"there is no column {column.name!r}{closest(column.name, map(str, frame.columns))}")
            if isinstance(column, Category):
                codes.append(column.codes(frame[column.name]))
                continue
            numbers.append(column.encode(frame[column.name]))
            if column.optional:
                observed.append(~np.isnan(column.numbers(frame[column.name])))
        n = len(frame)
        return Coded(
            self.layout,
            torch.from_numpy(_beside(numbers, n).astype(np.float32)),
            torch.from_numpy(_beside(observed, n).astype(np.uint8)),
            torch.from_numpy(_beside(codes, n).astype(np.int32)),
        )

    def encode(self, frame: Any) -> Tensor:
        """What a model sees of the rows of a frame, float32, shape (N, W).

        Raises:
            ValueError: As `coded`.
        """
        return self.coded(frame).index_select(0, torch.arange(len(frame)))

    def decode(self, values: npt.NDArray[Any]) -> Any:
        """The frame that `encode` makes these values of, (N, W): original columns, types and order."""
        return self._frame(self.numbers(values), len(values))

    def generated(self, values: npt.NDArray[Any]) -> Any:
        """The frame that values made by a model stand for, (N, W): `decode` with numbers in the range of the training part."""
        numbers = self.numbers(values)
        inside = {column.name: column.generated(numbers[column.name]) for column in self.seen}
        return self._frame(inside, len(values))

    def numbers(self, values: npt.NDArray[Any]) -> dict[str, Numbers]:
        """Each column that a model sees as numbers, (N,): values, NaN where missing, or codes of levels.

        Raises:
            ValueError: If the values are not of shape (N, W).
        """
        values = np.asarray(values, dtype=np.float64)
        width = sum(map(column_width, self.layout))
        if values.ndim != 2 or values.shape[1] != width:
            raise ValueError(f"values have shape {values.shape}, expected (N, {width}) for these columns.")
        found, start = {}, 0
        for column in self.seen:
            stop = start + column_width(column.layout)
            found[column.name], start = column.decode(values[:, start:stop]), stop
        return found

    def _frame(self, numbers: Mapping[str, Numbers], count: int) -> Any:
        made = {
            column.name: column.series(count) if isinstance(column, Constant) else column.series(numbers[column.name])
            for column in self.columns
        }
        return pandas().DataFrame(made)

    def state(self) -> dict[str, Any]:
        """For JSON; `from_state` gives the same columns again."""
        return {"version": VERSION, "columns": [_entry(column) for column in self.columns]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Columns:
        """The columns that `state` was made of.

        Raises:
            ValueError: If it is of another version.
        """
        if state.get("version") != VERSION:
            raise ValueError(f"columns are of version {state.get('version')!r}, expected {VERSION}. Train anew.")
        return cls(tuple(_column(entry) for entry in state["columns"]))


@dataclass(frozen=True)
class TableRestore:
    """The way back from what a model puts out to a table.

    Attributes:
        columns: Of the table.
    """

    columns: Columns
    draws = True  # a mean of categories is no category

    def decode(self, values: npt.NDArray[Any]) -> Any:
        """The frame that these values, (N, W), stand for, with numbers in the range of the training part."""
        return self.columns.generated(values)

    def write(self, values: npt.NDArray[Any], path: Path) -> Path:
        """Write the table as .csv, for people, and beside it as .parquet, which keeps every value and type; returns the first.

        In the CSV file, text that a spreadsheet would take for a formula (it begins with =, +, -, @, tab or return) has an
        apostrophe before it, and a missing value is an empty cell.
        """
        frame = self.decode(values)
        write_atomically(path.with_suffix(".parquet"), as_parquet(frame))
        write_atomically(path.with_suffix(".csv"), as_csv(frame))
        return path.with_suffix(".csv")

    def state(self) -> dict[str, Any]:
        """For JSON."""
        return self.columns.state()


def column_width(layout: int) -> int:
    """Values that a column takes in an example: 1 for a number, 2 for one that may be missing, k for a category."""
    return {0: 1, -1: 2}.get(layout, layout)


def as_numbers(series: Any, form: str = "") -> Numbers:
    """A column as float64, NaN where it is missing; times, or text of that form, in seconds since 1970."""
    if form or str(series.dtype).startswith("datetime64"):
        return seconds(series, form)
    try:
        numbers: Numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise ValueError(f"column {series.name!r} has values of type {series.dtype}, expected numbers.") from error
    return numbers


def rounded(numbers: Numbers, step: float | None) -> Numbers:
    """Numbers moved to multiples of `step`."""
    if step is None:
        return numbers
    if step < 1:
        return np.round(numbers, round(-np.log10(step)))
    return np.round(numbers / step) * step


def plain(value: Any) -> Level:
    """A value of a column as Python and JSON have it."""
    level: Level = value.item() if isinstance(value, np.generic) else value
    return level


def _beside(columns: Sequence[npt.NDArray[Any]], n: int) -> npt.NDArray[Any]:
    return np.stack(columns, 1) if columns else np.zeros((n, 0))


def _entry(column: Column) -> dict[str, Any]:
    if isinstance(column, Constant):
        return {**_entry(column.of), "constant": True}
    kind = next(kind for kind, made in _KINDS.items() if isinstance(column, made))
    return {"kind": kind, **asdict(column)}


def _column(entry: Mapping[str, Any]) -> Column:
    given = {name: _frozen(value) for name, value in entry.items() if name not in ("kind", "constant")}
    column = _KINDS[entry["kind"]](**given)
    return Constant(column) if entry.get("constant") else column


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else value
