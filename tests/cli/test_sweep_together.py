"""`vaekit sweep --together`: the runs are those of a sweep without it, and it can be killed, and says what it cannot do."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

pytest.importorskip("optuna")

from vaekit.sweep import Choices, Definition
from vaekit.sweep.metric import Metric
from vaekit.sweep.sampling import Settings
from vaekit.sweep.store import StorageError, Store, sqlite
from vaekit.sweep.worker import Plan, Worker

pytestmark = pytest.mark.usefixtures("no_pictures_here")
TINY = [
    "hidden_dim=8", "latent_dim=2", "training.batch_size=400", "training.epochs=2", "evaluation.samples=1", "device=cpu",
    "training.checkpoint_seconds=0",
]  # fmt: skip
GRID = ("beta=0.5,1", "seed=1,2,3")


@pytest.fixture
def sweep(vaekit: Any, tmp_path: Path) -> Callable[..., Any]:
    return lambda *arguments: vaekit("sweep", *TINY, "--output-dir", tmp_path, *arguments)


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "sweep.csv").read_text())))


def by_settings(folder: Path) -> dict[tuple[str, ...], Path]:
    keys = ("beta", "seed", "latent_dim", "optimizer.lr")
    return {tuple(row.get(key) or "" for key in keys): folder / row["run"] for row in table(folder)}


def check_alike(one: Path, other: Path) -> None:
    """Two run folders: the same files, and the same numbers up to rounding."""
    names = {file.relative_to(one).as_posix() for file in one.rglob("*") if file.is_file()}
    assert names == {file.relative_to(other).as_posix() for file in other.rglob("*") if file.is_file()}
    first, second = (load_file(run / "model.safetensors") for run in (one, other))
    for name, tensor in first.items():
        assert (tensor - second[name]).norm() <= 1e-5 * tensor.norm(), name
    for a, b in zip(rows(one), rows(other), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    a, b = (json.loads((run / "metrics.json").read_text()) for run in (one, other))
    assert a.keys() == b.keys()
    for name, estimate in a.items():
        assert estimate["value"] == pytest.approx(b[name]["value"], rel=1e-4, abs=1e-5), name


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(vaekit: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep one run after another."""
    said = vaekit("sweep", *TINY, *GRID, "--output-dir", tmp_path_factory.mktemp("alone"))
    assert said.code == 0, said.err
    return Path(said.last)


def test_the_runs_are_those_of_a_sweep_without_it(sweep: Any, vaekit: Any, alone: Path) -> None:
    said = sweep(*GRID, "--together", "4")
    assert said.code == 0, said.err
    assert "6 trials: 6 finished, 0 failed, 0 pruned; best first, by val/elbo" in said.out
    assert " after another" not in said.out
    folder = Path(said.last)
    assert folder.name == alone.name  # it is the same sweep
    here, there = by_settings(folder), by_settings(alone)
    assert here.keys() == there.keys()
    for settings, run in here.items():
        check_alike(there[settings], run)
    assert [row["seed"] for row in table(folder)] == [row["seed"] for row in table(alone)]
    again = sweep(*GRID, "--together", "2")
    assert " begins" not in again.out
    run = next(iter(here.values()))
    assert vaekit("evaluate", run, "evaluation.samples=2").code == 0
    assert vaekit("resume", run).code == 0


def test_killed_and_started_again_it_repeats_nothing(tmp_path: Path, forked: Any, sweep: Any, alone: Path) -> None:
    command = ("sweep", *TINY, *GRID, "--together", "4", "--output-dir", tmp_path)
    for number, marker in ((signal.SIGKILL, "checkpoints/*"), (signal.SIGTERM, "metrics.jsonl")):
        process = forked(*command, out=tmp_path / "out")
        end = time.monotonic() + 120
        while not list(tmp_path.glob(f"sweeps/*/trial-*/*/{marker}")):
            assert time.monotonic() < end
            time.sleep(0.002)
        os.kill(process, number)
        os.waitpid(process, 0)
    said = sweep(*GRID, "--together", "4")
    assert said.code == 0, said.err
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert len(list(folder.glob("trial-*/*/config.yaml"))) == 6
    there = by_settings(alone)
    for settings, run in by_settings(folder).items():
        assert len(rows(run)) == 2
        check_alike(there[settings], run)


def test_a_grid_of_several_shapes_makes_groups_of_each(sweep: Any) -> None:
    said = sweep("seed=1,2", "latent_dim=2,3", "training.epochs=1", "--together", "8")
    assert said.code == 0, said.err
    begun = [line.partition(": ")[2] for line in said.out.splitlines() if " begins" in line]
    assert begun == ["seed=1 latent_dim=2", "seed=2 latent_dim=2", "seed=1 latent_dim=3", "seed=2 latent_dim=3"]


def test_what_cannot_be_trained_together_is_trained_all_the_same(sweep: Any) -> None:
    said = sweep("model=vqvae", "seed=1,2", "training.epochs=1", "--together", "2")
    assert said.code == 0, said.err
    (line,) = (line for line in said.out.splitlines() if "one after another" in line)
    assert line == (
        "trial 0, trial 1: trained one after another, because which of their codes is the nearest hangs on the last digit"
    )
    assert "2 finished, 0 failed" in said.out


def test_one_that_fails_leaves_the_others(sweep: Any) -> None:
    said = sweep("optimizer.lr=1e-3,1e30,2e-3", "--together", "3", "--name", "some")
    assert said.code == 1
    assert "3 trials: 2 finished, 1 failed, 0 pruned" in said.out
    assert "trial 1 failed (optimizer.lr=1e+30): " in said.out


@pytest.mark.slow
def test_bad_runs_are_stopped_early_and_it_says_by_whom(sweep: Any) -> None:
    arguments = ("optimizer.lr=0.01,0.011,0.012,0.013,1e-9,0.014", "training.epochs=6", "--prune", "median")
    said = sweep(*arguments, "--together", "4")
    assert said.code == 0, said.err
    assert "warning: --prune compares a run with those that have ended: of runs that are trained together" in said.err
    assert "5 finished, 0 failed, 1 pruned" in said.out


@pytest.mark.parametrize(
    ("number", "words"), [("0", "--together 0: expected 1 or more"), ("-3", "--together -3"), ("x", "'x'")]
)
def test_a_mistake_is_one_line(number: str, words: str, sweep: Any, tmp_path: Path) -> None:
    said = sweep("seed=1,2", f"--together={number}")
    assert said.code == 2
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.glob("**/trial-*"))


def test_trials_in_hand_are_let_go_where_the_next_cannot_be_taken(tmp_path: Path) -> None:
    seeds = Choices("seed", ("1", "2", "3"))
    store = Store(sqlite(tmp_path / "sweep.db"), "a", Definition((seeds,), "random", 1))

    def propose(point: int, *_: Any) -> Settings:
        if point == 2:
            raise StorageError("the storage is away")
        return {"seed": str(point)}

    plan = Plan(tmp_path, 3, propose, Metric("val/elbo"), lambda settings: [], together=3)
    with pytest.raises(StorageError, match="the storage is away"):
        Worker(store, plan, Any).work()  # type: ignore[arg-type]  # nothing is shown
    assert [claim.owner for claim in store.claims.all()] == ["", ""]
    store.close()
