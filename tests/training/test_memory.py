"""How a command's process keeps and gives back memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vaekit.training import memory

SOURCE = Path(__file__).parents[2] / "src"
STATUS = Path("/proc/self/status")

CODE = """
import re
import numpy
from pathlib import Path
from vaekit.training.memory import _library, keep_for, keep_freed_memory
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
if _library("malloc_trim") is None:
    print("another library")
    raise SystemExit
OURS and keep_freed_memory()
before = resident()
blocks = [numpy.ones(1 << 16) for _ in range(400)]  # 200 MiB, each block of half a MiB
last = numpy.ones(1 << 16)  # above them, so that only a trim within the heap gives them back
held = resident()
del blocks
freed = resident()
keep_for(0)
print(held - before, freed - before, resident() - before)
"""


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux says how much memory a process has")
def test_what_was_kept_is_given_back_when_the_training_begins() -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    code = CODE.replace("OURS", "True")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    if "another" in done.stdout:
        pytest.skip("not glibc")
    held, freed, trimmed = map(float, done.stdout.split())
    assert held > 190
    assert freed > 190  # kept, as the setting asks
    assert trimmed < 20


def test_in_a_process_that_is_not_ours_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_ours", False)
    monkeypatch.setattr(memory, "_set", lambda options: pytest.fail("set"))
    monkeypatch.setattr(memory, "_library", lambda name: lambda *_: pytest.fail("called"))
    memory.keep_for(1 << 40)


def test_another_system_or_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory._library("no_such_function_of_any_library") is None
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory._library("malloc_trim") is None
    monkeypatch.setattr(memory, "_ours", True)
    memory.keep_for(1 << 40)
