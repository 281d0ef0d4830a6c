"""HDF5 files that strangers wrote: looked over from end to end before any data in them are read."""

# An HDF5 file can name other files of the machine (external links, external storage, virtual data sets) and can state shapes
# that would fill any memory. All of that stands in its structure, which is read here through the low-level interface: nothing
# is followed, and no value is read.

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.data.errors import DataFormatError
from vaekit.data.extra import extra

_FREE = 256 * 2**20  # bytes that values may take without a look at how much they are compressed
_RATIO = 200  # beyond that, times what they take in the file, as for .npz archives
_OBJECTS = 100_000
_ATTRIBUTE = 16 * 2**20  # bytes
_AMPLIFIED = 2**28  # texts are read so few at a time that each could be as long as the file


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The file, as `h5py.File` opened for reading, once its structure was found to be harmless.

    Refused are links that are not plain (external, soft, of users), data kept in other files (external storage, virtual data
    sets), references to objects, more than 100,000 objects, and data sets that state more than 256 MiB and also more than 200
    times what they take in the file.

    Raises:
        FileNotFoundError: If there is no such file.
        DataFormatError: If it is no HDF5, is damaged, or is refused; the message names the place inside the file.
        ConfigError: If h5py is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file. Write data.path=FILE.")
    h5py = extra("h5py", "cells", f"{path.name} is an HDF5 file, which")
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            _Audit(h5py, path).run(file)
            yield file
    except DataFormatError:
        raise
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        cause = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise DataFormatError(f"{path} cannot be read as HDF5: {cause}. Fetch or save it again.") from error


class _Audit:
    """One walk through the structure of a file."""

    def __init__(self, h5py: Any, path: Path) -> None:
        self._h5py, self._path, self._size = h5py, path, path.stat().st_size
        self._seen: set[tuple[int, int]] = set()
        self._promised = 0

    def run(self, file: Any) -> None:
        """Raise at the first thing that will not do."""
        waiting = [("", self._h5py.h5o.open(file.id, b"/"))]
        while waiting:
            place, item = waiting.pop()
            info = self._h5py.h5o.get_info(item)
            if (info.fileno, info.addr) in self._seen:
                continue  # a second name for the same thing, perhaps of a group that holds this one
            self._seen.add((info.fileno, info.addr))
            if len(self._seen) > _OBJECTS:
                raise self._refused(place, f"is beyond the first {_OBJECTS:,} objects")
            self._attributes(place, item)
            if isinstance(item, self._h5py.h5g.GroupID):
                waiting += self._members(place, item)
            elif isinstance(item, self._h5py.h5d.DatasetID):
                self._values(place, item)

    def _members(self, place: str, group: Any) -> list[tuple[str, Any]]:
        if group.get_num_objs() > _OBJECTS:
            raise self._refused(place, f"has {group.get_num_objs():,} members, expected at most {_OBJECTS:,}")
        members = []
        for name in list(group):
            here = f"{place}/{name.decode('utf-8', errors='replace')}"
            kind = group.links.get_info(name).type
            if kind != self._h5py.h5l.TYPE_HARD:
                raise self._refused(here, f"is {self._link(kind)}, which may lead out of the file")
            members.append((here, self._h5py.h5o.open(group, name)))
        return members

    def _link(self, kind: int) -> str:
        named = {self._h5py.h5l.TYPE_SOFT: "a soft link", self._h5py.h5l.TYPE_EXTERNAL: "an external link"}
        return named.get(kind, "a link of a kind that others defined")

    def _values(self, place: str, values: Any) -> None:
        creation = values.get_create_plist()
        if creation.get_layout() == self._h5py.h5d.VIRTUAL:
            raise self._refused(place, "is a virtual data set, whose values are those of other files")
        if creation.get_external_count():
            raise self._refused(place, "keeps its values in another file (external storage)")
        kind = values.get_type()
        if kind.detect_class(self._h5py.h5t.REFERENCE):
            raise self._refused(place, "holds references to objects")
        promised, stored = math.prod(values.shape or ()) * kind.get_size(), values.get_storage_size()
        if stored > self._size:
            raise self._refused(place, f"states {stored:,} bytes in a file of {self._size:,}")
        if creation.get_layout() == self._h5py.h5d.CHUNKED:
            promised = max(promised, math.prod(creation.get_chunk()) * kind.get_size())
        self._promised += promised
        if promised > max(_FREE, _RATIO * stored) or self._promised > max(_FREE, _RATIO * self._size):
            raise self._refused(
                place, f"would expand from {stored:,} to {promised:,} bytes, expected at most {_RATIO} times its size"
            )

    def _attributes(self, place: str, item: Any) -> None:
        h5a = self._h5py.h5a
        for number in range(min(h5a.get_num_attrs(item), _OBJECTS)):
            attribute = h5a.open(item, index=number)
            name, kind = attribute.name.decode("utf-8", errors="replace"), attribute.get_type()
            # anndata 0.7 tells the categories of a column so; they are found by name instead, and the reference is never read
            if kind.detect_class(self._h5py.h5t.REFERENCE) and name != "categories":
                raise self._refused(f"{place}@{name}", "holds references to objects")
            if math.prod(attribute.shape or ()) * kind.get_size() > _ATTRIBUTE:
                raise self._refused(f"{place}@{name}", f"is an attribute of more than {_ATTRIBUTE:,} bytes")

    def _refused(self, place: str, cause: str) -> DataFormatError:
        return DataFormatError(f"{self._path}: {place or '/'} {cause}; nothing was read.")


def row_blocks(values: Any, at_once: int = 2**22) -> Iterator[npt.NDArray[Any]]:
    """The rows of a matrix in HDF5, about `at_once` values at a time, in whole chunks: a chunk is unpacked as a whole each time."""
    rows, width = values.shape
    chunk = values.chunks[0] if values.chunks else 1
    step = chunk * max(1, at_once // max(1, width * chunk))
    for start in range(0, rows, step):
        yield values[start : start + step]


def texts(values: Any, path: Path) -> npt.NDArray[np.str_]:
    """A column of strings, shape (N,): of fixed length or not, in a bounded amount of memory.

    Raises:
        DataFormatError: If they take more than 256 MiB and more than 200 times the size of the file.
    """
    size = path.stat().st_size
    at_once = min(max(_AMPLIFIED // max(size, 1), 64), 2**16)
    decoded, total = [], 0
    for start in range(0, len(values), at_once):
        part = [as_text(value) for value in values[start : start + at_once]]
        total += sum(map(len, part))
        if total > max(_FREE, _RATIO * size):
            raise DataFormatError(f"{path}: the texts of {values.name} take more than {total:,} bytes.")
        decoded += part
    must_fit(len(decoded), max(map(len, decoded), default=0), path, values.name)
    return np.array(decoded, dtype=np.str_)


def must_fit(count: int, longest: int, path: Path, name: str) -> None:
    """Raise unless an array of so many strings fits: each takes as much room as the longest, four bytes a character.

    Raises:
        DataFormatError: If it takes more than 256 MiB and more than 200 times the size of the file.
    """
    if 4 * count * longest > max(_FREE, _RATIO * path.stat().st_size):
        raise DataFormatError(
            f"{path}: {name} has {count:,} texts of up to {longest:,} characters, more than its size lets expect. Shorten them."
        )


def as_text(value: Any) -> str:
    """A string as HDF5 gives it, of bytes or not."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
