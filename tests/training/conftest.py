"""What the tests of training share: a tiny run, its results as bytes, and ways to stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit import api
from vaekit.training.loop import Callback

# four steps an epoch, three epochs; everything that has a state: warm-up, dropout, Adam, random binarisation
TINY = (
    "hidden_dim=8", "latent_dim=2", "network.encoder.dropout=0.2", "network.decoder.dropout=0.1",
    "training.batch_size=400", "training.epochs=3", "evaluation.samples=2", "device=cpu",
    "beta={kind: schedules.Linear, start: 0.0, stop: 1.0, steps: 9}",
)  # fmt: skip


class Crash(BaseException):
    """Stands for SIGKILL: nothing in the library may catch it."""


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny networks lose time on two
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture
def crash() -> type[BaseException]:
    return Crash


@pytest.fixture
def train(tmp_path: Path, no_pictures: None) -> Callable[..., Path]:
    """Train the tiny run and give its folder. `name` is part of the path; a `callback` watches the training."""

    def go(name: str, *overrides: str, callback: Callback | None = None) -> Path:
        progress = None if callback is None else lambda say: callback
        try:
            api.train(*TINY, f"output_dir={tmp_path / name}", *overrides, progress=progress)
        except (Crash, KeyboardInterrupt):
            assert callback is not None
        (config,) = (tmp_path / name).glob("*/*/config.yaml")
        return config.parent

    return go


@pytest.fixture
def resume() -> Callable[..., bool]:
    """Resume a run; whether it came to its end."""

    def go(path: Path, callback: Callback | None = None) -> bool:
        try:
            api.resume(path, progress=None if callback is None else lambda say: callback)
        except (Crash, KeyboardInterrupt):
            return False
        return True

    return go


@pytest.fixture(scope="session")
def results() -> Callable[[Path], dict[str, bytes]]:
    """What two equal runs have in common, byte for byte."""
    return lambda path: {
        name: (path / name).read_bytes() for name in ("model.safetensors", "metrics.jsonl", "metrics.json")
    }


@pytest.fixture
def after_step() -> Callable[[int, Callable[[], Any]], Callback]:
    """A callback that does something after a step, before the checkpoint of that step."""

    class AfterStep(Callback):
        def __init__(self, step: int, action: Callable[[], Any]) -> None:
            self.at, self.action = step, action

        def step(self, progress: Any) -> None:
            if progress.step == self.at:
                self.action()

    return AfterStep


@pytest.fixture
def after_epoch() -> Callable[[int, Callable[[], Any]], Callback]:
    """A callback that does something after an epoch's row was written, before the checkpoint that counts it."""

    class AfterEpoch(Callback):
        def __init__(self, epoch: int, action: Callable[[], Any]) -> None:
            self.at, self.action = epoch, action

        def epoch(self, progress: Any, row: Any) -> None:
            if progress.epoch == self.at:
                self.action()

    return AfterEpoch
