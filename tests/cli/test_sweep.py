"""`vaekit sweep`: every form, kills at random, two processes on one storage, failures, and what it says."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from vaekit import api
from vaekit.cli.main import main

pytestmark = pytest.mark.usefixtures("no_pictures_here")
SOURCE = Path(__file__).parents[2] / "src"
# an epoch of these is a few hundredths of a second; the pictures, which are tested elsewhere, would be most of the time
TINY = [
    "hidden_dim=8", "training.batch_size=400", "training.epochs=2", "evaluation.samples=1", "device=cpu",
    "training.checkpoint_seconds=0",
]  # fmt: skip


@pytest.fixture
def sweep(vaekit: Any, tmp_path: Path) -> Callable[..., Any]:
    """Sweeps with tiny networks below the test's folder."""
    return lambda *arguments: vaekit("sweep", *TINY, "--output-dir", tmp_path, *arguments)


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "sweep.csv").read_text())))


def runs(folder: Path) -> list[Path]:
    """Finished run folders."""
    return sorted(page.parent for page in folder.glob("trial-*/*/report.html"))


def weights(folder: Path) -> dict[str, tuple[bytes, ...]]:
    """What each of the settings came to, bit for bit."""
    names = ("model.safetensors", "metrics.jsonl", "metrics.json")
    return {
        f"{row['latent_dim']} {row['beta']}": tuple((folder / row["run"] / name).read_bytes() for name in names)
        for row in table(folder)
    }


def ended(process: int) -> int:
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return status if status >= 0 else 128 - status


def wait_for(what: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def says(file: Path, words: str) -> bool:
    return file.exists() and words in file.read_text()


def test_a_grid(sweep: Any, tmp_path: Path) -> None:
    said = sweep("latent_dim=2,3", "network.encoder.activation=relu,silu")
    assert said.code == 0, said.err
    folder = Path(said.last)
    assert folder.parent == tmp_path / "sweeps"
    assert said.out.splitlines()[-2] == f"Compare: vaekit compare {folder}"
    assert "4 trials: 4 finished, 0 failed, 0 pruned; best first, by val/elbo" in said.out
    rows, content = table(folder), json.loads((folder / "sweep.json").read_text())
    assert len(rows) == len(runs(folder)) == len(content["results"]) == 4
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row, result in zip(rows, content["results"], strict=True):
        assert result["settings"] == {name: row[name] for name in ("latent_dim", "network.encoder.activation")}
        run = folder / row["run"]
        config = (run / "config.yaml").read_text()
        assert f"latent_dim: {row['latent_dim']}" in config
        assert f"activation: {row['network.encoder.activation']}" in config
        elbos = [json.loads(line)["val/elbo"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert result["score"] == max(elbos)
        assert result["epoch"] == 1 + elbos.index(max(elbos))
        assert row["state"] == "finished"
    again = sweep("latent_dim=2,3", "network.encoder.activation=relu,silu")
    assert again.code == 0
    assert " begins" not in again.out
    assert again.last == said.last
    assert len(runs(folder)) == 4


def test_train_with_m_and_flags_and_parts_and_an_experiment(vaekit: Any, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhidden_dim: 8\ntraining: {epochs: 1, batch_size: 400}\n"
        "sweep: {latent_dim: [2, 3, 4], beta: [0.5]}\n"
    )
    said = vaekit(
        "train", "-m", "experiment=mine", "--config-dir", tmp_path, "latent_dim=2", "--recon", "bce,gaussian", "--device", "cpu",
        "--output-dir", tmp_path / "a, b", "--metric", "val/recon_loss",
    )  # fmt: skip
    assert said.code == 0, said.err
    folder = Path(said.last)
    assert folder == tmp_path / "a, b" / "sweeps" / "mine"
    rows = table(folder)
    # what the command line says once is no axis any more
    assert [(row["--recon"], row["beta"]) for row in sorted(rows, key=lambda row: row["--recon"])] == [
        ("bce", "0.5"), ("gaussian", "0.5"),
    ]  # fmt: skip
    assert "latent_dim" not in rows[0]
    kinds = {(folder / row["run"] / "config.yaml").read_text().count("likelihoods.Normal") for row in rows}
    assert kinds == {0, 1}
    losses = [float(row["score"]) for row in rows]
    assert losses == sorted(losses)  # a loss: lower is better


def test_a_failed_run_is_recorded_and_the_rest_goes_on(sweep: Any) -> None:
    arguments = ("latent_dim=2,-1,3", "--name", "some")
    said = sweep(*arguments)
    assert said.code == 1
    assert "3 trials: 2 finished, 1 failed, 0 pruned" in said.out
    (line,) = (line for line in said.out.splitlines() if line.startswith("trial 1 failed (latent_dim=-1)"))
    folder = Path(said.last)
    (failed,) = (row for row in table(folder) if row["state"] == "failed")
    assert failed["error"]
    assert failed["error"] in line
    assert " begins" not in sweep(*arguments).out
    again = sweep(*arguments, "--retry")
    assert again.code == 1
    assert again.out.count(" begins") == 1
    assert "trial 3 begins: latent_dim=-1" in again.out
    assert len(table(folder)) == 3
    assert len(runs(folder)) == 2


def test_a_failure_of_the_machine_is_no_failure_of_the_settings(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "/runs")

    with monkeypatch.context() as patch:
        patch.setattr(api, "evaluate", full)
        said = sweep("latent_dim=2,3")
    assert said.code == 1
    assert said.err == "vaekit: /runs: No space left on device\n"
    said = sweep("latent_dim=2,3")
    assert "2 finished, 0 failed" in said.out
    assert len(runs(Path(said.last))) == 2


def test_bad_runs_are_stopped_early(sweep: Any, tmp_path: Path) -> None:
    arguments = ("optimizer.lr=0.01,0.011,0.012,0.013,1e-9", "training.epochs=3", "--prune", "median", "latent_dim=2")
    said = sweep(*arguments)
    assert said.code == 0, said.err
    assert "4 finished, 0 failed, 1 pruned" in said.out
    folder = Path(said.last)
    (pruned,) = (row for row in table(folder) if row["state"] == "pruned")
    assert pruned["optimizer.lr"] == "1e-09"
    assert pruned["epoch"] == "1"
    run = folder / pruned["run"]
    assert json.loads((run / "environment.json").read_text())["pruned"] == 1
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    assert "half of the runs were better" in (run / "train.log").read_text()
    assert not (run / "model.safetensors").exists()


@pytest.fixture(scope="module")
def whole(vaekit: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, ...]]:
    """The sweep that is killed below, left alone."""
    said = vaekit("sweep", *TINY, *GRID, "--output-dir", tmp_path_factory.mktemp("whole"))
    assert said.code == 0, said.err
    return weights(Path(said.last))


GRID = ("latent_dim=2,3", "beta=0.5,2", "training.epochs=4")


def test_killed_at_random_and_started_again_it_repeats_nothing(
    tmp_path: Path, forked: Any, whole: dict[str, tuple[bytes, ...]]
) -> None:
    chance, command = random.Random(5), ("sweep", *TINY, *GRID, "--output-dir", tmp_path)
    kills = 0
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = forked(*command, out=tmp_path / f"out{kills}")
        # a moment into a trial that has begun, wherever that is: in its training, its evaluation, or between two
        wait_for(partial(says, tmp_path / f"out{kills}", " begins"))
        time.sleep(chance.uniform(0.0, 0.6))
        os.kill(process, number)
        code = ended(process)
        assert code in (128 + number, 0)
        if code == 0:
            break
        if number != signal.SIGKILL:
            said = (tmp_path / f"out{kills}").read_text()
            assert f"vaekit: stopped by signal {number:d}; go on with: vaekit sweep" in said
            assert "Traceback" not in said
        kills += 1
    assert kills >= 2
    assert ended(forked(*command, out=tmp_path / "last")) == 0, (tmp_path / "last").read_text()
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert len(runs(folder)) == len(table(folder)) == 4
    assert len(list(folder.glob("trial-*/*/config.yaml"))) == 4
    assert weights(folder) == whole


def test_two_processes_share_the_trials(tmp_path: Path, forked: Any, whole: dict[str, tuple[bytes, ...]]) -> None:
    command = ("sweep", *TINY, *GRID, "--output-dir", tmp_path)
    processes = [forked(*command, out=tmp_path / f"out{index}") for index in range(2)]
    assert [ended(process) for process in processes] == [0, 0]
    said = [(tmp_path / f"out{index}").read_text() for index in range(2)]
    begun = Counter(line.split()[1] for text in said for line in text.splitlines() if " begins:" in line)
    assert begun == Counter("0123")
    assert all(" begins:" in text for text in said), said
    assert all("4 trials: 4 finished, 0 failed, 0 pruned; best first" in text for text in said)
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert len(runs(folder)) == len(list(folder.glob("trial-*/*/config.yaml"))) == 4
    assert weights(folder) == whole


@pytest.mark.parametrize("moment", ["trial", "tell"])
def test_killed_between_two_steps_of_the_storage(
    moment: str, sweep: Any, tmp_path: Path, forked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claimed and not yet made; finished and not yet told: neither is lost, and what is finished is not trained again."""
    from vaekit.sweep.store import Store

    def killed(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Store, moment, killed)
        process = forked("sweep", *TINY, "--output-dir", tmp_path, "latent_dim=2,3", out=tmp_path / "out")
    assert ended(process) == 128 + signal.SIGKILL
    before = runs(tmp_path / "sweeps" / "latent_dim")
    trained = []
    train = api.training
    monkeypatch.setattr(
        api, "training", lambda *overrides, **more: trained.append(overrides) or train(*overrides, **more)
    )
    said = sweep("latent_dim=2,3")
    assert said.code == 0, said.err
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert len(trained) == (2 if moment == "trial" else 1)
    assert len(runs(folder)) == len(list(folder.glob("trial-*/*/config.yaml"))) == 2
    assert set(before) <= set(runs(folder))
    assert sorted(row["trial"] for row in table(folder)) == ["0", "1"]


def test_another_sweep_under_the_same_name_is_refused(sweep: Any) -> None:
    assert sweep("latent_dim=2", "beta=1,2", "--name", "mine", "training.epochs=1").code == 0
    said = sweep("latent_dim=2", "beta=1,3", "--name", "mine", "training.epochs=2")
    assert said.code == 2
    assert said.err.startswith("vaekit: The sweep 'mine' in sqlite:///")
    assert "is another one: beta.values is 1,3, was 1,2; training.epochs is 2, was 1" in said.err
    assert said.err.count("\n") == 1


def test_draws_go_on_where_more_are_asked_for(sweep: Any) -> None:
    arguments = ("optimizer.lr=log(1e-4,1e-2)", "latent_dim=int(interval(2,5))", "training.epochs=1", "--name", "draws")
    assert sweep(*arguments, "--sampler", "tpe", "--trials", "2").code == 0
    said = sweep(*arguments, "--trials", "3")  # tpe is what intervals are sampled by if nothing is said
    assert said.code == 0, said.err
    assert said.out.count(" begins") == 1
    rows = table(Path(said.last))
    assert len({row["optimizer.lr"] for row in rows}) == 3
    for row in rows:
        assert 1e-4 <= float(row["optimizer.lr"]) <= 1e-2
        assert int(row["latent_dim"]) in range(2, 6)


MISTAKES = {
    "nothing to vary": ("latent_dim=2", "There is nothing to vary: give a key several values"),
    "tracking": (
        "tracking=none,mlflow",
        "tracking changes nothing about a model, so it cannot vary: give it one value",
    ),
    "key": ("latent_dmi=2,3", "closest: latent_dim"),
    "choice": ("model=mlp,cnm", "there is no model 'cnm'; closest: cnn"),
    "flag": ("--latent-dmi 2,3", "there is no flag --latent-dmi"),
    "empty range": ("latent_dim=range(9,3)", "no value in it"),
    "value": ("latent_dim=2,3 beta={kind:nothing}", "'nothing'"),
    "no trials": ("optimizer.lr=log(1e-4,1e-2)", "--sampler tpe has no end of its own: write --trials N"),
    "grid of an interval": ("optimizer.lr=log(1e-4,1e-2) --sampler grid", "has no end of values"),
    "sampler": ("latent_dim=2,3 --sampler gird", "--sampler is 'gird', expected grid, random or tpe"),
    "pruner": ("latent_dim=2,3 --prune half", "--prune is 'half', expected none or median"),
    "metric": ("latent_dim=2,3 --metric val/elob", "closest: val/elbo"),
    "storage": ("latent_dim=2,3 --storage sweep.db", "expected the URL of a database"),
    "jobs": ("latent_dim=2,3 --jobs 0", "--jobs 0: expected 1 or more"),
    "name": ("latent_dim=2,3 --name ../up", "expected the name of a folder"),
    "number": ("latent_dim=2,3 --trials many", "--trials"),
    "device": ("latent_dim=2,3 device=gpu", "device is 'gpu'"),
}


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_and_leaves_nothing(arguments: str, words: str, vaekit: Any, tmp_path: Path) -> None:
    said = vaekit("sweep", *arguments.split(), "--output-dir", tmp_path)
    assert said.code == 2, said.err
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.glob("**/trial-*"))


def test_without_optuna_it_says_what_to_install(vaekit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaekit.cli import sweep

    monkeypatch.setattr(sweep, "find_spec", lambda name: None)
    said = vaekit("sweep", "latent_dim=2,3")
    assert (said.code, said.err) == (2, "vaekit: vaekit sweep needs Optuna: pip install 'vaekit[sweep]'\n")


def test_a_large_grid_is_warned_of(sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaekit.sweep.worker import Worker

    monkeypatch.setattr(Worker, "work", lambda self: [])
    said = sweep("latent_dim=range(1,30)", "beta=1,2,3,4,5,6,7,8,9,10")
    assert "vaekit: warning: this grid has 290 runs; --sampler random --trials 50" in said.err


def test_the_help_shows_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["sweep", "--help"])
    said = capsys.readouterr().out
    for word in (
        "interval(",
        "log(",
        "range(",
        "glob(",
        "--sampler",
        "--storage",
        "--jobs",
        "--retry",
        "--prune",
        "--metric",
        "--together",
    ):
        assert word in said
    assert "--helper" not in said


def test_the_live_table() -> None:
    from rich.console import Console

    from vaekit.sweep.board import LiveTable
    from vaekit.sweep.results import Result

    def result(trial: int, state: str, score: float | None) -> Result:
        return Result(trial, trial, 0, state, {"latent_dim": str(trial)}, score, "val/elbo", 2, 1.0, "", "", "")

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, height=30)
    with LiveTable(console, 4, lambda: [result(0, "finished", -3.25)]) as board:
        board.began(1, {"latent_dim": "1"})
        board.moved(1, 3, 9, -4.5)
        console.print(board.drawn())
        board.changed([result(0, "finished", -3.25), result(1, "failed", None)])
        board.waits(2)
        console.print(board.drawn())
    said = file.getvalue()
    for words in (
        "latent_dim=1",
        "3/9",
        "-4.5000",
        "-3.2500",
        "failed",
        "2 left, in other processes",
        "1 finished, 1 failed",
    ):
        assert words in said


@pytest.mark.slow
def test_sixteen_runs_killed_twice_end_as_sixteen(tmp_path: Path) -> None:
    """Fresh interpreters, two processes of one command, nothing shared but the disk."""
    command = [
        sys.executable, "-m", "vaekit", "sweep", *TINY, "latent_dim=2,3,4,5", "beta=0.1,0.5,1,2", "--jobs", "2",
        "--output-dir", str(tmp_path),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    chance = random.Random(1)
    for count in (2, 5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True)
        try:
            wait_for(lambda count=count: len(list(tmp_path.glob("sweeps/*/trial-*"))) >= count, 600)
            time.sleep(chance.uniform(0.0, 3.0))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "16 trials: 16 finished, 0 failed, 0 pruned; best first" in done.stdout
    (folder,) = (tmp_path / "sweeps").iterdir()
    assert len(runs(folder)) == len(list(folder.glob("trial-*/*/config.yaml"))) == len(table(folder)) == 16
    assert len({(row["latent_dim"], row["beta"]) for row in table(folder)}) == 16
