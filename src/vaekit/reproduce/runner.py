"""Carries a protocol out: trains what is not trained yet, measures, and says what came of it."""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vaekit import api
from vaekit._version import __version__
from vaekit.data.errors import DataNotFoundError
from vaekit.errors import ConfigError, RunError
from vaekit.files import as_json, write_atomically
from vaekit.reproduce.protocol import Arm, Protocol, Row, Say
from vaekit.runs import Run
from vaekit.training.device import select
from vaekit.training.run import RunFolder

RESULTS = "results"


@dataclass(frozen=True)
class Outcome:
    """What a protocol came to.

    Attributes:
        protocol: Which.
        quick: Whether it was the quick variant.
        rows: One for each check.
        runs: By the names of the arms.
        measuring: Seconds of the measurement, of the first time where it was repeated.
        file: Where it is written.
    """

    protocol: Protocol
    quick: bool
    rows: tuple[Row, ...]
    runs: Mapping[str, Run]
    measuring: float
    file: Path

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file, from which the page of results is made."""
        variant = self.protocol.variant(quick=self.quick)
        return {
            "protocol": self.protocol.name,
            "variant": "quick" if self.quick else "full",
            "title": self.protocol.title,
            "source": self.protocol.source,
            "claim": variant.claim,
            "differs": list(self.protocol.differs),
            "rows": [_row(row) for row in self.rows],
            "runs": {name: _run(run) for name, run in self.runs.items()},
            "made_with": made_with(),
            "seconds": round(self.measuring + sum(_seconds(run) for run in self.runs.values()), 1),
            "measuring_seconds": round(self.measuring, 1),
            "finished": datetime.now(UTC).date().isoformat(),
        }


def reproduce(
    protocol: Protocol,
    *,
    quick: bool = False,
    output_dir: Path,
    say: Say,
    progress: api.ShowProgress | None = None,
) -> Outcome:
    """Train the arms of a protocol that are not trained yet, go on with those that were stopped, measure them and judge.

    Arguments:
        protocol: Which.
        quick: Its quick variant.
        output_dir: Above the runs, which are ordinary run folders, and the results.
        say: Told a line at a time.
        progress: As of `api.train`.

    Returns:
        The outcome, which is also in a file below `output_dir`/results.

    Raises:
        ConfigError: If the data are not to be had; one line says how to get them.
    """
    quick = quick or protocol.full is None
    variant = protocol.variant(quick=quick)
    runs: dict[str, Run] = {}
    for number, arm in enumerate(variant.arms, 1):
        say(f"{protocol.name}: {arm.name} ({number} of {len(variant.arms)})")
        runs[arm.name] = trained(arm, output_dir, say, progress)
    began = time.monotonic()
    measured = variant.measure(runs, say)
    rows = tuple(check.row(measured) for check in variant.checks)
    file = output_dir / RESULTS / f"{protocol.name}{'-quick' if quick else ''}.json"
    measuring = max(time.monotonic() - began, _before(file, runs))
    outcome = Outcome(protocol, quick, rows, runs, measuring, file)
    write(outcome)
    return outcome


def trained(arm: Arm, output_dir: Path, say: Say, progress: api.ShowProgress | None) -> Run:
    """The finished run of an arm: one that is there, one that is gone on with, or a new one.

    A run is that of an arm if this version started it with the same command, for any protocol.
    """
    command = shlex.join(["vaekit", "train", *arm.overrides])
    for path in sorted((output_dir / _folder(arm)).glob("*/config.yaml")):
        folder = RunFolder(path.parent)
        environment = folder.environment()
        if (environment.get("command"), environment.get("vaekit")) != (command, __version__):
            continue
        if "finished" in environment:
            say(f"Already trained: {folder.path}")
            return Run(folder.path, select(str(folder.config()["device"])))
        return api.resume(folder.path, say=say, progress=progress)
    words = (*arm.overrides, f"name={_folder(arm)}", f"output_dir={str(output_dir)!r}")
    try:
        return api.train(*words, say=say, progress=progress, command=command)
    except DataNotFoundError as error:
        raise ConfigError(f"{arm.overrides[0]} needs data that are not here: {_how(error)}") from error


def write(outcome: Outcome) -> None:
    """Write the outcome as JSON, to its file.

    Raises:
        RunError: If it cannot be written.
    """
    file = outcome.file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, (as_json(outcome.as_dict(), indent=2) + "\n").encode())
    except OSError as error:
        raise RunError(f"Cannot write {file}: {error.strerror or error}.") from error


def made_with() -> dict[str, Any]:
    """Versions and hardware: what a reader needs to judge the time."""
    return {
        "vaekit": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def _before(file: Path, runs: Mapping[str, Run]) -> float:
    """How long the same runs were measured for at another time, when their numbers were not there yet; 0 if never."""
    try:
        found = json.loads(file.read_text("utf-8"))
        same = found["runs"] == {name: _run(run) for name, run in runs.items()}
        return float(found["measuring_seconds"]) if same else 0.0
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0


def _folder(arm: Arm) -> str:
    experiment = arm.overrides[0].removeprefix("experiment=") if arm.overrides else "none"
    return f"{experiment}-{arm.name}"


def _how(error: Exception) -> str:
    """The one line of a message about data that says what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    wanted = [line for line in lines if line.startswith(("data set", "Put the files", "They can be had"))]
    return " ".join(wanted or lines)


def _seconds(run: Run) -> float:
    return float(run.folder.environment().get("seconds", 0.0))


def _row(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "ours": row.ours.as_dict(),
        "published": row.published,
        "difference": None if row.published is None else row.ours.value - row.published,
        "source": row.source,
        "rule": row.rule,
        "verdict": str(row.verdict),
        "estimators": list(row.estimators),
    }


def _run(run: Run) -> dict[str, Any]:
    environment = run.folder.environment()
    names = ("command", "vaekit", "torch", "device", "threads", "seconds", "best_epoch")
    return {name: environment.get(name) for name in names}


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:  # not Linux
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
