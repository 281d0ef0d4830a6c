"""What a run is called, when it ran, on which data: the facts at the head of the page."""

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from vaekit.report.folder import RunFolder
from vaekit.report.private import without_home

_DATE = re.compile(r"^(\d{4}-\d{2}-\d{2})(?:[T_ -]+(\d{2})[:.-]?(\d{2}))?")


def run_name(run: RunFolder) -> str:
    """Give the name of the run: as configured, else from the folders `<name>/<date-time>`."""
    for key in ("name", "exp_name"):
        if isinstance(run.config.get(key), str) and run.config[key].strip():
            return str(run.config[key])
    path = run.path.resolve()
    return path.parent.name if _DATE.match(path.name) and path.parent != Path.home() else path.name


def run_path(run: RunFolder) -> str:
    """Give the folder as the command named it: from the configuration, else without what lies above `runs`."""
    above, name = run.config.get("output_dir"), run.config.get("name")
    if isinstance(above, str) and isinstance(name, str) and above and name:
        return shlex.quote(str(PurePath(above, name, run.path.resolve().name)))
    parts = run.path.resolve().parts
    below = parts[len(parts) - 1 - parts[::-1].index("runs") :] if "runs" in parts else parts[-1:]
    return shlex.quote("/".join(below))


def facts(run: RunFolder) -> Iterator[tuple[str, str]]:
    """Give name and value of what is known about the run: data set, model, date, duration, device."""
    known = {
        "data": _named(run.config.get("data")),
        "model": _named(run.config.get("model")),
        "started": _date(run.environment.get("started")) or _date(run.path.resolve().name),
        "took": _duration(run.environment.get("seconds")),
        "device": _plain(run.environment.get("device")),
    }
    for name, value in known.items():
        if value:
            yield name, without_home(value)


def command(run: RunFolder) -> str:
    """Give the command line that made the run, or one that would."""
    given = run.environment.get("command")
    if isinstance(given, list) and given:
        given = shlex.join(map(str, given))
    if isinstance(given, str) and given.strip():
        return without_home(given, allowed=run.config_text)
    return "vaekit train"


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Give the leaves of nested mappings as dotted names and text."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _named(node: object) -> str:
    # a node is a name by itself, or says what it is under one of these keys
    if isinstance(node, Mapping):
        path = str(node.get("path") or "")
        return next((_plain(node[key]) for key in ("name", "dataset", "kind") if node.get(key)), "") or Path(path).name
    return _plain(node)


def _plain(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _date(value: object) -> str:
    match = _DATE.match(str(value or ""))
    return f"{match[1]} {match[2]}:{match[3]}" if match and match[2] else match[1] if match else ""


def _duration(seconds: object) -> str:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
