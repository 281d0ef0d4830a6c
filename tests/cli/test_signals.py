"""Real processes, real signals: what is stopped goes on, and ends as if it had not been stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vaekit import api

SOURCE = Path(__file__).parents[2] / "src"
LONG = [
    "--exp_name", "stopped", "--device", "cpu", "--batch_size", "200", "--epochs", "25", "--hidden_dim", "16", "--z-dim", "2",
    "network.encoder.dropout=0.2", "evaluation.samples=1", "training.checkpoint_seconds=0.05",
    "beta={kind: schedules.Linear, start: 0.0, stop: 1.0, steps: 150}",
]  # fmt: skip


def results(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in ("model.safetensors", "metrics.jsonl", "metrics.json")}


def folder(root: Path) -> Path | None:
    found = list(root.glob("stopped/*/config.yaml"))
    return found[0].parent if found else None


def ended(process: int) -> int:
    """The exit code as a shell says it."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return status if status >= 0 else 128 - status


def wait_for(what: Callable[[], object], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


@pytest.fixture(autouse=True, scope="module")
def _no_gallery() -> Iterator[None]:
    """Frames, animation and page are drawn here as ever; the pictures at the end would be most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "draw_gallery", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def whole(vaekit: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    said = vaekit("train", *LONG, "--output-dir", tmp_path_factory.mktemp("whole"))
    assert said.code == 0, said.err
    return results(Path(said.last))


@pytest.fixture(scope="module")
def length(forked: Any, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds of the command that is killed below."""
    folder = tmp_path_factory.mktemp("timed")
    began = time.monotonic()
    assert ended(forked("train", *LONG, "--output-dir", folder, out=folder / "out")) == 0
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_after_a_checkpoint_with_the_line_that_goes_on(
    number: signal.Signals, tmp_path: Path, forked: Any, vaekit: Any, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    process = forked("train", *LONG, "--output-dir", tmp_path / "my runs", out=out)
    wait_for(lambda: list((tmp_path / "my runs").glob("stopped/*/metrics.jsonl")))
    os.kill(process, number)
    assert ended(process) == 128 + number
    path = folder(tmp_path / "my runs")
    assert path is not None
    (line,) = (line for line in out.read_text().splitlines() if line.startswith("vaekit:"))
    assert line == f"vaekit: stopped by signal {number:d}; go on with: vaekit resume '{path}'"
    assert list((path / "checkpoints").glob("step-*/manifest.json"))
    assert not (path / "model.safetensors").exists()
    said = vaekit("resume", path)
    assert said.code == 0, said.err
    assert said.last == str(path)
    assert results(path) == whole


@pytest.mark.parametrize("seed", [0, 1])
def test_five_kills_at_random_moments(
    seed: int, tmp_path: Path, forked: Any, length: float, whole: dict[str, bytes]
) -> None:
    chance = random.Random(seed)
    process = forked("train", *LONG, "--output-dir", tmp_path / "runs", out=tmp_path / "out")
    codes = []
    for number in chance.sample([signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGKILL], 5):
        wait_for(lambda: folder(tmp_path / "runs"))
        time.sleep(chance.uniform(0, 0.4 * length))
        os.kill(process, number)
        codes.append((ended(process), 128 + number))
        path = folder(tmp_path / "runs")
        assert path is not None
        process = forked("resume", path, out=tmp_path / "out")
    assert ended(process) == 0, (tmp_path / "out").read_text()
    assert all(code in (expected, 0) for code, expected in codes), codes
    assert any(code == expected for code, expected in codes)
    assert results(path) == whole
    assert not list(path.glob("**/.*"))


@pytest.mark.parametrize("phase", ["evaluate", "draw_gallery", "write_page", "make_session", "open_data"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_outside_of_the_loop(
    number: signal.Signals,
    phase: str,
    tmp_path: Path,
    forked: Any,
    vaekit: Any,
    tiny: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    with monkeypatch.context() as patch:
        patch.setattr(api, phase, interrupted)
        process = forked("train", *tiny, "--exp-name", "stopped", "--output-dir", tmp_path, out=tmp_path / "out")
    assert ended(process) == 128 + number
    said = (tmp_path / "out").read_text()
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("vaekit: stopped by signal")]) == 1
    path = folder(tmp_path)
    assert (path is None) == (phase in ("make_session", "open_data"))
    if path is not None:
        assert f"vaekit resume {path}" in said
        assert vaekit("resume", path).code == 0


def test_a_second_interrupt_ends_at_once(tmp_path: Path, forked: Any) -> None:
    """While a step takes long, the first waits for its end and the second does not."""
    from vaekit.training.players import Player

    step = Player.step

    def slow(self: Player, good: Any) -> None:
        (tmp_path / "stepping").touch()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)
        step(self, good)

    Player.step = slow  # type: ignore[method-assign]
    try:
        process = forked("train", *LONG, "--output-dir", tmp_path, out=tmp_path / "out")
    finally:
        Player.step = step  # type: ignore[method-assign]
    wait_for((tmp_path / "stepping").exists)
    os.kill(process, signal.SIGINT)
    time.sleep(0.3)
    assert os.waitpid(process, os.WNOHANG) == (0, 0)
    began = time.monotonic()
    os.kill(process, signal.SIGINT)
    assert ended(process) == 130
    assert time.monotonic() - began < 5
    path = folder(tmp_path)
    assert path is not None
    assert not (path / "checkpoints").exists()


@pytest.mark.slow
def test_five_stops_of_fresh_interpreters(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """The same with nothing shared but the disk, and random hashes."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "vaekit", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "random"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

    def trained(path: Path) -> int:
        return (path / "train.log").read_text().count("Model:") if (path / "train.log").exists() else 0

    chance = random.Random(3)
    process = start("train", *LONG, "--output-dir", tmp_path)
    for stops, number in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)):
        wait_for(lambda: folder(tmp_path), 120)
        path = folder(tmp_path)
        assert path is not None
        wait_for(lambda path=path, stops=stops: trained(path) > stops, 120)
        time.sleep(chance.uniform(0.0, 0.1))
        process.send_signal(number)
        said = process.communicate(timeout=180)[0]
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), said
        assert "Traceback" not in said
        assert ("go on with: vaekit resume " in said) == (number != signal.SIGKILL)
        process = start("resume", path)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert results(path) == whole
