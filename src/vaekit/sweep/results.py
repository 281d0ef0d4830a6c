"""What has come of a sweep's trials so far: in memory, and as `sweep.json` and `sweep.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from vaekit.files import as_json, write_atomically
from vaekit.report.comparison import neutral
from vaekit.sweep.store import PATIENCE, Store, place, settings_of

FINISHED, FAILED, PRUNED, RUNNING = "finished", "failed", "pruned", "running"
_WORDS = {TrialState.COMPLETE: FINISHED, TrialState.FAIL: FAILED, TrialState.PRUNED: PRUNED}


@dataclass(frozen=True)
class Result:
    """One trial.

    Attributes:
        trial: Its number, which is in the name of its folder.
        point: Which of the sweep's settings.
        attempt: How many times these have failed before.
        state: finished, failed, pruned, or running (perhaps in a process that has died).
        settings: What it tries, by key.
        score: Of the weights that it keeps, or the last one of a run that was stopped.
        metric: What the score is.
        epoch: Of these weights.
        seconds: That it took.
        run: Its folder, from that of the sweep.
        machine: Where it ran.
        error: Why it failed.
    """

    trial: int
    point: int
    attempt: int
    state: str
    settings: Mapping[str, str]
    score: float | None
    metric: str
    epoch: int | None
    seconds: float | None
    run: str
    machine: str
    error: str

    @property
    def words(self) -> str:
        """The settings in one line."""
        return described(self.settings)


def described(settings: Mapping[str, str]) -> str:
    """Settings in one line."""
    return " ".join(f"{key}={value}" for key, value in settings.items())


def results(store: Store, patience: float = PATIENCE) -> list[Result]:
    """The last attempt at each of the settings, best first, then those without a score."""
    last = {place(trial)[0]: trial for trial in sorted(store.trials(patience), key=place)}
    sign = -1.0 if store.definition.higher else 1.0

    def order(result: Result) -> tuple[bool, bool, float, int]:
        ended = result.state == FINISHED
        return (not ended, result.score is None, sign * (result.score or 0.0), result.trial)

    return sorted((_result(trial) for trial in last.values()), key=order)


def write(folder: Path, store: Store, count: int) -> list[Result]:
    """Write `sweep.json` and `sweep.csv`, and give what is in them."""
    found = results(store)
    definition = store.definition
    content = {
        "name": store.name,
        "trials": count,
        "sampler": definition.sampler,
        "seed": definition.seed,
        "prune": definition.prune,
        "metric": definition.metric,
        "direction": "max" if definition.higher else "min",
        "axes": [axis.as_dict() for axis in definition.axes],
        "results": [vars(result) for result in found],
    }
    write_atomically(folder / "sweep.json", (as_json(content, indent=2) + "\n").encode())
    write_atomically(folder / "sweep.csv", _csv(found, [axis.key for axis in definition.axes]).encode())
    return found


def tally(found: Sequence[Result], count: int) -> str:
    """How it stands: "16 trials: 14 finished, 1 failed, 1 pruned"."""
    states = [result.state for result in found]
    numbers = {state: states.count(state) for state in (FINISHED, FAILED, PRUNED)}
    left = count - sum(numbers.values())
    said = [f"{number} {state}" for state, number in numbers.items()]
    return (
        f"{count} {'trial' if count == 1 else 'trials'}: {', '.join([*said, *([f'{left} left'] if left > 0 else [])])}"
    )


def _csv(found: Sequence[Result], keys: Sequence[str]) -> str:
    names = ("trial", "state", "score", "metric", "epoch", "seconds", "run", "machine", "error")
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*names[:3], *keys, *names[3:]])
    for result in found:
        entries: dict[str, Any] = vars(result)
        row = ["" if entries[name] is None else neutral(str(entries[name])) for name in names]
        table.writerow([*row[:3], *(neutral(result.settings[key]) for key in keys), *row[3:]])
    return file.getvalue()


def _result(trial: FrozenTrial) -> Result:
    point, attempt = place(trial)
    noted = trial.user_attrs
    return Result(
        trial=trial.number,
        point=point,
        attempt=attempt,
        state=_WORDS.get(trial.state, RUNNING),
        settings=settings_of(trial),
        score=trial.value if trial.state.is_finished() else _latest(trial),
        metric=noted.get("metric", ""),
        epoch=noted.get("epoch"),
        seconds=noted.get("seconds"),
        run=noted.get("run", ""),
        machine=noted.get("machine", ""),
        error=noted.get("error", ""),
    )


def _latest(trial: FrozenTrial) -> float | None:
    return trial.intermediate_values[trial.last_step] if trial.last_step is not None else None
