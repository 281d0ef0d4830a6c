"""When a training saves, and where it keeps its best weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit.training import callbacks as module
from vaekit.training.callbacks import Checkpoints
from vaekit.training.history import History
from vaekit.training.loop import Progress
from vaekit.training.session import Best, _finite
from vaekit.training.tensors import TensorFile


@pytest.mark.parametrize(
    ("seconds", "took", "expected"),
    [
        (0.0, 0.5, [1, 2, 3, 4, 5, 6]),  # a short save follows each step, as asked
        (30.0, 0.5, [3, 6]),  # 30 seconds are over after three steps of 10
        (30.0, 1.5, [3, 6]),  # 28.5 seconds of pause are less than those 30
        (30.0, 2.5, [3]),  # the next would be due 47.5 seconds after the first
        (0.0, 2.0, [1, 5]),  # 38 seconds
    ],
)
def test_a_long_save_is_followed_by_nineteen_times_as_long_without(
    seconds: float, took: float, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    saved: list[int] = []

    def save(step: int) -> None:
        nonlocal now
        now += took
        saved.append(step)

    callback, progress = Checkpoints(save, seconds), Progress(0, 1000, 1000, History())
    callback.start(progress)
    for step in range(1, 7):
        now += 10.0
        progress.step = step
        callback.step(progress)
    callback.end(progress)
    assert saved == expected


def test_the_last_step_is_saved_whatever_the_pause() -> None:
    saved: list[int] = []
    callback = Checkpoints(saved.append, 1e9)
    callback.start(Progress(0, 5, 5, History()))
    callback._pause = 1e9
    callback.step(Progress(5, 5, 5, History()))
    callback.end(Progress(5, 5, 5, History()))
    assert saved == [5]


def weights(value: float) -> torch.nn.Module:
    layer = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(layer.weight, value)
    return layer


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "file"])
def test_the_best_weights_are_a_copy(on_disk: bool, tmp_path: Path) -> None:
    best: Any = Best()
    if on_disk:
        best.keep_in(tmp_path / "best")
    model: Any = weights(1.0)
    assert best.consider(-5.0, 1, model)
    torch.nn.init.constant_(model.weight, 2.0)
    assert not best.consider(-6.0, 2, model)
    assert not best.consider(float("nan"), 2, model)
    assert torch.equal(best.weights["weight"], torch.ones(1, 2))
    assert best.consider(-4.0, 3, model)
    assert torch.equal(best.weights["weight"], torch.full((1, 2), 2.0))
    assert (best.score, best.epoch) == (-4.0, 3)
    assert isinstance(best.weights, TensorFile) == on_disk


def test_what_is_kept_in_memory_moves_to_the_file(tmp_path: Path) -> None:
    best: Any = Best()
    best.consider(1.0, 1, weights(3.0))
    best.keep_in(tmp_path / "best")
    assert best.weights.path == tmp_path / "best"
    assert torch.equal(best.weights["weight"], torch.full((1, 2), 3.0))


def test_a_run_leaves_no_spare_weights(train: Any, resume: Any, after_step: Any, crash: Any) -> None:
    def kill() -> None:
        raise crash

    path = train("killed", "training.checkpoint_seconds=0", callback=after_step(6, kill))
    assert not list(path.glob(".*"))
    seen: list[str] = []
    assert resume(path, after_step(9, lambda: seen.extend(file.name for file in path.glob(".best*"))))
    assert len(seen) == 1
    assert not list(path.glob(".*"))
    links = [(folder / "best.safetensors").stat().st_nlink for folder in (path / "checkpoints").iterdir()]
    assert links == [1, 1]


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_seen(spoilt: float) -> None:
    weight = torch.randn(50, 3)
    assert _finite(weight)
    weight[17, 1] = spoilt
    assert not _finite(weight)
    assert _finite(torch.zeros(0))
    assert _finite(torch.tensor([True, False]))
    assert _finite(torch.arange(3))
