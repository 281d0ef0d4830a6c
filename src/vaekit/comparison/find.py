"""Run folders below other folders: those that are finished, and why the others are left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaekit.errors import RunError
from vaekit.training.run import RunFolder

# folders below a given one: a search through all of a disk would help nobody
DEEPEST = 6
_INSIDE = {"checkpoints", "figures", "frames", "node_modules"}


@dataclass(frozen=True)
class Found:
    """What a search came upon.

    Attributes:
        runs: Finished ones, each once, by path.
        left_out: A line for each of the others, with the reason.
    """

    runs: tuple[Path, ...]
    left_out: tuple[str, ...]


def find(roots: Sequence[Path]) -> Found:
    """All runs in and below these folders. Links are not followed; a run given twice counts once.

    Raises:
        RunError: If a folder is not there, or there is no finished run below any of them.
    """
    runs: dict[Path, Path] = {}
    left_out: dict[Path, str] = {}
    for root in roots:
        if not root.is_dir():
            raise RunError(f"{root} is no folder. Give folders with finished runs, such as runs.")
        known = _told_by_sweeps(root)
        for path in _run_folders(root):
            real = path.resolve()
            if real in runs or real in left_out:
                continue
            reason = _unusable(path) or ""
            if reason:
                left_out[real] = f"{path}: {known.get(real, reason)}"
            else:
                runs[real] = path
    if not runs:
        searched = ", ".join(map(str, roots))
        also = (
            f" {len(left_out)} {'is' if len(left_out) == 1 else 'are'} not: {'; '.join(left_out.values())}"
            if left_out
            else ""
        )
        raise RunError(f"No finished run in {searched} (searched {DEEPEST} folders deep).{also[:600]}")
    return Found(tuple(runs.values()), tuple(left_out.values()))


def _run_folders(root: Path) -> Iterator[Path]:
    base = len(root.parts)
    for folder, names, files in os.walk(root):
        path = Path(folder)
        names.sort()
        if "config.yaml" in files and "sweep.json" not in files:
            yield path
            names.clear()
        elif len(path.parts) - base >= DEEPEST:
            names.clear()
        else:
            names[:] = [name for name in names if name not in _INSIDE and not name.startswith(".")]


def _unusable(path: Path) -> str | None:
    """Why a run cannot be compared."""
    try:
        folder = RunFolder(path)
        folder.config()
        environment, metrics = folder.environment(), folder.metrics()
    except RunError as error:
        return f"damaged: {error}"
    if not (path / "model.safetensors").is_file():
        return "not finished; vaekit resume goes on with it"
    if "finished" not in environment or not metrics:
        return "trained but not measured to the end; vaekit resume finishes it"
    return None


def _told_by_sweeps(root: Path) -> dict[Path, str]:
    """What sweeps know of runs that came to no end: those they stopped, and those that failed."""
    told = {}
    for file in [*root.glob("sweep.json"), *root.glob("*/sweep.json"), *root.glob("*/*/sweep.json")]:
        try:
            results = json.loads(file.read_text("utf-8"))["results"]
            for result in results:
                state, error = str(result["state"]), str(result.get("error") or "").strip()
                if state in ("pruned", "failed") and result.get("run"):
                    reason = (
                        "stopped early by its sweep"
                        if state == "pruned"
                        else f"failed: {error.splitlines()[0] if error else ''}"
                    )
                    told[(file.parent / str(result["run"])).resolve()] = reason
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # the runs speak for themselves
    return told
