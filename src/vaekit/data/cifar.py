"""CIFAR-10 out of the binary or the python archive, packed or not, whole or in part."""

# N examples, (C, H, W) = (3, 32, 32)

from __future__ import annotations

import hashlib
import lzma
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.data.cifar_python import RefusedError, read_batch
from vaekit.data.door import Parts
from vaekit.data.download import RemoteFile
from vaekit.data.errors import DataFormatError
from vaekit.data.splits import consecutive, take
from vaekit.data.tar import read_members
from vaekit.data.transforms import Scale

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
BINARY_ARCHIVE, PYTHON_ARCHIVE = "cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"
_DIGESTS = dict(
    zip(
        BATCHES,
        (
            "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        ),
        strict=True,
    )
)
Records = npt.NDArray[np.uint8]  # (N, 3073)
_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, the green and the blue plane, each row by row
_EXAMPLES = 10_000  # of a batch
_PICKLED = 40_000_000  # at most, of a batch in the python archive
_HELD_OUT = 10  # one in so many training images, from the end, for validation


def _files(names: tuple[str, ...], suffix: str) -> tuple[RemoteFile, ...]:
    # the digests are of the binary batches; no digest of a python batch is published
    return tuple(
        RemoteFile(name + suffix, _EXAMPLES * _RECORD if suffix else 0, _DIGESTS[name] if suffix else "")
        for name in names
    )


WHOLE_FILES = ((RemoteFile(PYTHON_ARCHIVE, 0, ""),), _files(BATCHES, ".bin"), _files(BATCHES, ""))
PARTIAL_FILES = (_files((BATCHES[0], BATCHES[-1]), ".bin"),)


def read_cifar10(files: Mapping[str, Path]) -> Parts:
    """The three parts, from any of the sets of files above or the binary archive.

    Raises:
        DataFormatError: If a file is damaged.
    """
    if BINARY_ARCHIVE in files:
        path = files[BINARY_ARCHIVE]
        contents = read_members(path, {f"{name}.bin": _EXAMPLES * _RECORD for name in BATCHES})
        records = {name: _records(contents.pop(f"{name}.bin"), f"{name}.bin in {path}") for name in BATCHES}
    elif PYTHON_ARCHIVE in files:
        path = files[PYTHON_ARCHIVE]
        contents = read_members(path, dict.fromkeys(BATCHES, _PICKLED))
        records = {name: _unpickled(contents.pop(name), f"{name} in {path}") for name in BATCHES}
    else:
        records = {Path(name).stem: _from_file(name, path) for name, path in files.items()}
    for name, values in records.items():
        _warn_of_difference(name, values)
    return _parts(records)


def _from_file(name: str, path: Path) -> Records:
    if name.endswith(".bin"):
        return _records(_content(path, _EXAMPLES * _RECORD + 1), str(path))
    return _unpickled(_content(path, _PICKLED), str(path))


def _content(path: Path, limit: int) -> bytes:
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            return file.read(limit)
    except (lzma.LZMAError, EOFError) as error:
        raise DataFormatError(f"{path} is damaged: {error}. Fetch it again.") from error


def _records(content: bytes, name: str) -> Records:
    if len(content) != (expected := _EXAMPLES * _RECORD):
        raise DataFormatError(f"{name} has {len(content):,} bytes or more, expected {expected:,}. Fetch it again.")
    return np.frombuffer(content, np.uint8).reshape(-1, _RECORD)


def _unpickled(content: bytes, name: str) -> Records:
    """A batch of the python archive as the records of the binary one, which hold the same bytes."""
    try:
        batch = read_batch(content)
    except RefusedError as error:
        raise DataFormatError(f"{name} is refused: {error}. Get {BINARY_ARCHIVE} instead.") from error
    labels, pixels = batch.get("labels"), batch.get("data")
    shape = pixels.shape if isinstance(pixels, np.ndarray) else None
    whole = isinstance(labels, list) and all(isinstance(label, int) and 0 <= label <= 255 for label in labels)
    if shape != (_EXAMPLES, _RECORD - 1) or not isinstance(labels, list) or len(labels) != _EXAMPLES or not whole:
        raise DataFormatError(
            f"{name} has data of shape {shape}, expected ({_EXAMPLES}, {_RECORD - 1}) and a label for each."
        )
    return np.concatenate((np.array(labels, np.uint8)[:, None], np.asarray(pixels)), axis=1)


def _warn_of_difference(name: str, records: Records) -> None:
    found = hashlib.sha256(np.ascontiguousarray(records).data).hexdigest()
    if found != _DIGESTS[name]:
        warnings.warn(
            f"{name} is not the published batch of CIFAR-10: expected SHA-256 {_DIGESTS[name]}, found {found}. "
            "It is used as it is; numbers may not compare with published ones.",
            stacklevel=4,
        )


def _parts(records: Mapping[str, Records]) -> Parts:
    training = [name for name in BATCHES[:-1] if name in records]
    images, labels = _split(np.concatenate([records[name] for name in training]))
    tested, tested_labels = _split(records["test_batch"])
    held = len(images) // _HELD_OUT
    train, validation, _ = consecutive(len(images) - held, held, 0)
    scale = Scale(255)
    splits = (
        take(images, labels, train, scale),
        take(images, labels, validation, scale),
        take(tested, tested_labels, torch.arange(len(tested)), scale),
    )
    note = f"{len(images):,} of 50,000 training images are there, so numbers are not comparable with published ones"
    return Parts(
        splits,
        scaling="value / 255",
        splitting=f"test is the official part, validation the last {held:,} training images",
        class_names=CLASSES,
        notes=() if len(training) == 5 else (note,),
    )


def _split(records: Records) -> tuple[Tensor, Tensor]:
    highest = int(records[:, 0].max())
    if highest >= len(CLASSES):
        raise DataFormatError(f"a batch of CIFAR-10 has a label {highest}, expected 0 to 9. Fetch it again.")
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return images, torch.from_numpy(records[:, 0].astype(np.int64))
