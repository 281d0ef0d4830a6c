"""Checkpoints: safetensors and JSON under a SHA-256 manifest, put in place by one rename. No pickle is written or read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from vaekit.errors import CheckpointError
from vaekit.files import sync_folder, write_durably

SCHEMA = 1
_PREFIX, _STAGING = "step-", ".staging-"


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
    target = folder / f"{_PREFIX}{checkpoint.step:09d}"
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
    for old in _newest_first(folder)[keep:]:
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
    for path in found:
        try:
            return load(path)
        except CheckpointError as error:
            warn(f"{error} Taking the one before.")
    if found:
        raise CheckpointError(f"None of the {len(found)} checkpoints in {folder} can be read; train anew.")
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
    files = dict(_verified(path))
    state = json.loads(files.pop("state.json"))
    if state["schema"] > SCHEMA:
        raise CheckpointError(
            f"The checkpoint {path} was made by vaekit {state['vaekit']} in format {state['schema']}; this version reads up to "
            f"format {SCHEMA}. Update vaekit."
        )
    tensors = {name.removesuffix(".safetensors"): load_tensors(content) for name, content in files.items()}
    return Checkpoint(step=state["step"], tensors=tensors, state=state)


def _write(staging: Path, checkpoint: Checkpoint) -> None:
    contents = {f"{name}.safetensors": _packed(tensors) for name, tensors in checkpoint.tensors.items()}
    contents["state.json"] = json.dumps(
        {**checkpoint.state, "schema": SCHEMA, "step": checkpoint.step}, indent=1
    ).encode()
    files = {name: {"sha256": _sha256(content), "bytes": len(content)} for name, content in contents.items()}
    contents["manifest.json"] = json.dumps({"schema": SCHEMA, "files": files}, indent=1).encode()
    for name, content in contents.items():
        descriptor = os.open(staging / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_durably(descriptor, content)
        finally:
            os.close(descriptor)
    sync_folder(staging)


def _verified(path: Path) -> Iterator[tuple[str, bytes]]:
    listed = _manifest(path)
    for name, expected in listed.items():
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint {path} is damaged: {name} cannot be read ({error.strerror})."
            ) from error
        found = _sha256(content)
        if found != expected["sha256"]:
            raise CheckpointError(
                f"The checkpoint {path} is damaged: {name} has SHA-256 {found}, expected {expected['sha256']} "
                f"({len(content)} bytes, expected {expected['bytes']})."
            )
        yield name, content


def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    try:
        files = json.loads((path / "manifest.json").read_bytes())["files"]
        if "state.json" not in files or any(Path(name).name != name for name in files):
            raise ValueError("it does not list the files of a checkpoint")
        return {str(name): {"sha256": entry["sha256"], "bytes": entry["bytes"]} for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: manifest.json cannot be used ({error}).") from error


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
