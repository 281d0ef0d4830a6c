"""Checkpoints: safetensors and JSON under a SHA-256 manifest, put in place by one rename. No pickle is written or read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from vaekit._version import __version__
from vaekit.errors import CheckpointError
from vaekit.files import sync_folder, write_durably

SCHEMA = 1
_PREFIX, _STAGING = "step-", ".staging-"
_FILE = re.compile(r"[a-z]+\.safetensors|state\.json")
_LARGEST_MANIFEST = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on.

    Attributes:
        step: Steps done.
        tensors: Groups of tensors by file: model, optimizer, generators, best.
        state: JSON values: schedules' clock is the step itself, the rest is counters and hyperparameters.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint below `folder`, then remove all but the newest `keep`.

    Everything goes to a staging folder first, each file is synced, the manifest last; one rename makes it a checkpoint. So a
    kill at any moment leaves the checkpoints that were there, and perhaps a staging folder, which the next save removes.

    Raises:
        CheckpointError: If it cannot be written (path and cause); the older checkpoints are untouched.
    """
    target = folder / _name(checkpoint.step)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder)
        staging = folder / f"{_STAGING}{target.name}"
        staging.mkdir()
        _write(staging, checkpoint)
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
    files = {name: _verified(path, name, **expected) for name, expected in _manifest(path).items()}
    try:
        state = json.loads(files.pop("state.json"))
        tensors = {name.removesuffix(".safetensors"): load_tensors(content) for name, content in files.items()}
        if path.name != _name(state["step"]):
            raise ValueError(f"its step is {state['step']!r}")
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: {_said(error)}.") from error
    return Checkpoint(step=state["step"], tensors=tensors, state=state)


def _write(staging: Path, checkpoint: Checkpoint) -> None:
    contents = {f"{name}.safetensors": _packed(tensors) for name, tensors in checkpoint.tensors.items()}
    contents["state.json"] = json.dumps(
        {**checkpoint.state, "schema": SCHEMA, "step": checkpoint.step}, indent=1
    ).encode()
    files = {name: {"sha256": _sha256(content), "bytes": len(content)} for name, content in contents.items()}
    contents["manifest.json"] = _listing(files)
    for name, content in contents.items():
        descriptor = os.open(staging / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_durably(descriptor, content)
        finally:
            os.close(descriptor)
    sync_folder(staging)


def _verified(path: Path, name: str, sha256: str, bytes: int) -> bytes:
    try:
        # the size first, so that what stands in the place of a file is not read without end
        size = (path / name).stat().st_size
        content = (path / name).read_bytes() if size == bytes else b""
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path} is damaged: {name} cannot be read ({error.strerror}), expected SHA-256 {sha256}."
        ) from error
    if size != bytes:
        raise CheckpointError(
            f"The checkpoint {path} is damaged: {name} has {size} bytes, expected {bytes} with SHA-256 {sha256}."
        )
    if _sha256(content) != sha256:
        raise CheckpointError(
            f"The checkpoint {path} is damaged: {name} has SHA-256 {_sha256(content)}, expected {sha256}."
        )
    return content


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


def _packed(tensors: Mapping[str, Tensor]) -> bytes:
    return save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _space(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free / 2**20:.0f} MiB free)"
    except OSError:
        return ""
