"""pandas, imported when a table is first asked for; times in its columns; frames as the bytes of a file."""

# N rows

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.data.extra import extra

# how times are written in text, and the step that they are multiples of, in seconds
FORMS = {"%Y-%m-%d": 86400.0, "%Y-%m-%d %H:%M": 60.0, "%Y-%m-%d %H:%M:%S": 1.0, "%Y-%m-%dT%H:%M:%S": 1.0}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def pandas() -> Any:
    """The module pandas.

    Raises:
        ConfigError: If it is not installed; the message has the command.
    """
    return extra("pandas", "tables", "A table")


def pyarrow(name: str) -> Any:
    """A module of pyarrow, such as `csv`.

    Raises:
        ConfigError: If it is not installed; the message has the command.
    """
    return extra(f"pyarrow.{name}", "tables", "A table")


def seconds(series: Any, form: str) -> npt.NDArray[np.float64]:
    """Times as seconds since 1970, float64, NaN where they are missing.

    Raises:
        ValueError: If text is not of that form.
    """
    pd = pandas()
    try:
        times = pd.to_datetime(series, format=form or None, utc=True)
    except ValueError as error:
        raise ValueError(f"column {series.name!r} has times that are not of the form {form!r}: {error}.") from error
    # microseconds: they reach from the year -290,000 to 290,000
    whole = times.to_numpy(dtype="datetime64[us]").astype(np.int64)
    numbers: npt.NDArray[np.float64] = np.where(times.isna().to_numpy(), np.nan, whole / 1e6)
    return numbers


def dated(numbers: npt.NDArray[np.float64], dtype: str, form: str) -> Any:
    """Seconds since 1970 as a column of times, or of text of that form."""
    pd = pandas()
    missing = np.isnan(numbers)
    whole = np.round(np.where(missing, 0.0, numbers) * 1e6).astype(np.int64).astype("datetime64[us]")
    whole[missing] = np.datetime64("NaT")
    times = pd.Series(whole)
    if form:
        return times.dt.strftime(form).astype(object).where(~missing, None).astype(dtype)
    if "," in dtype:  # a time zone
        return times.dt.tz_localize("UTC").astype(dtype)
    return times.astype(dtype)


def as_csv(frame: Any) -> bytes:
    """The frame as CSV for people and their spreadsheets: what would be taken for a formula has an apostrophe before it."""
    safe = frame.rename(columns=_harmless)
    for place, (_, column) in enumerate(frame.items()):
        if not column.map(lambda value: isinstance(value, str) and _harmless(value) != value).any():
            continue
        safe.isetitem(place, column.astype(object).map(_harmless))
    # as RFC 4180 has it; with another end of line, pandas would leave a return inside a cell unquoted
    content: str = safe.to_csv(index=False, lineterminator="\r\n")
    return content.encode()


def as_parquet(frame: Any) -> bytes:
    """The frame as parquet: every value and type as it is."""
    pyarrow("parquet")
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
