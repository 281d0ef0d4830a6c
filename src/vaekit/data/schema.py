"""What the columns of a table are: numbers, categories, or neither, found in its values and told by the user's wishes."""

# N rows

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.data.columns import Category, Column, Columns, Constant, Level, Number, Numbers, plain
from vaekit.data.frames import FORMS, pandas
from vaekit.errors import closest

MOST_LEVELS = 1000  # of one category: beyond that its names tell rows apart and not kinds
_EXACT = 2**53  # whole numbers up to here are exact in float64
_DECIMALS = 6  # a column of numbers with more is taken for one that may have any value
_SHOWN = 5


@dataclass(frozen=True)
class TableWishes:
    """What a user wants of the columns of a table.

    Attributes:
        target: The column that is to be predicted from the others when a model is judged; a category. None for none.
        categories: Columns of whole numbers that are names of something.
        log: Columns of numbers from 0 whose logarithm, log(1 + x), a model is to see: those with heavy tails.
        drop: Columns to leave out.
    """

    target: str | None = None
    categories: Sequence[str] = ()
    log: Sequence[str] = ()
    drop: Sequence[str] = ()


@dataclass
class Notes:
    """What was found on the way and a reader should know, each entry naming its columns."""

    constant: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def warn(self, name: str) -> None:
        """Warn of all of it, in one line for each kind."""
        told = (
            (self.empty, "have no value at all; they are not modelled, and stay empty on output"),
            (
                self.constant,
                "have one value throughout the training part; they are not modelled, and have it on output",
            ),
            (self.unseen, "have levels that no training row has, which the model can only find improbable"),
        )
        for columns, said in told:
            if columns:
                more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
                # the level of the caller's caller would be in the library as well
                warnings.warn(f"{name}: columns {', '.join(columns[:_SHOWN])}{more} {said}.", stacklevel=2)


def chosen(frame: Any, wishes: TableWishes, name: str) -> Any:
    """The columns of a frame that are wanted.

    Raises:
        ValueError: If a wish names no column, or none is left.
    """
    wished = {
        "target": [] if wishes.target is None else [wishes.target],
        "categories": wishes.categories,
        "log": wishes.log,
        "drop": wishes.drop,
    }
    for key, columns in wished.items():
        for column in columns:
            if column not in frame.columns:
                raise ValueError(
                    f"data.{key} names {column!r}, which is no column of {name}{closest(column, frame.columns)}"
                )
            if key != "drop" and column in wishes.drop:
                raise ValueError(f"data.{key} and data.drop both name {column!r}.")
    left = frame[[column for column in frame.columns if column not in wishes.drop]]
    if not len(left.columns):
        raise ValueError(f"data.drop leaves no column of {name}.")
    return left


def infer(frame: Any, train: npt.NDArray[np.int64], wishes: TableWishes, name: str) -> Columns:
    """The columns of a table.

    Which levels a category has, and whether a column has missing values, is a fact of the whole table; means, scales and ranges
    are those of the training part alone. A column is a category if it is text, boolean or named so, and a number or time
    otherwise. Text of which every cell is a date (2024-01-31) or a time (2024-01-31 23:59, with or without seconds) is a time.

    Arguments:
        frame: The whole table.
        train: Positions of the training rows.
        wishes: Of the user.
        name: Of the table, for messages.

    Raises:
        ValueError: For a column that cannot be modelled; it is named, with what to write.
    """
    notes = Notes()
    columns = tuple(_column(frame[column], train, wishes, notes) for column in frame.columns)
    made = Columns(columns)
    if not made.seen:
        raise ValueError(f"{name}: all columns have one value each, so there is nothing to model.")
    if wishes.target is not None and not any(
        isinstance(column, Category) and column.name == wishes.target for column in made.seen
    ):
        raise ValueError(
            f"data.target={wishes.target} is no category of two levels or more, as classification needs. Write data.categories="
            f"[{wishes.target}] if its numbers are names of classes, or data.target=null."
        )
    notes.warn(name)
    return made


def _column(series: Any, train: npt.NDArray[np.int64], wishes: TableWishes, notes: Notes) -> Column:
    name, dtype = str(series.name), str(series.dtype)
    missing = series.isna().to_numpy()
    if missing.all():
        _must_not_be_logarithm(name, wishes, "has no value at all")
        notes.empty.append(name)
        return Constant(Category(name, dtype, (None,)))
    form = _form(series) if name not in wishes.categories else ""
    whole = dtype.lower().startswith(("int", "uint")) or (dtype == "object" and _are_integers(series))
    numeric = bool(form) or whole or dtype.lower().startswith(("float", "datetime64"))
    if not numeric or name in wishes.categories:
        _must_not_be_logarithm(name, wishes, "is a category")
        return _category(series, train, missing, notes)
    if whole:
        _must_be_exact(series, name)
    return _number(series, train, bool(missing.any()), name in wishes.log, form, notes)


def _number(
    series: Any, train: npt.NDArray[np.int64], optional: bool, log: bool, form: str, notes: Notes
) -> Number | Constant | Category:
    name, dtype = str(series.name), str(series.dtype)
    x = Number(name, dtype, 0.0, 1.0, 0.0, 0.0, log=log, optional=True, form=form).numbers(series)
    given = x[train][~np.isnan(x[train])]
    if not len(given):
        raise ValueError(
            f"column {name!r} has no value in any training row. Write data.drop=[{name}], or another data.seed."
        )
    low, high = float(given.min()), float(given.max())
    step = _step(x[~np.isnan(x)], dtype, form)
    if low == high and optional and not form and "datetime" not in dtype:
        return _category(series, train, np.isnan(x), notes)  # a value or none
    if low == high:
        notes.constant.append(name)
        return Constant(Number(name, dtype, low, 1.0, low, high, step, optional=False, form=form))
    z = np.log1p(given) if log else given
    scale = float(z.std())
    if not (scale > 0 and np.isfinite(scale)):
        raise ValueError(
            f"column {name!r} has values in [{low:.6g}, {high:.6g}], which float64 cannot standardise. Rescale it, or write "
            f"data.drop=[{name}]."
        )
    return Number(name, dtype, float(z.mean()), scale, low, high, step, log, optional, form)


def _category(
    series: Any, train: npt.NDArray[np.int64], missing: npt.NDArray[np.bool_], notes: Notes
) -> Category | Constant:
    name, dtype = str(series.name), str(series.dtype)
    found = list(series.cat.categories) if dtype == "category" else _ordered(series[~missing].unique())
    levels: list[Level] = [plain(value) for value in found]
    if not all(isinstance(level, (str, int, float)) for level in levels):
        strange = next(level for level in levels if not isinstance(level, (str, int, float)))
        raise ValueError(f"column {name!r} has {strange!r} of type {type(strange).__name__}, expected text or numbers.")
    if len(levels) > MOST_LEVELS:
        raise ValueError(
            f"column {name!r} has {len(levels):,} levels, such as {levels[0]!r} and {levels[1]!r}; expected at most "
            f"{MOST_LEVELS:,} of a category. Leave it out with data.drop=[{name}], or merge rare ones."
        )
    inner = str(series.cat.categories.dtype) if dtype == "category" else ""
    ordered = bool(series.cat.ordered) if dtype == "category" else False
    nullable = "boolean" if dtype == "bool" else dtype
    all_levels = (*levels, None) if missing.any() else tuple(levels)
    category = Category(name, nullable if missing.any() else dtype, all_levels, inner, ordered)
    if len(all_levels) == 1:
        notes.constant.append(name)
        return Constant(category)
    unseen = len(set(category.codes(series).tolist()) - set(category.codes(series.iloc[train]).tolist()))
    if unseen:
        notes.unseen.append(f"{name} ({unseen})")
    return category


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Sorted where they can be compared, else in the order of the table."""
    values = list(values)
    try:
        return sorted(values)
    except TypeError:
        return values


def _form(series: Any) -> str:
    """How the times of a column of text are written; empty for all other columns."""
    if pandas().api.types.is_string_dtype(series.dtype) and str(series.dtype) != "category":
        given = pandas().Series(series.dropna().unique()).astype("str")
        for form in FORMS if given[0][:4].isdecimal() else ():
            # seconds alone would take 2024-1-31 too, and give it back in other words
            times = pandas().to_datetime(given, format=form, errors="coerce")
            if times.notna().all() and bool((times.dt.strftime(form) == given).all()):
                return form
    return ""


def _step(x: Numbers, dtype: str, form: str) -> float | None:
    """What all values are multiples of."""
    if form:
        return FORMS[form]
    if dtype.startswith("datetime64"):
        return next((step for step in (86400.0, 60.0, 1.0) if not np.mod(x, step).any()), None)
    if not dtype.lower().startswith("float"):
        return 1.0
    # in float32, 0.1 is what float32 makes of it
    tolerance = 1e-6 if dtype.lower() == "float32" else 1e-12
    for decimals in range(_DECIMALS + 1):
        if np.allclose(np.round(x, decimals), x, rtol=tolerance, atol=0):
            return float(10.0**-decimals)
    return None


def _are_integers(series: Any) -> bool:
    return bool(series.dropna().map(lambda value: isinstance(value, int) and not isinstance(value, bool)).all())


def _must_be_exact(series: Any, name: str) -> None:
    given = series.dropna()
    low, high = int(given.min()), int(given.max())
    if max(-low, high) > _EXACT or str(series.dtype) == "object":
        raise ValueError(
            f"column {name!r} has whole numbers in [{low}, {high}], beyond 2**53, which float64 does not tell apart: they are "
            f"names rather than numbers. Leave it out with data.drop=[{name}], or write data.categories=[{name}]."
        )


def _must_not_be_logarithm(name: str, wishes: TableWishes, why: str) -> None:
    if name in wishes.log:
        raise ValueError(f"data.log names {name!r}, which {why}: expected a column of numbers.")
