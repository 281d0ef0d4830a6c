"""Tensors in a file, in the safetensors format: written and read a piece at a time, so that memory never holds a copy of all.

    8 bytes: length of the header, little-endian | header: JSON, padded with spaces | the values, one tensor after the other

References:
    | https://huggingface.co/docs/safetensors, "Format"
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from vaekit.errors import CheckpointError

_PIECE = 1 << 24  # bytes in memory at a time
# in the order in which the format's own writer sorts them: types with the largest alignment go first into a file
_DTYPES = {
    "I64": torch.int64, "F64": torch.float64, "F32": torch.float32, "I32": torch.int32, "BF16": torch.bfloat16,
    "F16": torch.float16, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_RANK = {dtype: rank for rank, dtype in enumerate(_DTYPES)}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a file by name. Each is read when it is asked for, and is then the asker's own.

    Arguments:
        path: To be left as it is while this is in use.
        sha256: Of the file, where it is known.

    Raises:
        SafetensorError: If it is no such file.
        ValueError: If it holds a type of values that vaekit does not write.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path, sha256: str | None = None) -> None:
        self.path, self.sha256 = path, sha256
        with safe_open(path, "pt"):  # the format's own reader checks the header against the length of the file
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            self._header: dict[str, Any] = json.loads(file.read(length))
        self._header.pop("__metadata__", None)
        self._first = 8 + length
        for name, entry in self._header.items():
            if entry["dtype"] not in _DTYPES:
                raise ValueError(
                    f"its tensor {name!r} is of type {entry['dtype']}, expected one of {', '.join(_DTYPES)}"
                )

    def __getitem__(self, name: str) -> Tensor:
        """A fresh tensor on the CPU."""
        entry = self._header[name]
        tensor = torch.empty(entry["shape"], dtype=_DTYPES[entry["dtype"]])
        for place, piece in zip(_pieces(tensor), self.pieces(name), strict=True):
            place[:] = piece
        return tensor

    def __iter__(self) -> Iterator[str]:
        """Names, as in the header."""
        return iter(self._header)

    def __len__(self) -> int:
        """Number of tensors."""
        return len(self._header)

    def entries(self) -> dict[str, tuple[str, list[int]]]:
        """Type and shape of each tensor, without reading it."""
        return {name: (entry["dtype"], entry["shape"]) for name, entry in self._header.items()}

    def pieces(self, name: str) -> Iterator[memoryview]:
        """The bytes of a tensor, in pieces of bounded size."""
        start, stop = self._header[name]["data_offsets"]
        with self.path.open("rb") as file:
            file.seek(self._first + start)
            for first in range(start, stop, _PIECE):
                piece = file.read(min(_PIECE, stop - first))
                if len(piece) < min(_PIECE, stop - first):
                    raise OSError(f"{self.path} has become shorter while it was read")
                yield memoryview(piece)


def packed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Iterator[bytes | memoryview]:
    """A file with these tensors, piece by piece: together, the bytes that `safetensors.torch.save` gives.

    Arguments:
        tensors: On any device; a `TensorFile` is copied without reading all of it at once.
        metadata: Text to be kept beside them.

    Raises:
        TypeError: For values of a type that is not stored.
    """
    held = tensors.entries() if isinstance(tensors, TensorFile) else _entries(tensors)
    names = sorted(held, key=lambda name: (_RANK[held[name][0]], name))
    yield _header(names, held, metadata)
    for name in names:
        yield from tensors.pieces(name) if isinstance(tensors, TensorFile) else _pieces(tensors[name])


def spill(file: Path, tensors: Mapping[str, Tensor]) -> TensorFile:
    """Put tensors into a file for the time of this process, in the place of what was there; nothing waits for the disk.

    Raises:
        CheckpointError: If it cannot be written (file and cause).
    """
    try:
        file.unlink(missing_ok=True)  # never written over: it may be another name of a file that is to stay
        if not (isinstance(tensors, TensorFile) and _linked(tensors.path, file)):
            with file.open("xb") as opened:
                opened.writelines(packed(tensors))
    except OSError as error:
        file.unlink(missing_ok=True)
        raise CheckpointError(f"Cannot write the best weights to {file}: {error.strerror or error}.") from error
    return TensorFile(file, tensors.sha256 if isinstance(tensors, TensorFile) else None)


def _linked(path: Path, file: Path) -> bool:
    """Give the file at `path` a second name, where the file system has such a thing."""
    try:
        os.link(path, file)
    except OSError:
        return False
    return True


def _entries(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, list[int]]]:
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise TypeError(f"{name!r} is of type {tensor.dtype}, expected one of {', '.join(map(str, _NAMES))}.")
    return {name: (_NAMES[tensor.dtype], list(tensor.shape)) for name, tensor in tensors.items()}


def _header(
    names: Iterable[str], held: Mapping[str, tuple[str, list[int]]], metadata: Mapping[str, str] | None
) -> bytes:
    content: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    first = 0
    for name in names:
        dtype, shape = held[name]
        last = first + _DTYPES[dtype].itemsize * torch.Size(shape).numel()
        content[name] = {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}
        first = last
    said = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    said += b" " * (-len(said) % 8)
    return len(said).to_bytes(8, "little") + said


def _pieces(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor in the order of its elements: views of it where it lies so on the CPU, copies of pieces elsewhere."""
    flat = tensor.detach().reshape(-1)
    step = _PIECE // flat.element_size()
    for first in range(0, len(flat), step):
        piece = flat[first : first + step].cpu().contiguous()
        yield piece.view(torch.uint8).numpy().data
