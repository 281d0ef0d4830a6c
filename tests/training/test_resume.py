"""A training that was stopped and resumed is, bit for bit, the training that was not."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vaekit import api, runs
from vaekit.builder import OPTIMIZERS
from vaekit.errors import RunError, TrainingError
from vaekit.training.callbacks import Interrupted

STEPS, STEPS_PER_EPOCH = 12, 4
VARIANTS = {
    "bernoulli": (),
    "optimal scale": ("likelihood=normal_optimal", "data.binarisation=none"),
    "learned scale": ("likelihood=normal_learned", "data.binarisation=none", "training.gradient_clip=1"),
    "monte carlo": ("objective.terms.kl.kind=objectives.MonteCarloKL", "training.samples=3"),
    "mean": ("objective.reduction.kind=objectives.MeanReduction", "data.binarisation=static"),
}


@pytest.fixture(scope="module")
def whole(
    no_pictures_here: None, tiny: tuple[str, ...], results: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What the tiny run comes to where nothing stops it."""
    return dict(results(api.train(*tiny, f"output_dir={tmp_path_factory.mktemp('whole')}").path))


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_stopped_after_every_step(
    overrides: tuple[str, ...], train: Any, resume: Any, results: Any, after_step: Any
) -> None:
    whole = train("whole", *overrides)
    path = train("stopped", *overrides, callback=after_step(1, stop))
    for step in range(2, STEPS + 1):
        assert not resume(path, after_step(step, stop))
        assert not (path / "model.safetensors").exists()
    assert resume(path)
    assert results(path) == results(whole)


@pytest.mark.parametrize("step", [1, 3, 4, 6, 8, 11, 12])
def test_stopped_once(
    step: int, train: Any, resume: Any, results: Any, after_step: Any, whole: dict[str, bytes]
) -> None:
    path = train("stopped", callback=after_step(step, stop))
    assert [p.name for p in (path / "checkpoints").iterdir()] == [f"step-{step:09d}"]
    assert resume(path)
    assert results(path) == whole


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["checkpoint at each step", "no checkpoint yet"])
def test_killed_at_each_step_before_its_checkpoint(
    seconds: float, train: Any, resume: Any, results: Any, after_step: Any, crash: Any, whole: dict[str, bytes]
) -> None:
    def kill() -> None:
        raise crash

    path = train("killed", f"training.checkpoint_seconds={seconds}", callback=after_step(1, kill))
    for step in range(2, STEPS + 1):
        assert not resume(path, after_step(step, kill))
    assert resume(path)
    assert results(path) == whole
    assert len((path / "metrics.jsonl").read_text().splitlines()) == STEPS // STEPS_PER_EPOCH


def test_killed_between_a_row_and_its_checkpoint(
    train: Any, resume: Any, results: Any, after_epoch: Any, crash: Any, whole: dict[str, bytes]
) -> None:
    def kill() -> None:
        raise crash

    path = train("killed", "training.checkpoint_seconds=0", callback=after_epoch(1, kill))
    for epoch in (2, 3):
        assert len((path / "metrics.jsonl").read_text().splitlines()) == epoch - 1  # the row was written ...
        assert not resume(path, after_epoch(epoch, kill))  # ... and is written again
    assert resume(path)
    assert results(path) == whole


def test_a_row_that_a_kill_cut_off(
    train: Any, resume: Any, results: Any, after_step: Any, whole: dict[str, bytes]
) -> None:
    path = train("killed", callback=after_step(6, stop))
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "epo')
    assert resume(path)
    assert results(path) == whole


@pytest.mark.parametrize("phase", ["evaluate", "draw_gallery", "write_page", "beta_of"])
def test_killed_after_the_last_step(
    phase: str,
    train: Any,
    resume: Any,
    results: Any,
    monkeypatch: pytest.MonkeyPatch,
    crash: Any,
    after_step: Any,
    whole: dict[str, bytes],
) -> None:
    nothing = after_step(0, lambda: None)
    steps_done = {"beta_of": 1}.get(phase, 0)  # it is asked before the training as well

    def kill(*_: Any) -> float:
        nonlocal steps_done
        steps_done -= 1
        if steps_done < 0:
            raise crash
        return 1.0

    with monkeypatch.context() as patch:
        patch.setattr(api, phase, kill)
        path = train("killed", callback=nothing)
    assert (path / "checkpoints" / f"step-{STEPS:09d}").is_dir()
    assert resume(path)
    assert results(path) == whole  # the effective beta is that of the warm-up's end, not of its start
    assert json.loads((path / "metrics.json").read_text())["effective_beta"]["value"] == 1.0


def test_a_finished_run_can_be_resumed_and_stays_what_it_is(train: Any, resume: Any, results: Any) -> None:
    path = train("whole")
    before = results(path)
    assert resume(path)
    assert results(path) == before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_resumes(
    name: str, tiny: tuple[str, ...], no_pictures: None, tmp_path: Path, resume: Any, results: Any, after_step: Any
) -> None:
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    (tmp_path / "mine" / "optimizer" / "it.yaml").write_text(f"kind: optim.{name}\nlr: 0.01\n")
    overrides = (*tiny, "training.epochs=2", "beta=1", "optimizer=it")

    def train(folder: str, **watched: Any) -> Path:
        with suppress(Interrupted):
            api.train(*overrides, f"output_dir={tmp_path / folder}", config_dir=tmp_path / "mine", **watched)
        return next((tmp_path / folder).glob("*/*"))

    whole, path = train("whole"), train("stopped", progress=lambda say: after_step(3, stop))
    assert resume(path)
    assert results(path) == results(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_says_so(
    number: int, train: Any, after_step: Any, tmp_path: Path, no_pictures: None
) -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    watcher = after_step(5, lambda: os.kill(os.getpid(), number))
    path = train("first", callback=watcher)
    assert f"Stopped by signal {number:d} after step 5." in (path / "train.log").read_text()
    with pytest.raises(Interrupted) as caught:
        api.train(
            "hidden_dim=4", "training.epochs=1", "device=cpu", f"output_dir={tmp_path}", progress=lambda say: watcher
        )
    assert caught.value.signal == number
    assert (caught.value.path / "checkpoints" / "step-000000005" / "manifest.json").is_file()
    assert handlers == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def test_a_second_interrupt_ends_at_once(train: Any, after_step: Any) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    path = train("twice", callback=after_step(5, twice))
    assert not (path / "checkpoints").exists()


CHANGES = {
    "batch size": (("training", "batch_size"), 300, "training.batch_size is 300, was 400"),
    "epochs": (("training", "epochs"), 4, "training.epochs is 4, was 3"),
    "rate": (("optimizer", "lr"), 0.1, "optimizer.lr is 0.1, was 0.001"),
    "seed": (("seed",), 7, "seed is 7, was 42"),
    "binarisation": (("data", "binarisation"), "static", 'data.binarisation is "static", was "dynamic"'),
    "width": (("network", "encoder", "hidden_dims"), [9, 9], "network.encoder.hidden_dims is [9, 9], was [8, 8]"),
}


@pytest.mark.parametrize(("keys", "value", "said"), CHANGES.values(), ids=CHANGES.keys())
def test_another_configuration_is_refused(
    keys: tuple[str, ...], value: Any, said: str, train: Any, after_step: Any
) -> None:
    path = train("changed", callback=after_step(6, stop))
    config = yaml.safe_load((path / "config.yaml").read_text())
    node = config
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    with pytest.raises(RunError, match="has changed since the checkpoint") as caught:
        api.resume(path)
    assert said in str(caught.value)


def test_settings_that_change_no_weight_may_change(
    train: Any, resume: Any, results: Any, after_step: Any, whole: dict[str, bytes]
) -> None:
    path = train("changed", callback=after_step(6, stop))
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["training"] |= {"checkpoint_seconds": 0.0, "keep_checkpoints": 3}
    config["output_dir"] = "elsewhere"
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert resume(path)
    assert len(list((path / "checkpoints").iterdir())) == 3
    assert results(path) == whole


def test_changed_data_are_refused(train: Any, after_step: Any, tmp_path: Path) -> None:
    import numpy as np

    values = np.random.default_rng(0).random((1500, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    data = ("data=array", f"data.path={tmp_path / 'x.npy'}", "likelihood=normal")
    path = train("changed", *data, callback=after_step(2, stop))
    values[7, 3] = np.nextafter(values[7, 3], 2)
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(RunError, match=r"data have changed .* SHA-256"):
        api.resume(path)


def test_another_number_of_threads_does_not_matter(
    train: Any, resume: Any, results: Any, after_step: Any, whole: dict[str, bytes]
) -> None:
    path, early = train("threads", callback=after_step(6, stop)), train("early", callback=after_step(6, stop))
    for folder in (early / "checkpoints").iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert resume(path)
        assert resume(early)  # from the first step, and still with the threads that it was started with
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert results(path) == whole
    assert results(early) == whole


def test_leftovers_of_a_kill_are_removed(train: Any, resume: Any, after_step: Any) -> None:
    path = train("killed", callback=after_step(6, stop))
    (path / ".model.safetensors.123-456.draft").write_bytes(b"half")
    staging = path / "checkpoints" / ".staging-step-000000007"
    staging.mkdir()
    (staging / "model.safetensors").write_bytes(b"half")
    assert resume(path)
    assert not list(path.glob(".*"))
    assert not list((path / "checkpoints").glob(".*"))


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    train: Any, results: Any, after_step: Any, no_pictures: None, whole: dict[str, bytes]
) -> None:
    path = train("flipped", "training.checkpoint_seconds=0", callback=after_step(7, stop))
    newest = path / "checkpoints" / "step-000000007" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\x00")
    said: list[str] = []
    api.resume(path, say=said.append)
    (warning,) = (line for line in said if "is damaged:" in line)
    assert "model.safetensors has SHA-256" in warning
    assert "Going on after step 6." in said
    assert results(path) == whole


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_last_good_checkpoint(
    train: Any, after_step: Any, crash: Any
) -> None:
    path = train("nan", "training.checkpoint_seconds=0", "optimizer.lr=0.01", callback=after_step(6, stop))
    kept = sorted((path / "checkpoints").iterdir())

    class Spoil(type(after_step(0, stop))):  # type: ignore[misc]
        def start(self, progress: Any) -> None:
            progress.history.observe, self.observe = self.spoilt, progress.history.observe

        def spoilt(self, values: Any, examples: int, good: Any) -> None:
            values[-1] = float("nan")  # the loss, the reconstruction, the KL
            self.observe(values, examples, good)

    with pytest.raises(TrainingError, match="'kl'"):
        api.resume(path, progress=lambda say: Spoil(0, stop))
    assert sorted((path / "checkpoints").iterdir()) == kept
    assert "no longer finite (term 'kl')" in (path / "train.log").read_text()


def test_weights_that_are_not_finite_never_become_a_checkpoint(
    train: Any, after_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaekit.training.players import Player

    step, count = Player.step, 0

    def spoilt(self: Player, good: Any) -> None:
        nonlocal count
        count += 1
        if count == 5:  # after all have looked
            self.parameters[0].grad[0] = float("inf")
        step(self, good)

    monkeypatch.setattr(Player, "step", spoilt)
    with pytest.raises(TrainingError, match="step 5"):
        train("inf", "training.checkpoint_seconds=0")


def test_a_validation_that_is_not_finite_ends_the_training(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "validate", lambda *_: ({"val/elbo": float("nan")}, 0.0))
    with pytest.raises(TrainingError, match="val/elbo is nan after epoch 1"):
        train("nan")


def test_the_users_generators_are_untouched(train: Any, resume: Any, after_step: Any) -> None:
    import random

    import numpy as np

    def states() -> list[Any]:
        return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate(), torch.get_num_threads()]  # noqa: NPY002

    before = states()
    path = train("run", callback=after_step(6, stop))
    assert states() == before
    assert resume(path)
    assert states() == before
    run = runs.open_run(path, "cpu")
    runs.evaluate(run)
    runs.load(path)
    assert states() == before


def test_runs_differ_by_their_seed_alone(train: Any, results: Any) -> None:
    torch.manual_seed(1)
    first = results(train("a"))
    torch.manual_seed(2)
    assert results(train("b")) == first
    assert results(train("c", "seed=43"))["model.safetensors"] != first["model.safetensors"]
