"""What the tests of models share: a whole training of a small one, without its pictures."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit import api
from vaekit.training.callbacks import Interrupted
from vaekit.training.loop import Callback


class StopAfter(Callback):
    """Asks the training to stop, as a user at the keyboard or a cluster would."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, progress: Any) -> None:
        if progress.step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in a training: float32, whatever other tests of the module compute in; one thread, as models this small wait for more."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Callable[..., Any]:
    """Train on 8x8 digits, four steps an epoch; `stops` are the steps after which it is stopped and resumed."""
    for picture in ("draw_gallery", "write_page", "animate"):
        monkeypatch.setattr(api, picture, lambda *_: None)
    for callback in ("Snapshots", "Stages"):
        monkeypatch.setattr(api, callback, lambda *_: Callback())
    common = (
        "data=digits", "latent_dim=2", "training.batch_size=400", "evaluation.samples=2", "device=cpu",
    )  # fmt: skip

    def go(name: str, *overrides: str, stops: tuple[int, ...] = ()) -> Any:
        def progress(step: int) -> Any:
            return lambda say: StopAfter(step)

        first, *others = (*stops, 0)
        try:
            run = api.train(*common, f"output_dir={tmp_path / name}", *overrides, progress=progress(first))
        except Interrupted as stopped:
            path = stopped.path
        for step in others:
            with suppress(Interrupted):
                run = api.resume(path, progress=progress(step))
        return run

    return go


@pytest.fixture
def same() -> Callable[[Any, Any], None]:
    """Assert that two runs have the same weights, rows and numbers, byte for byte."""

    def check(first: Any, second: Any) -> None:
        for name in ("model.safetensors", "metrics.jsonl", "metrics.json"):
            assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name

    return check
