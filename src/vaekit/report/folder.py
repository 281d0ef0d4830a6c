"""Reading a run folder as it is found: complete, unfinished, or cut off in the middle of a line.

Nothing here raises for the content of a file. What is missing or broken becomes a sentence in `RunFolder.problems`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from vaekit.report.history import Row

# RecursionError: a file of a thousand opening brackets is as broken as half a file
_UNREADABLE = (OSError, ValueError, RecursionError, yaml.YAMLError)


@dataclass(frozen=True)
class Number:
    """One entry of metrics.json."""

    value: float
    standard_error: float
    unit: str
    n: int
    estimator: str = ""


@dataclass(frozen=True)
class Picture:
    """One PNG or GIF of the run: its name without suffix, its bytes, its size in pixels, and which of the two it is."""

    name: str
    content: bytes
    width: int
    height: int
    kind: str = "png"


@dataclass
class RunFolder:
    """All that a report shows, and what could not be read."""

    path: Path
    config_text: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Number] = field(default_factory=dict)
    symptoms: dict[str, Number] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_run(path: Path) -> RunFolder:
    """Read the plain files of a run folder.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise NotADirectoryError(
            f"{path} is no run folder. Give the folder that `vaekit train` printed as its last line."
        )
    run = RunFolder(path)
    run.config_text = _text(run, "config.yaml") or ""
    run.config = _mapping(run, "config.yaml", run.config_text, yaml.safe_load)
    run.environment = _mapping(run, "environment.json", _text(run, "environment.json"), json.loads)
    run.metrics = _numbers(run, _mapping(run, "metrics.json", _text(run, "metrics.json"), json.loads))
    if (path / "symptoms.json").exists():  # runs of before version 0.3 have none, and lack nothing
        run.symptoms = _numbers(run, _mapping(run, "symptoms.json", _text(run, "symptoms.json"), json.loads))
    run.rows = _rows(run)
    run.pictures = _pictures(run)
    return run


def _text(run: RunFolder, name: str) -> str | None:
    try:
        return (run.path / name).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        run.problems.append(f"{name} is missing." + _REMEDIES.get(name, ""))
    except OSError as error:
        run.problems.append(f"{name} cannot be read: {error.strerror}.")
    return None


_REMEDIES = {
    "metrics.json": " The run has not been evaluated yet; the command stands at the end, under Reproduce.",
    "metrics.jsonl": " No epoch has been logged yet.",
}


def _mapping(run: RunFolder, name: str, text: str | None, parse: Callable[[str], Any]) -> dict[str, Any]:
    if text is None or (not text and name == "config.yaml"):
        return {}
    try:
        content = parse(text)
    except _UNREADABLE:
        run.problems.append(f"{name} cannot be understood: it is damaged or ends in the middle.")
        return {}
    if not isinstance(content, dict):
        run.problems.append(f"{name} cannot be understood: it holds no names with values.")
        return {}
    return {str(key): value for key, value in content.items()}


def _numbers(run: RunFolder, entries: dict[str, Any]) -> dict[str, Number]:
    numbers = {}
    for name, entry in entries.items():
        try:
            numbers[name] = Number(
                value=_float(entry["value"]),
                standard_error=_float(entry.get("standard_error", 0.0)),
                unit=str(entry.get("unit", "1")),
                n=int(entry.get("n") or 0),
                estimator=str(entry.get("estimator") or ""),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            run.problems.append(f"metrics.json: the entry {name!r} is no estimate and is left out.")
    return numbers


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)  # JSON without NaN writes null


def _rows(run: RunFolder) -> list[Row]:
    text = _text(run, "metrics.jsonl")
    lines = [line for line in (text or "").split("\n") if line.strip()]
    rows = [_row(line) for line in lines]
    broken = [number for number, row in enumerate(rows, 1) if row is None]
    if broken == [len(lines)]:
        run.problems.append("The last line of metrics.jsonl is incomplete: the run was stopped while it wrote.")
    elif broken:
        run.problems.append(f"{len(broken)} of {len(lines)} lines of metrics.jsonl cannot be understood.")
    return [row for row in rows if row is not None]


def _row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except _UNREADABLE:
        return None
    return row if isinstance(row, dict) else None


def _pictures(run: RunFolder) -> list[Picture]:
    found = []
    files = [path for path in (run.path / "figures").glob("*") if path.suffix in (".png", ".gif")]
    for path in sorted(files, key=lambda path: path.name):
        kind = path.suffix[1:]
        try:
            content = path.read_bytes()
            with Image.open(BytesIO(content), formats=[kind.upper()]) as image:
                image.load()  # a truncated file fails here, not in the reader's browser
                found.append(Picture(path.stem, content, *image.size, kind))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            run.problems.append(f"figures/{path.name} is no complete {kind.upper()} and is left out.")
    if not found:
        run.problems.append("There are no pictures yet.")
    return found
