"""Files out of a gzipped tar archive that strangers wrote: into memory only, those that are wanted, at their known size."""

# Written here rather than taken from tarfile, which reads extended headers of any length into memory.

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, cast

from vaekit.data.errors import DataFormatError

_BLOCK = 512
_CHUNK = 2**20
_MEMBERS = 100
_TOTAL = 1 << 30  # bytes after which the rest of an archive is not looked at
_REGULAR = frozenset({b"0", b"\0"})


def read_members(path: Path, wanted: Mapping[str, int]) -> dict[str, bytes]:
    """Contents of the regular files of an archive by the last part of their names, whatever folder they are in.

    Arguments:
        path: A tar archive, gzipped or not.
        wanted: Names, and the largest size of each in bytes.

    Raises:
        DataFormatError: If the archive is damaged, has more than 100 members or a gigabyte, or a wanted file is missing, is
            there twice, is no regular file, or is too large.
    """
    found: dict[str, bytes] = {}
    try:
        with _open(path) as archive:
            _collect(archive, wanted, found)
    except (EOFError, OSError, zlib.error, _BadArchiveError) as error:
        raise DataFormatError(f"{path} cannot be read as a .tar.gz archive: {error}. Fetch it again.") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataFormatError(f"{path} has no {', '.join(missing)}. Is it another archive, or cut short?")
    return found


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if compressed else path.open("rb")


class _BadArchiveError(Exception):
    """Something in the archive will not do; the reader above adds its name."""


def _collect(archive: IO[bytes], wanted: Mapping[str, int], found: dict[str, bytes]) -> None:
    total = 0
    for _ in range(_MEMBERS):
        header = archive.read(_BLOCK)
        if not header.strip(b"\0"):  # the end: zeros, or nothing
            return _finish(archive, _TOTAL - total)
        name, size, kind = _header(header)
        total += size
        if total > _TOTAL:
            raise _BadArchiveError(f"more than {_TOTAL:,} bytes")
        padded = -(-size // _BLOCK) * _BLOCK
        if name not in wanted:
            _skip(archive, padded)
            continue
        if kind not in _REGULAR or name in found or size > wanted[name]:
            raise _BadArchiveError(
                f"{name} is no regular file, is there twice, or has more than {wanted[name]:,} bytes"
            )
        content = archive.read(padded)
        if len(content) < padded:
            raise _BadArchiveError(f"it ends inside {name}")
        found[name] = content[:size]
    raise _BadArchiveError(f"more than {_MEMBERS} members")


def _header(block: bytes) -> tuple[str, int, bytes]:
    """Last part of the name, size and kind; https://www.gnu.org/software/tar/manual/html_node/Standard.html"""
    if len(block) < _BLOCK:
        raise _BadArchiveError("it ends inside a header")
    try:
        size, stated = int(block[124:136].strip(b" \0") or b"0", 8), int(block[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        raise _BadArchiveError("a header has a size that is no octal number") from None
    if size < 0 or stated != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        raise _BadArchiveError("a header does not have its check sum")
    return PurePosixPath(block[:100].split(b"\0")[0].decode("utf-8", errors="replace")).name, size, block[156:157]


def _skip(archive: IO[bytes], size: int) -> None:
    while size > 0:
        chunk = archive.read(min(_CHUNK, size))
        if not chunk:
            raise _BadArchiveError("it ends inside a file")
        size -= len(chunk)


def _finish(archive: IO[bytes], size: int) -> None:
    """Read to the end, so that the check sum of the compression is looked at."""
    while chunk := archive.read(_CHUNK):
        size -= len(chunk)
        if size < 0:
            raise _BadArchiveError(f"more than {_TOTAL:,} bytes")
