"""Numbers in words: as many digits as the standard error justifies, in tables for the terminal and for a page."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from vaekit.report.markup import Markup, element, visible

HEADER = ("name", "value", "", "unit", "n")
_MOST_DIGITS = 15  # of a double


class Measured(Protocol):
    """What is printed: a value, its standard error, its unit, and from how many examples. An `Estimate` is one."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def standard_error(self) -> float: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102


def digits(value: float, standard_error: float) -> tuple[str, str]:
    """Write a value and its standard error to the last digit that the error justifies: two digits of the error.

    Returns:
        Both as text, such as `("-24.31", "0.42")`. The error is empty where there is none, "unknown" where it is no
        number; the value is "not finite" where it is not.
    """
    value, standard_error = float(value), float(standard_error)
    if not math.isfinite(value):
        return "not finite", ""
    if standard_error == 0:
        return _exact(value), ""
    if not math.isfinite(standard_error) or standard_error < 0:
        return _exact(value), "unknown"
    size = max(_exponent(value), _exponent(standard_error))
    last = _exponent(f"{standard_error:.1e}") - 1
    if size - last >= _MOST_DIGITS:
        return _exact(value), f"{standard_error:.1e}"  # an error below the last digit of a double
    power = 0 if -5 <= size < 9 else size
    return _fixed(value, last, power), _fixed(standard_error, last, power)


def written(estimate: Measured) -> str:
    """Write an estimate with its unit: "-24.31 ± 0.42 nats". The unit "1" is not written."""
    value, error = digits(estimate.value, estimate.standard_error)
    return " ".join(part for part in (value, f"± {error}" if error else "", unit(estimate)) if part)


def unit(estimate: Measured) -> str:
    """Give the unit as it is printed: nothing for pure numbers, and nothing behind a value that is not finite."""
    return "" if estimate.unit == "1" or not math.isfinite(estimate.value) else estimate.unit


def plain_table(metrics: Mapping[str, Measured]) -> str:
    """Give the metrics as aligned lines for the terminal; control characters in names are replaced."""
    rows = [HEADER, *_rows(metrics)]
    clean = [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in clean) for column in range(len(HEADER))]
    return "\n".join(_line(row, widths) for row in clean)


def html_table(metrics: Mapping[str, Measured], notes: Mapping[str, str] | None = None) -> Markup:
    """Give the metrics as an HTML table.

    Arguments:
        metrics: Estimates by name.
        notes: How a metric was estimated, by its name, where that is known; a last column if any is.
    """
    notes = notes or {}
    header = (*HEADER, "estimator") if notes else HEADER
    rows = [(*row, notes.get(name, "")) if notes else row for name, row in zip(metrics, _rows(metrics), strict=True)]
    kinds = ("name", "value", "error", "unit", "count", "note")
    head = element(
        "tr", *(element("th", text, class_=kind, scope="col") for text, kind in zip(header, kinds, strict=False))
    )
    body = (
        element("tr", *(element("td", text, class_=kind) for text, kind in zip(row, kinds, strict=False)))
        for row in rows
    )
    return element("table", element("thead", head), element("tbody", *body), class_="numbers")


def _rows(metrics: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, estimate in metrics.items():
        value, error = digits(estimate.value, estimate.standard_error)
        count = f"{estimate.n:,}" if estimate.n else ""
        rows.append((name, value, f"± {error}" if error else "", unit(estimate), count))
    return rows


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, value, error, unit_, count = cells
    line = f"{name:<{widths[0]}}  {value:>{widths[1]}} {error:<{widths[2]}} {unit_:<{widths[3]}}  {count:>{widths[4]}}"
    return line.rstrip()


def _exponent(number: float | str) -> int:
    text = number if isinstance(number, str) else f"{number:.14e}"
    return int(text.split("e")[1]) if float(text) else -400


def _fixed(number: float, last: int, power: int) -> str:
    """Write the number rounded to 10**last, in units of 10**power."""
    rounded = Decimal(number).scaleb(-power).quantize(Decimal(1).scaleb(last - power))
    text = f"{rounded:f}"
    text = text.removeprefix("-") if not rounded else text
    return text + (f"e{power:+03d}" if power else "")


def _exact(value: float) -> str:
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"
