"""Numeric arrays and lists of text out of a MATLAB 5 file, read strictly; nothing in such a file is ever executed."""

# Written here rather than taken from scipy.io: loadmat has no bound on what a compressed element expands to.

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vaekit.data.errors import DataFormatError

_T = TypeVar("_T")
_LIMIT = (
    256 * 2**20
)  # bytes, of the file and of each compressed element when expanded; OMNIGLOT's doubles have 153 million
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_ELEMENTS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# array class -> type of its values; they may be stored in a smaller type
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800
_CELL, _CHARACTERS = 1, 4
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}  # type of the element -> encoding


def read_matlab(path: Path, variable: str) -> npt.NDArray[np.generic]:
    """The real numeric array called `variable`.

    Arguments:
        path: A MATLAB 5 file, its elements compressed or not.
        variable: For example "ff".

    Returns:
        The array, in the shape and type that the file states.

    Raises:
        DataFormatError: If the file is not MATLAB 5, is damaged, larger than 256 MiB, or lacks such a variable.

    References:
        | MAT-File Format (The MathWorks), chapter 1: Level 5 MAT-files
        | https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
    """
    return _read(path, variable, _array)


def read_matlab_text(path: Path, variable: str) -> tuple[str, ...]:
    """The texts in the cell array called `variable`, in the order of its columns.

    Raises:
        DataFormatError: As `read_matlab`, or if it holds something else than text.
    """
    return _read(path, variable, _texts)


def _read(path: Path, variable: str, convert: Callable[[list[tuple[int, bytes]], str], _T]) -> _T:
    if path.stat().st_size > _LIMIT:
        raise DataFormatError(f"{path} has {path.stat().st_size:,} bytes, expected at most {_LIMIT:,}.")
    try:
        return convert(*_find(path.read_bytes(), variable))
    except (_DamagedError, struct.error, zlib.error) as error:
        raise DataFormatError(f"{path} cannot be read as a MATLAB 5 file: {error}. Fetch it again.") from error


class _DamagedError(Exception):
    """Something in the file contradicts the format; the reader above adds the name of the file."""


def _find(content: bytes, variable: str) -> tuple[list[tuple[int, bytes]], str]:
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None:
        raise _DamagedError("its header has no mark of the byte order")
    names = []
    for kind, element in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, element = next(_elements(_expand(element), order), (0, b""))
        if kind == _MATRIX:
            parts = list(_elements(element, order))
            name = parts[2][1].decode("latin-1") if len(parts) > 2 else ""
            if name == variable:
                return parts, order
            names.append(name)
    raise _DamagedError(f"it has no variable {variable!r}, but {', '.join(map(repr, names)) or 'none'}")


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        if kind >> 16:  # the small format: size and type share a word, at most four bytes of data follow
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            # elements are padded to eight bytes, compressed ones are not
            start, end = at + 8, at + 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(content) or (end == at + 8 and start == at + 4 and size > 4):
            raise _DamagedError(f"an element of {size:,} bytes goes beyond its end")
        yield kind, content[start : start + size]
        at = end


def _expand(element: bytes) -> bytes:
    stream = zlib.decompressobj()
    content = stream.decompress(element, _LIMIT)
    if not stream.eof:
        raise _DamagedError("a compressed element is cut short or expands beyond 256 MiB")
    return content


def _array(parts: list[tuple[int, bytes]], order: str) -> npt.NDArray[np.generic]:
    if len(parts) < 4:
        raise _DamagedError("the variable has no values")
    (_, flags), (_, extents), _, (kind, values) = parts[:4]
    flag = struct.unpack_from(order + "I", flags)[0]
    shape = struct.unpack(f"{order}{len(extents) // 4}i", extents)
    if flag & 0xFF not in _CLASSES or flag & _COMPLEX or kind not in _ELEMENTS:
        raise _DamagedError("the variable is not a real numeric array")
    stored = np.dtype(order + _ELEMENTS[kind])
    if min(shape, default=-1) < 0 or math.prod(shape) * stored.itemsize != len(values):
        raise _DamagedError(f"the variable has {len(values):,} bytes, which do not make up shape {shape}")
    array = np.frombuffer(values, stored).reshape(shape, order="F")
    return array.astype(_CLASSES[flag & 0xFF])


def _texts(parts: list[tuple[int, bytes]], order: str) -> tuple[str, ...]:
    if len(parts) < 3 or struct.unpack_from(order + "I", parts[0][1])[0] & 0xFF != _CELL:
        raise _DamagedError("the variable is not a cell array")
    return tuple(_text(kind, cell, order) for kind, cell in parts[3:])


def _text(kind: int, cell: bytes, order: str) -> str:
    parts = list(_elements(cell, order)) if kind == _MATRIX else []
    if len(parts) != 4 or struct.unpack_from(order + "I", parts[0][1])[0] & 0xFF != _CHARACTERS:
        raise _DamagedError("a cell of the variable is not text")
    kind, values = parts[3]
    if kind not in _TEXT:
        raise _DamagedError("a cell of the variable has text of an unknown encoding")
    byte_order = {"<": "-le", ">": "-be"}[order] if _TEXT[kind] == "utf-16" else ""
    return values.decode(_TEXT[kind] + byte_order, errors="replace")
