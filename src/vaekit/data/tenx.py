"""Folders of 10x Genomics: a matrix in Matrix Market format, the names of its features and the barcodes of its cells."""

# N cells, F features, nnz stored values

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from vaekit.data.errors import DataFormatError
from vaekit.data.hdf5 import must_fit
from vaekit.data.matrix import Cells, canonical, unique

_NAMES = 64 * 2**20  # bytes of a list of names, unpacked
_FREE = 256 * 2**20  # bytes to which a matrix may expand without a look at how much it is compressed
_RATIO = 200  # beyond that, times its size on disk
_LINE = 6  # bytes of the shortest line of a matrix: "1 1 1" and its end
_HEADER = 2**16  # bytes in which the sizes must have been stated
_BANNER = re.compile(rb"%%MatrixMarket\s+matrix\s+coordinate\s+(integer|real)\s+general\s*$", re.IGNORECASE)
_EXPRESSION = "Gene Expression"
MATRIX, GENES, BARCODES = ("matrix.mtx",), ("features.tsv", "genes.tsv"), ("barcodes.tsv",)


def read_tenx(folder: Path) -> Cells:
    """The cells of a folder with matrix.mtx, genes.tsv or features.tsv, and barcodes.tsv, each gzipped or not.

    The three lie in the folder or, together, anywhere below. Of a list that tells kinds of features apart, only "Gene
    Expression" is taken. Genes have their symbols as names.

    Raises:
        FileNotFoundError: If there is no such folder, or a file is missing.
        DataFormatError: If a file is damaged, expands beyond bounds, or the three do not fit each other.
        ValueError: If several matrices are below the folder; the message lists them.
    """
    files = {path.name: path for path in _place(folder).iterdir()}
    return tenx_of({kind: _one(files, names, folder) for kind, names in _PARTS.items()})


_PARTS = {"matrix": MATRIX, "genes": GENES, "barcodes": BARCODES}


def tenx_of(files: Mapping[str, Path]) -> Cells:
    """The cells of three files: `matrix`, `genes` and `barcodes`."""
    genes = [line.split("\t") for line in _lines(files["genes"])]
    barcodes = [line.split("\t")[0] for line in _lines(files["barcodes"])]
    must_fit(len(barcodes), max(map(len, barcodes), default=0), files["barcodes"], "its list")
    matrix = read_matrix_market(files["matrix"], (len(genes), len(barcodes))).T
    symbols = unique([fields[1] if len(fields) > 1 else fields[0] for fields in genes])
    cells = Cells(canonical(matrix), symbols, {"index": np.array(barcodes, dtype=np.str_)})
    chosen = [n for n, fields in enumerate(genes) if len(fields) < 3 or fields[2] == _EXPRESSION]
    return cells if len(chosen) == len(genes) or not chosen else cells.features(np.array(chosen))


def is_tenx(folder: Path) -> bool:
    """Whether a matrix of this kind lies in the folder or below."""
    return bool(_matrices(folder))


def _matrices(folder: Path) -> list[Path]:
    return sorted(
        path for name in MATRIX for suffix in ("", ".gz") for path in folder.rglob(name + suffix) if path.is_file()
    )


def _place(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder. Write data.path=FOLDER.")
    if any((folder / f"{name}{suffix}").is_file() for name in MATRIX for suffix in ("", ".gz")):
        return folder
    places = sorted({path.parent for path in _matrices(folder)})
    if not places:
        raise FileNotFoundError(
            f"{folder} has no matrix.mtx or matrix.mtx.gz, in it or below: expected a folder of 10x Genomics."
        )
    if len(places) > 1:
        raise ValueError(
            f"{folder} has several matrices: {', '.join(map(str, places[:5]))}. Write data.path= one of these folders."
        )
    return places[0]


def _one(files: Mapping[str, Path], names: tuple[str, ...], folder: Path) -> Path:
    candidates = [f"{name}{suffix}" for name in names for suffix in ("", ".gz")]
    found = next((files[name] for name in candidates if name in files), None)
    if found is None:
        raise FileNotFoundError(
            f"{folder} has {', '.join(sorted(files)[:10])}, expected one of {', '.join(candidates)} beside them."
        )
    return found


def _lines(path: Path) -> list[str]:
    try:
        with _open(path) as file:
            content = file.read(_NAMES + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataFormatError(f"{path} is damaged: {error}. Fetch it again.") from error
    if len(content) > _NAMES:
        raise DataFormatError(f"{path} has more than {_NAMES:,} bytes of names.")
    return content.decode("utf-8", errors="replace").splitlines()


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if compressed else path.open("rb")


def read_matrix_market(path: Path, shape: tuple[int, int]) -> Any:
    """The matrix in a Matrix Market file of coordinates, as a sparse matrix of scipy.

    Its sizes are compared with those expected, and the number of values with what the file can hold, before anything is
    reserved for them; what a compressed file expands to is bounded.

    Arguments:
        path: The file, gzipped or not.
        shape: Rows and columns that it must have.

    Raises:
        DataFormatError: If it is damaged, of another kind or another shape, or holds more or fewer values than it states.

    References:
        | The Matrix Market Exchange Formats (Boisvert, Pozo and Remington, 1996)
        | https://math.nist.gov/MatrixMarket/formats.html
    """
    from scipy.io import mmread  # slow to import

    size = path.stat().st_size
    bound = max(_FREE, _RATIO * size)
    try:
        with _open(path) as file:
            header, found, count = _header(file, path)
            if found != shape:
                raise DataFormatError(
                    f"{path} has {found[0]:,} features and {found[1]:,} cells, but the names are of {shape[0]:,} and {shape[1]:,}."
                )
            if count * _LINE > bound or count > shape[0] * shape[1]:
                raise DataFormatError(
                    f"{path} states {count:,} values, more than {shape} or its size of {size:,} bytes can hold."
                )
            matrix = mmread(_Bounded(header, file, bound, path))
    except DataFormatError:
        raise
    except (ValueError, OverflowError, EOFError, OSError, zlib.error, MemoryError) as error:
        said = str(error).rstrip(".")
        raise DataFormatError(f"{path} cannot be read as a Matrix Market file: {said}. Fetch it again.") from error
    rows, columns = matrix.row, matrix.col
    if matrix.nnz != count or (
        count and not (0 <= rows.min() <= rows.max() < shape[0] and 0 <= columns.min() <= columns.max() < shape[1])
    ):
        raise DataFormatError(
            f"{path} has {matrix.nnz:,} values of {count:,} stated, or positions outside {shape}. Fetch it again."
        )
    return matrix


def _header(file: IO[bytes], path: Path) -> tuple[bytes, tuple[int, int], int]:
    """What was read of the file so far, its shape, and the number of its values."""
    banner = file.readline(256)
    if not _BANNER.match(banner):
        raise DataFormatError(
            f"{path} starts with {banner[:80]!r}, expected %%MatrixMarket matrix coordinate integer (or real) general."
        )
    read = banner
    while len(read) < _HEADER:
        line = file.readline(_HEADER)
        read += line
        words = line.split()
        if line.startswith(b"%") or (line and not words):
            continue
        if len(words) == 3 and all(word.isdigit() and len(word) < 19 for word in words):
            return read, (int(words[0]), int(words[1])), int(words[2])
        break
    raise DataFormatError(f"{path} states no sizes where it should: rows, columns and number of values.")


class _Bounded(io.RawIOBase):
    """The header again and then the rest of a file, up to a number of bytes."""

    def __init__(self, header: bytes, file: IO[bytes], bound: int, path: Path) -> None:
        super().__init__()
        self._begun, self._file, self._left, self._bound, self._path = io.BytesIO(header), file, bound, bound, path

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Some of the bytes."""
        view = memoryview(buffer)
        chunk = self._begun.read(len(view)) or self._file.read(len(view))
        self._left -= len(chunk)
        if self._left < 0:
            raise DataFormatError(f"{self._path} expands to more than {self._bound:,} bytes, {_RATIO} times its size.")
        view[: len(chunk)] = chunk
        return len(chunk)
