"""Read tables that strangers wrote, CSV, TSV and parquet: strictly, and in bounded memory."""

# N rows

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.errors import DataFormatError
from vaekit.data.frames import pandas, pyarrow

MOST_COLUMNS = 2000
MOST_CELLS = 2**28  # 268 million
_FREE, _RATIO = 256 * 2**20, 50  # bytes that a compressed file may become in any case, or as a multiple of its own
_SUFFIXES = (".csv", ".tsv", ".parquet")
_DIGITS = r"[+-]?(?:0|[1-9]\d*)"
_REAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_INFINITE = r"[+-]?(?:inf|infinity)"
_ZEROS = r"[+-]?0\d+"


def read_frame(path: Path, missing: Sequence[str], categories: Sequence[str]) -> Any:
    """The table in a .csv or .tsv file (of UTF-8, or UTF-16 with its mark; .gz too) or a .parquet file, as a pandas frame.

    In CSV and TSV, a column of whole numbers becomes int64 (Int64 with missing values), other numbers float64, True and False
    bool, anything else text. Space around a cell is dropped; an empty cell, NaN and nan are missing.

    Limits: 2,000 columns, 2**28 cells, and what is compressed may become 256 MiB or 50 times its size.

    Arguments:
        path: The file.
        missing: Cells that stand for a missing value as well.
        categories: Columns whose cells stay text where they could be numbers with leading zeros.

    Raises:
        FileNotFoundError: If there is no such file.
        DataFormatError: If the file is damaged, too large, or not a table; the message has file, line or column.
        ConfigError: If pandas or pyarrow is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file. Write data.path=FILE with a .csv, .tsv or .parquet file.")
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() not in _SUFFIXES:
        raise DataFormatError(f"{path} ends in {path.suffix!r}, expected .csv, .tsv, .csv.gz, .tsv.gz or .parquet.")
    if path.suffix.lower() == ".parquet":
        return _parquet(path, missing)
    text = as_text(content(path), str(path))
    return typed(split_text(text, str(path), tabs=plain.suffix.lower() == ".tsv"), str(path), missing, categories)


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked if it is .gz.

    Raises:
        DataFormatError: If it is cut off, damaged, or becomes more than is allowed.
    """
    if path.suffix.lower() != ".gz":
        return path.read_bytes()
    limit = max(_FREE, _RATIO * path.stat().st_size)
    try:
        with gzip.open(path) as file:
            data = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataFormatError(f"{path} cannot be unpacked: {error}. Fetch or save it again.") from error
    if len(data) > limit:
        raise DataFormatError(f"{path} becomes more than {limit:,} bytes, which its size does not justify. Unpack it.")
    return data


def as_text(data: bytes, name: str) -> str:
    """The text in UTF-8 bytes, or in UTF-16 with its mark.

    Raises:
        DataFormatError: For any other encoding and for the character NUL, with the line.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise DataFormatError(
            f"{name} is not {encoding.removesuffix('-sig').upper()} text: line {line}, byte {column} is 0x{data[error.start]:02x}. "
            "Save it as UTF-8."
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataFormatError(f"{name} has the character NUL in line {line}: it is damaged, or no text.")
    return text


def split_text(text: str, name: str, *, tabs: bool = False, names: Sequence[str] | None = None) -> Any:
    """The cells of delimited text as a frame of text, without the space around them.

    Arguments:
        text: Its cells are parted by commas, or by semicolons where the first line has no comma.
        name: Of the file, for messages.
        tabs: Cells are parted by tabs.
        names: Of the columns, where the first line is already data.

    Raises:
        DataFormatError: For rows of unequal length, columns without a name or of one name, no rows, or too many of anything.
    """
    pandas()  # before the text is looked at
    csv, lib = pyarrow("csv"), pyarrow("lib")
    first = next(iter(text.splitlines()), "")
    mark = "\t" if tabs else ";" if "," not in first and ";" in first else ","
    if first.count(mark) >= 10 * MOST_COLUMNS:
        raise DataFormatError(
            f"{name} has about {first.count(mark) + 1:,} columns, expected {MOST_COLUMNS:,} or fewer."
        )
    try:
        header = _header(first, mark, name) if names is None else list(names)
        table = csv.read_csv(
            io.BytesIO(text.encode()),
            read_options=csv.ReadOptions(
                use_threads=False, column_names=header, skip_rows=int(names is None), block_size=1 << 26
            ),
            parse_options=csv.ParseOptions(delimiter=mark, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(header, lib.string()), strings_can_be_null=False, quoted_strings_can_be_null=False
            ),
        )  # fmt: skip
    except lib.ArrowInvalid as error:
        said = " ".join(str(error).split())[:200]
        raise DataFormatError(f"{name} is not a table: {said}. The first line has the names of the columns.") from error
    if not len(table):
        raise DataFormatError(f"{name} has no rows below its first line.")
    _check_size(len(table), len(header), name)
    frame = table.to_pandas().apply(lambda column: column.str.strip())
    if names is None:
        _check_header(frame, name)
    return frame


def typed(frame: Any, name: str, missing: Sequence[str], categories: Sequence[str]) -> Any:
    """A frame of text with each column in the type that all its cells have.

    Raises:
        DataFormatError: If most of the cells of a column are numbers, and others not; names column, line and cell.
    """
    absent = {"", "NaN", "nan", *missing}
    made = {}
    for column in frame.columns:
        cells = frame[column]
        made[column] = _typed(cells.where(~cells.isin(absent), None), name, fixed=column in categories)
    return pandas().DataFrame(made)


def _typed(cells: Any, name: str, *, fixed: bool) -> Any:
    pd = pandas()
    given = cells.dropna()
    if not len(given):
        return pd.Series(np.nan, index=cells.index, name=cells.name, dtype=np.float64)
    if given.isin(("True", "False")).all():
        flags = cells.map({"True": True, "False": False})
        return flags.astype("bool" if len(given) == len(cells) else "boolean")
    if given.str.fullmatch(_DIGITS).all():
        return _whole(cells, given)
    real = given.str.fullmatch(f"(?i:{_REAL}|{_INFINITE})")
    if given.str.fullmatch(_ZEROS).any():  # post codes and the like
        return cells
    if real.all():
        return pd.to_numeric(cells).astype(np.float64)
    if real.mean() >= 0.5 and not fixed:
        place, odd = real.idxmin(), given[real.idxmin()]
        raise DataFormatError(
            f"{name}: column {cells.name!r} has numbers in {int(real.sum()):,} rows and other text in {int((~real).sum()):,}, "
            f"first {str(odd)[:40]!r} in row {place + 1:,} below the first line. If that means a missing value write data.missing="
            f"'{str(odd)[:40]}', and to take all values as names data.categories=[{cells.name}]."
        )
    return cells


def _whole(cells: Any, given: Any) -> Any:
    """Whole numbers as int64, and those that do not fit as Python's."""
    if given.str.len().max() > 18:
        return cells.map(lambda cell: None if cell is None or cell != cell else int(cell)).astype(object)
    return cells.astype("Int64").astype("int64" if len(given) == len(cells) else "Int64")


def _header(line: str, mark: str, name: str) -> list[str]:
    import csv

    if not line.strip():
        raise DataFormatError(f"{name} is empty, expected a first line with the names of the columns.")
    header = [cell.strip() for cell in next(csv.reader([line], delimiter=mark, skipinitialspace=True))]
    twice = sorted({cell for cell in header if header.count(cell) > 1}) if len(header) <= 10 * MOST_COLUMNS else []
    if twice or "" in header:
        unnamed = f"no name for column {header.index('') + 1}" if "" in header else f"{twice[0]!r} more than once"
        index = "; pandas puts its index there: write the table with index=False" if not header[0] else ""
        raise DataFormatError(
            f"{name} has {unnamed} in its first line, expected a name of its own for each column{index}."
        )
    if all(_is_number(cell) for cell in header):
        raise DataFormatError(f"{name} has only numbers in its first line, expected the names of the columns there.")
    return header


def _check_header(frame: Any, name: str) -> None:
    """Refuse a first line that is a row: some of its cells are numbers, and another is a value of its own column."""
    number = next((cell for cell in frame.columns if _is_number(cell)), None)
    if number is None:
        return
    words = (cell for cell in frame.columns if not _is_number(cell))
    if (word := next((cell for cell in words if (frame[cell] == cell).any()), None)) is not None:
        raise DataFormatError(
            f"{name} has a row in its first line, expected the names of the columns there: {number[:40]!r} is a number, and "
            f"{word[:40]!r} a value of its own column. Put a line of names above it, or give these columns other names."
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_size(rows: int, columns: int, name: str) -> None:
    if columns > MOST_COLUMNS or rows * columns > MOST_CELLS:
        raise DataFormatError(
            f"{name} has {rows:,} rows and {columns:,} columns, expected at most {MOST_COLUMNS:,} columns and {MOST_CELLS:,} cells."
        )


def _parquet(path: Path, missing: Sequence[str]) -> Any:
    parquet, lib = pyarrow("parquet"), pyarrow("lib")
    try:
        with parquet.ParquetFile(path) as file:
            about = file.metadata
            groups = (about.row_group(number) for number in range(about.num_row_groups))
            size, limit = sum(group.total_byte_size for group in groups), max(_FREE, _RATIO * path.stat().st_size)
            _check_size(about.num_rows, len(file.schema_arrow), str(path))
            if size > limit:
                raise DataFormatError(
                    f"{path} becomes {size:,} bytes, which its size does not justify: at most {limit:,}."
                )
            _check_types(file.schema_arrow, path)
            table = file.read()
    except (lib.ArrowException, OSError, EOFError) as error:
        raise DataFormatError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}.") from error
    frame = table.to_pandas(date_as_object=False)
    frame = frame.reset_index(drop=frame.index.names == [None])  # an index with a name is a column
    if not len(frame) or frame.columns.duplicated().any():
        raise DataFormatError(f"{path} has no rows, or two columns of one name.")
    frame.columns = [str(column) for column in frame.columns]
    for column in frame.columns if missing else ():
        frame[column] = _without(frame[column], missing)
    return frame


def _without(cells: Any, missing: Sequence[str]) -> Any:
    """The cells with those that stand for a missing value taken away: by their text, and numbers by their value."""
    words = [*missing] if cells.dtype == "object" or str(cells.dtype) in ("str", "string", "category") else []
    numbers = [float(word) for word in missing if _is_number(word)] if cells.dtype.kind in "iuf" else []
    absent = cells.isin([*words, *numbers])
    if not absent.any():
        return cells
    kind = str(cells.dtype)
    # whole numbers stay whole: pandas would make them floats, for which there is a word for missing
    whole = kind.replace("uint", "UInt").replace("int", "Int") if kind.startswith(("int", "uint")) else kind
    return cells.astype(whole).mask(absent)


def _check_types(schema: Any, path: Path) -> None:
    types = pyarrow("types")
    simple = (
        *(types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string),
        *(types.is_timestamp, types.is_date, types.is_null, types.is_dictionary),
    )
    for field in schema:
        if not any(fits(field.type) for fits in simple):
            raise DataFormatError(
                f"{path}: column {field.name!r} has type {field.type}, expected numbers, text, booleans, times or categories. "
                "Convert it, or save the table without it."
            )
