"""What the tests of the commands share: a finished tiny run, and the command called in this process."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from vaekit.cli.main import main

TINY = [
    "hidden_dim=8",
    "latent_dim=2",
    "training.batch_size=400",
    "training.epochs=2",
    "evaluation.samples=2",
    "device=cpu",
]


@dataclass(frozen=True)
class Said:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.splitlines()[-1]


def called(*arguments: object) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def vaekit() -> Callable[..., Said]:
    """Call the command in this process."""
    return called


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    return TINY


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("runs")
    said = called("train", *TINY, "--output-dir", folder)
    assert said.code == 0, said.err
    return Path(said.last)


@pytest.fixture(scope="session")
def forked() -> Callable[..., int]:
    """The command in a process of its own, forked from this one: as real as another, without the seconds of its imports."""

    def start(*arguments: object, out: Path) -> int:
        process = os.fork()
        if process:
            return process
        code = 70
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background of a script ignores it
        try:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            code = main([str(argument) for argument in arguments])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    return start
