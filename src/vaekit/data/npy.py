"""Read .npy and .npz files that strangers wrote: no pickle, and no more memory than the file justifies."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vaekit.data.errors import DataFormatError

Array = npt.NDArray[Any]

_FREE = 256 * 2**20  # bytes to which an archive may expand without a look at how much it is compressed
_RATIO = 200  # beyond that, times its size on disk; dSprites, the most compressible set we know, has 115


def read_arrays(path: Path) -> Mapping[str, Array]:
    """The arrays of a .npz file by name, or that of a .npy file under the name "".

    Raises:
        FileNotFoundError: If there is no such file.
        DataFormatError: If the file is neither, is damaged, holds Python objects, or promises more than it contains.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file. Write data.path=FILE with a .npy or .npz file.")
    readers = {".npy": _read_npy, ".npz": _read_npz}
    if path.suffix.lower() not in readers:
        raise DataFormatError(f"{path} ends in {path.suffix!r}, expected .npy or .npz. Save it with numpy.save.")
    try:
        return readers[path.suffix.lower()](path)
    except DataFormatError:
        raise
    except _DAMAGE as error:
        saved = (
            "numpy.save"
            if path.suffix.lower() == ".npy"
            else "numpy.savez, or scipy.sparse.save_npz for a sparse matrix"
        )
        raise DataFormatError(f"{path} cannot be read: {error}. Save it again with {saved}.") from error


# what numpy and zipfile raise on damaged files; a header is read by Python's tokenizer and literal_eval
_DAMAGE = (
    *(ValueError, OSError, EOFError, SyntaxError, TypeError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


def _read_npy(path: Path) -> dict[str, Array]:
    with path.open("rb") as file:
        _check_header(file, path.stat().st_size, str(path))
    return {"": np.load(path, mmap_mode="r", allow_pickle=False)}


def _read_npz(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if not members:
            raise DataFormatError(f"{path} holds no arrays. Save them with numpy.savez.")
        total, size = sum(info.file_size for info in members), path.stat().st_size
        if total > max(_FREE, _RATIO * size):
            raise DataFormatError(
                f"{path} would expand from {size:,} to {total:,} bytes, expected at most {_RATIO} times its size. "
                "If you trust it, save the array with numpy.save instead."
            )
        for info in members:
            with archive.open(info) as file:
                _check_header(file, info.file_size, f"{info.filename} in {path}")
    with np.load(path, allow_pickle=False) as arrays:
        return {info.filename.removesuffix(".npy"): arrays[info.filename.removesuffix(".npy")] for info in members}


def _check_header(file: IO[bytes], size: int, name: str) -> None:
    """Compare shape and type in the header with the number of bytes, before anything is reserved for them."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise DataFormatError(f"{name} has a header of version {version}, expected 1.0 or 2.0: an array of numbers.")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise DataFormatError(
            f"{name} holds Python objects (pickle), which could run code and are never read. "
            "Save an array of numbers: numpy.save(path, array.astype('float32'))."
        )
    promised = math.prod(shape) * dtype.itemsize
    if promised != size - file.tell():
        raise DataFormatError(f"{name} promises {promised:,} bytes of values, found {size - file.tell():,}.")


_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
