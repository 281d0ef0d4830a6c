"""Trackers get the rows, the test numbers and the pictures; a run that goes on is the same run; a failure costs no training."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import vaekit
from vaekit.errors import ConfigError
from vaekit.training.tracking import MLflow, TensorBoard, Tracked, Tracker, Tracking, WandB

TINY = ("data=digits", "training.epochs=2", "hidden_dim=8", "latent_dim=2", "evaluation.samples=1")


class Recorder(Tracker):
    """Remembers what it is told, and may fail."""

    package = "nothing"

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at, self.told = fails_at, []

    def _library(self) -> None:
        pass

    def _tell(self, what: str, *content: object) -> None:
        self.told.append((what, *content))
        if what == self.fails_at:
            raise ConnectionError("the line is dead")

    def begin(self, run: Tracked) -> None:
        self._tell("begin", run)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._tell("scalars", dict(values), step)

    def pictures(self, files: Mapping[str, Path], step: int) -> None:
        self._tell("pictures", sorted(files), step)

    def end(self, finished: bool) -> None:
        self._tell("end", finished)


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All scalars in the event files below a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_what_metrics_jsonl_says(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = vaekit.train(*TINY, "tracking=tensorboard", f"output_dir={tmp_path}")
    shown = scalars_of(run.path / "tensorboard")
    for name in ("train/loss", "train/recon_loss", "train/kl_loss", "val/loss", "val/elbo"):
        logged = [(row["step"], row[name]) for row in run.history]
        assert [step for step, _ in shown[name]] == [step for step, _ in logged]
        torch.testing.assert_close(torch.tensor(shown[name]), torch.tensor(logged))
    assert shown["test/elbo"][0][1] == pytest.approx(run.metrics["elbo"].value, rel=1e-6)


def test_a_run_that_goes_on_hides_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = Tracked(tmp_path / "name" / "date", {})
    first = TensorBoard()
    first.begin(run)
    for step in (10, 20, 30):
        first.scalars({"train/loss": float(step)}, step)
    first.end(finished=False)
    second = TensorBoard()
    second.begin(Tracked(run.path, {}, step=20))
    second.scalars({"train/loss": 31.0}, 30)
    second.end(finished=True)
    assert scalars_of(run.path / "tensorboard")["train/loss"] == [(10, 10.0), (20, 20.0), (30, 31.0)]


def test_mlflow_has_settings_numbers_and_pictures_in_one_run(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "curve.png").write_bytes(b"a picture")
    path, uri = tmp_path / "name" / "date", (tmp_path / "ml").as_uri()
    for step in (0, 5):  # begun, and gone on with
        tracking = Tracking(MLflow(uri=uri), Tracked(path, {"seed": 1, "data": {"name": "digits"}}, step), pytest.fail)
        tracking.tracker.scalars({"train/loss": 3.0 - step}, step + 1)
        tracking.finish({"elbo": -2.0}, tmp_path / "figures", step + 1)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("vaekit").experiment_id])
    assert run.data.params == {"seed": "1", "data.name": "digits"}
    assert [m.value for m in client.get_metric_history(run.info.run_id, "train/loss")] == [3.0, -2.0]
    assert run.data.metrics["test/elbo"] == -2.0
    assert [file.path for file in client.list_artifacts(run.info.run_id, "figures")] == ["figures/curve.png"]
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_wandb_works_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    tracking = Tracking(WandB(mode="offline"), Tracked(tmp_path, {"seed": 1}), pytest.fail)
    tracking.tracker.scalars({"train/loss": 1.0}, 1)
    tracking.finish({"elbo": -2.0}, tmp_path, 1)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_rows_then_test_numbers_then_pictures_then_the_end(tmp_path: Path) -> None:
    recorder = Recorder()
    vaekit.register("test.Recorder", lambda: recorder)
    run = vaekit.train(*TINY, "tracking.kind=test.Recorder", f"output_dir={tmp_path}")
    kinds = [told[0] for told in recorder.told]
    assert kinds == ["begin", "scalars", "scalars", "scalars", "pictures", "end"]
    assert set(recorder.told[1][1]) == {name for name in run.history[0] if "/" in name}
    assert recorder.told[1][2] == run.history[0]["step"]
    assert recorder.told[3][1]["test/elbo"] == run.metrics["elbo"].value
    assert "figures/reconstructions" in recorder.told[4][1]
    assert recorder.told[5][1] is True
    assert recorder.told[0][1].config["seed"] == 42


@pytest.mark.parametrize("fails_at", ["begin", "scalars", "pictures", "end"])
def test_a_tracker_that_fails_is_left_aside_with_one_line(tmp_path: Path, fails_at: str) -> None:
    said: list[str] = []
    recorder = Recorder(fails_at)
    tracking = Tracking(recorder, Tracked(tmp_path, {}), said.append)
    tracking.finish({"elbo": 1.0}, tmp_path, 1)
    assert len(said) == 1
    assert "Recorder has failed" in said[0]
    assert "the line is dead" in said[0]
    assert recorder.told[-1][0] == fails_at  # and is told nothing more


@pytest.mark.parametrize(
    ("tracker", "module"), [(TensorBoard(), "torch.utils.tensorboard"), (WandB(), "wandb"), (MLflow(), "mlflow")]
)
def test_what_is_not_installed_is_said_before_the_training(
    tracker: Tracker, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ConfigError, match=rf"tracking={type(tracker).__name__.lower()} needs .*pip install 'vaekit\[track\]'"
    ):
        tracker.available()


def test_a_missing_package_leaves_no_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="vaekit\\[track\\]"):
        vaekit.train(*TINY, "tracking=wandb", f"output_dir={tmp_path}")
    assert not list(tmp_path.iterdir())


def test_a_run_from_before_there_were_trackers_goes_on(tmp_path: Path) -> None:
    run = vaekit.train(*TINY, f"output_dir={tmp_path}")
    config: dict[str, Any] = run.folder.config()
    del config["tracking"]
    (run.path / "config.yaml").write_text(json.dumps(config))
    again = vaekit.resume(run.path)
    assert again.metrics["elbo"].value == run.metrics["elbo"].value
