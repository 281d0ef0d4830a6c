"""A comparison of runs as plain values, and the table of it as CSV that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaekit.files import write_atomically
from vaekit.report.markup import visible
from vaekit.report.tables import digits

# a spreadsheet takes a cell that begins so for a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


@dataclass(frozen=True)
class Column:
    """One number of every run.

    Attributes:
        key: For scripts, such as "test/elbo".
        title: For readers.
        split: Whose examples: validation, test or ood.
        unit: nats, dB, dimensions, or 1.
        higher: Whether more is better; None where neither is.
        apart: Why the runs do not compare by it; empty where they do.
    """

    key: str
    title: str
    split: str
    unit: str = "1"
    higher: bool | None = None
    apart: str = ""


@dataclass(frozen=True)
class Cell:
    """A number of a run, nan where it has none.

    Attributes:
        value: The number.
        error: Its standard error; 0 for a number that is known exactly.
        note: How it was estimated, or why there is none.
    """

    value: float = math.nan
    error: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A run: its folder, the settings in which the runs differ, and its numbers, in the order of the columns."""

    run: str
    settings: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Picture:
    """A PNG beside the page, what it is called and what it shows; the main one stands before the table."""

    path: Path
    title: str
    text: str
    main: bool = False


@dataclass(frozen=True)
class Group:
    """Runs on the same data, best first.

    Attributes:
        title: Of the data.
        facts: What they have in common, and what must be known to read the numbers.
        settings: Names of what differs.
        columns: Of the table.
        lines: One for each run.
        order: By what they are ordered, in words.
        best: Position of the column that orders them, or None.
        pictures: Of the group.
        notes: What was left out of it, and why.
    """

    title: str
    facts: tuple[str, ...]
    settings: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    order: str
    best: int | None = None
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Groups of runs that compare with each other, and what was found beside them.

    Attributes:
        searched: Folders, as given.
        groups: With one run or more each.
        left_out: A line for each run that is in no table, with the reason.
    """

    searched: tuple[str, ...]
    groups: tuple[Group, ...]
    left_out: tuple[str, ...] = ()


def write_csv(comparison: Comparison, path: Path) -> Path:
    """Write the table: a line for each run, and behind each number a column with its standard error.

    Groups stand one below the other with the columns of all of them; a number that there is not is an empty cell. Numbers are
    written to the last digit of a double. Text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    settings = list(dict.fromkeys(name for group in comparison.groups for name in group.settings))
    columns = list(dict.fromkeys(column.key for group in comparison.groups for column in group.columns))
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    header = ["data", "rank", "run", *settings]
    table.writerow([neutral(name) for name in header] + [name for key in columns for name in (key, f"{key}_se")])
    for group in comparison.groups:
        for rank, line in enumerate(group.lines, 1):
            given = dict(zip(group.settings, line.settings, strict=True))
            found = {column.key: cell for column, cell in zip(group.columns, line.cells, strict=True)}
            row = [
                neutral(group.title),
                str(rank),
                neutral(line.run),
                *(neutral(given.get(name, "–")).removeprefix("–") for name in settings),
            ]
            table.writerow(row + [number for key in columns for number in _numbers(found.get(key, Cell()))])
    write_atomically(path, file.getvalue().encode())
    return path


def _numbers(cell: Cell) -> Iterator[str]:
    known = math.isfinite(cell.value)
    yield repr(float(cell.value)) if known else ""
    yield repr(float(cell.error)) if known and math.isfinite(cell.error) else ""


def neutral(text: str) -> str:
    """Text as a cell of a table: on one line, visible, and no formula. A plain number stays one."""
    shown = visible(" ".join(str(text).split()))
    return f"'{shown}" if shown.startswith(_FORMULA) and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def best_first(lines: Sequence[Line], column: int | None, higher: bool | None) -> tuple[Line, ...]:
    """Lines by a column, those without a number last; by the name of the run where there is no column."""
    if column is None or higher is None:
        return tuple(sorted(lines, key=lambda line: line.run))

    def order(line: Line) -> tuple[bool, float, str]:
        value = line.cells[column].value
        known = math.isfinite(value)
        return not known, (-value if higher else value) if known else 0.0, line.run

    return tuple(sorted(lines, key=order))


# settings that the terminal has room for
_SETTINGS = 4


def plain_group(group: Group, width: int = 118) -> str:
    """The table of a group for the terminal: the column that orders it first, and as many others as fit."""
    lead = [] if group.best is None else [group.best]
    beside = (place for place, column in enumerate(group.columns) if place not in lead and column.split == "test")
    columns = [group.columns[place] for place in (*lead, *beside)]
    heads = [["", *(str(rank) for rank in range(1, len(group.lines) + 1))]]
    for number, name in enumerate(group.settings[:_SETTINGS]):
        heads.append([visible(name.rpartition(".")[2]), *(visible(line.settings[number]) for line in group.lines)])
    if not group.settings:
        heads.append(["run", *(visible(line.run) for line in group.lines)])
    before = len(heads)
    for column in columns:
        place = group.columns.index(column)
        title = f"{column.split} {column.title}{' †' if column.apart else ''}"
        heads.append([title, *(_plain(line.cells[place]) for line in group.lines)])
    widths = [max(map(len, head)) for head in heads]
    count = before + 1
    while count < len(heads) and sum(widths[: count + 1]) + 2 * count <= width:
        count += 1
    rows = [
        "  ".join(f"{head[row]:<{size}}" for head, size in zip(heads[:count], widths, strict=False)).rstrip()
        for row in range(len(group.lines) + 1)
    ]
    apart = [f"† {column.title}: {column.apart}" for column in columns[: count - before] if column.apart]
    return "\n".join([f"{visible(group.title)}. {group.order}", *rows, *apart])


def _plain(cell: Cell) -> str:
    if not math.isfinite(cell.value):
        return "-"
    value, error = digits(cell.value, cell.error)
    return f"{value} ± {error}" if error else value
