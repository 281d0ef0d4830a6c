"""Checkpoints: safetensors and JSON under a SHA-256 manifest, put in place by one rename. No pickle is written or read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from vaekit._version import __version__
from vaekit.errors import CheckpointError
from vaekit.files import sync_folder, write_durably
from vaekit.training.tensors import TensorFile, packed

SCHEMA = 1
_PREFIX, _STAGING = "step-", ".staging-"
_FILE = re.compile(r"[a-z]+\.safetensors|state\.json")
_LARGEST_MANIFEST = 1 << 20
_PIECE = 1 << 24  # bytes in memory at a time


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on.

    Attributes:
        step: Steps done.
        tensors: Groups of tensors by file: model, optimizer, generators, best. Of a checkpoint that was loaded, `TensorFile`s,
            which are there as long as it is.
        state: JSON values: schedules' clock is the step itself, the rest is counters and hyperparameters.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint below `folder`, then remove all but the newest `keep`.

    Everything goes to a staging folder first, each file is synced, the manifest last; one rename makes it a checkpoint. So a
    kill at any moment leaves the checkpoints that were there, and perhaps a staging folder, which the next save removes.

    Tensors are written a piece at a time. A group that is a file already, as the best weights are, and stands unchanged in a
    checkpoint that is about to be removed, moves on from there by a hard link in place of being written: so the checkpoints that
    stay never share a file, and what damages one leaves the others whole.

    Raises:
        CheckpointError: If it cannot be written (path and cause); the older checkpoints are untouched.
    """
    target = folder / _name(checkpoint.step)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder)
        staging = folder / f"{_STAGING}{target.name}"
        staging.mkdir()
        older = [path for path in _newest_first(folder) if path.name < target.name]
        _write(staging, checkpoint, leaving=older[keep - 1 :])
        if target.exists():  # the same step saved twice, as after a resume: the newer one counts
            shutil.rmtree(target)
        os.replace(staging, target)
        sync_folder(folder)
    except OSError as error:
        shutil.rmtree(folder / f"{_STAGING}{target.name}", ignore_errors=True)
        raise CheckpointError(
            f"Cannot write the checkpoint {target}: {error.strerror or error}{_space(folder)}."
        ) from error
    # a later step can only be a damaged checkpoint that the training went back behind
    own = [path for path in _newest_first(folder) if path.name <= target.name]
    for old in {*_newest_first(folder)} - {*own[:keep]}:
        shutil.rmtree(old, ignore_errors=True)
    return target


def clean(folder: Path) -> None:
    """Remove what an interrupted save left behind."""
    for leftover in folder.glob(f"{_STAGING}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def latest(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint below `folder` that verifies, or None where there is none at all.

    Arguments:
        folder: The run's checkpoints.
        warn: Told of each damaged checkpoint that is passed over.

    Raises:
        CheckpointError: If there are checkpoints and none verifies.
    """
    found = _newest_first(folder)
    reasons = []
    for path in found:
        try:
            checkpoint = load(path)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            warn(f"{reason} Taking an older one.")
        return checkpoint
    if found:
        raise CheckpointError(f"None of the {len(found)} checkpoints in {folder} can be used. {reasons[0]}")
    return None


def latest_step(folder: Path) -> int:
    """Steps done at the newest checkpoint, verified or not; 0 where there is none."""
    found = _newest_first(folder)
    return int(found[0].name.removeprefix(_PREFIX)) if found else 0


def load(path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        CheckpointError: If a file is missing, was changed, or is of a newer format; names file, expected and found.
    """
    files = _manifest(path)
    for name, expected in files.items():
        _verify(path, name, **expected)
    try:
        state = json.loads((path / "state.json").read_bytes())
        tensors = {
            name.removesuffix(".safetensors"): TensorFile(path / name, expected["sha256"])
            for name, expected in files.items()
            if name != "state.json"
        }
        if path.name != _name(state["step"]):
            raise ValueError(f"its step is {state['step']!r}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: {_said(error)}.") from error
    return Checkpoint(step=state["step"], tensors=tensors, state=state)


def _write(staging: Path, checkpoint: Checkpoint, leaving: Sequence[Path]) -> None:
    files = {}
    for group, tensors in checkpoint.tensors.items():
        name = f"{group}.safetensors"
        files[name] = _moved(staging / name, tensors, leaving) or _put(staging / name, packed(tensors))
        if isinstance(tensors, TensorFile):
            _remember(tensors, files[name]["sha256"])
    state = json.dumps({**checkpoint.state, "schema": SCHEMA, "step": checkpoint.step}, indent=1, allow_nan=False)
    files["state.json"] = _put(staging / "state.json", [state.encode()])
    _put(staging / "manifest.json", [_listing(files)])
    sync_folder(staging)


def _put(file: Path, pieces: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Write a file and wait for the disk; gives its entry in the manifest."""
    digest, size = hashlib.sha256(), 0

    def counted() -> Iterator[bytes | memoryview]:
        nonlocal size
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            yield piece

    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_durably(descriptor, counted())
    finally:
        os.close(descriptor)
    return {"sha256": digest.hexdigest(), "bytes": size}


def _moved(file: Path, tensors: Mapping[str, Tensor], leaving: Sequence[Path]) -> dict[str, Any] | None:
    """Link the same file of a checkpoint that is about to be removed; gives its entry in the manifest, or None."""
    if not isinstance(tensors, TensorFile) or tensors.sha256 is None:
        return None
    for path in leaving:
        try:
            entry = _manifest(path).get(file.name)
            if entry is not None and entry["sha256"] == tensors.sha256:
                os.link(path / file.name, file)
                return entry
        except (OSError, CheckpointError):  # damaged, or a file system without links: write it
            continue
    return None


def _remember(tensors: TensorFile, sha256: str) -> None:
    if tensors.sha256 not in (None, sha256):
        raise OSError(f"{tensors.path} has SHA-256 {sha256}, expected {tensors.sha256}: something has changed it")
    tensors.sha256 = sha256


def _verify(path: Path, name: str, sha256: str, bytes: int) -> None:
    try:
        # the size first, so that what stands in the place of a file is not read without end
        size = (path / name).stat().st_size
        found = _sha256_of(path / name) if size == bytes else ""
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} is damaged: {name} cannot be read ({error.strerror}), expected SHA-256 {sha256}."
        ) from error
    if size != bytes:
        raise CheckpointError(
            f"The checkpoint {path} is damaged: {name} has {size} bytes, expected {bytes} with SHA-256 {sha256}."
        )
    if found != sha256:
        raise CheckpointError(f"The checkpoint {path} is damaged: {name} has SHA-256 {found}, expected {sha256}.")


def _sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _listing(files: Mapping[str, Mapping[str, Any]], made_by: str = __version__) -> bytes:
    body = {"schema": SCHEMA, "vaekit": made_by, "files": files}
    return json.dumps({**body, "sha256": _sha256(json.dumps(body).encode())}, indent=1).encode()


def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    try:
        raw = _bounded(path / "manifest.json")
        content = json.loads(raw)
        _refuse_newer(path, content)
        listed = {name: {key: entry[key] for key in ("sha256", "bytes")} for name, entry in content["files"].items()}
        if "state.json" not in listed or not all(_FILE.fullmatch(name) for name in listed):
            raise ValueError("it does not list the files of a checkpoint")
        if raw != _listing(listed, content["vaekit"]):
            raise ValueError(f"it was changed, its SHA-256 is no longer {content['sha256']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"The checkpoint {path} is damaged: manifest.json cannot be used ({_said(error)})."
        ) from error
    return listed


def _refuse_newer(path: Path, content: Mapping[str, Any]) -> None:
    if content["schema"] > SCHEMA:
        raise CheckpointError(
            f"The checkpoint {path} was made by vaekit {content.get('vaekit')} in format {content['schema']}; this version reads "
            f"up to format {SCHEMA}. Update vaekit."
        )


def _bounded(file: Path) -> bytes:
    # what stands in the place of the manifest may be anything, a pipe included
    if not file.is_file():
        raise OSError(f"{file.name} is missing")
    if file.stat().st_size > _LARGEST_MANIFEST:
        raise ValueError(f"it has {file.stat().st_size} bytes, more than any manifest")
    return file.read_bytes()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _name(step: int) -> str:
    return f"{_PREFIX}{step:09d}"


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob(f"{_PREFIX}*") if p.is_dir()), reverse=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _space(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free / 2**20:.0f} MiB free)"
    except OSError:
        return ""
