"""Files in the IDX format of MNIST, plain or gzipped, read strictly: exactly the bytes that the header promises."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaekit.data.errors import DataFormatError

_LIMIT = 128 * 2**20  # bytes of values; MNIST's training images have 47 million
_CHUNK = 2**20
_GZIP = b"\x1f\x8b"


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The values of an IDX file of unsigned bytes.

    Arguments:
        path: The file, gzipped or not; the content decides, not the name.
        dimensions: Number of axes expected: 3 for images (N, H, W), 1 for labels (N,).

    Returns:
        uint8, in the shape that the header states.

    Raises:
        DataFormatError: If the magic number, the sizes, or the number of bytes that follow are wrong, or the compressed
            stream is damaged. No more is decompressed than the header promises, and at most 128 MiB.

    References:
        | The MNIST database of handwritten digits (LeCun, Cortes and Burges), "File formats"
        | http://yann.lecun.com/exdb/mnist/
    """
    try:
        with _open(path) as file:
            return _read(file, path, dimensions)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataFormatError(f"{path} is damaged: {error}. Fetch it again.") from error


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _read(file: gzip.GzipFile | BufferedReader, path: Path, dimensions: int) -> Tensor:
    header = file.read(4 + 4 * dimensions)
    expected = bytes((0, 0, 8, dimensions))
    if header[:4] != expected:
        raise DataFormatError(
            f"{path} starts with {header[:4].hex() or 'nothing'}, expected {expected.hex()}: "
            f"IDX, unsigned bytes, {dimensions} dimension(s). Is it another file, or an error page?"
        )
    if len(header) < 4 + 4 * dimensions:
        raise DataFormatError(f"{path} ends inside its header, after {len(header)} bytes. Fetch it again.")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    if not 0 < size <= _LIMIT:
        raise DataFormatError(f"{path} promises {size:,} values of shape {shape}, expected 1 to {_LIMIT:,}.")
    return torch.from_numpy(np.frombuffer(_exactly(file, size, path), dtype=np.uint8).reshape(shape))


def _exactly(file: gzip.GzipFile | BufferedReader, size: int, path: Path) -> bytearray:
    content = bytearray()
    # a chunk at a time: reading `size` at once would reserve what a false header promises
    while len(content) < size and (chunk := file.read(min(_CHUNK, size - len(content)))):
        content += chunk
    if len(content) < size:
        raise DataFormatError(f"{path} ends after {len(content):,} of {size:,} values. Fetch it again.")
    if file.read(1):
        raise DataFormatError(f"{path} goes on after the {size:,} values that its header promises. Fetch it again.")
    return content
