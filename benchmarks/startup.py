"""How long a person waits: for `vaekit --help`, for the import, and for the first step of a training.

    python benchmarks/startup.py [--rounds 7] [--json FILE]

Each is a process of its own, on one thread, and they take turns, so that a noisy machine disturbs all of them. CPU time (user and
system) and wall: median, least and most over the rounds, after one that does not count because it fills the disk's cache.
`import vaekit` loads no more than its own names, so what a program that uses it pays is shown as well: the import and its first
use, `vaekit.train`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from turns import Taken, as_json, machine

HELP, IMPORT, TORCH, USE = "vaekit --help", "import vaekit", "import torch", "import vaekit, vaekit.train"
FIRST = "vaekit train data=digits, to its first step"
FIRST_STEP = """
import sys
from vaekit.cli.loading import loading
with loading():  # as the command does
    from vaekit import api
    from vaekit.training.loop import Callback
class First(Callback):
    def step(self, progress):
        sys.exit(0)
api.train("data=digits", "output_dir=" + sys.argv[1], progress=lambda say: First())
sys.exit("there was no step")
"""


@dataclass(frozen=True)
class Bar:
    """What must hold."""

    words: str
    value: float
    most: float

    @property
    def held(self) -> bool:
        return self.value <= self.most


def commands(folder: str) -> dict[str, list[str]]:
    """What is started, by its name in the table."""
    python = [sys.executable, "-c"]
    return {
        "python -c pass": [*python, "pass"],
        HELP: [sys.executable, "-m", "vaekit", "--help"],
        IMPORT: [*python, "import vaekit"],
        TORCH: [*python, "import torch"],
        USE: [*python, "import vaekit; vaekit.train"],
        FIRST: [*python, FIRST_STEP, folder],
    }


def timed(command: Sequence[str]) -> Taken:
    """Seconds of a process from its start to its end."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wall, after = time.perf_counter() - began, os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return Taken(cpu, wall)


def measure(rounds: int) -> dict[str, list[Taken]]:
    """All in turn."""
    with tempfile.TemporaryDirectory() as folder:
        started = commands(folder)
        taken: dict[str, list[Taken]] = {name: [] for name in started}
        for number in range(rounds + 1):
            for name, command in started.items():
                seconds = timed(command)
                if number:
                    taken[name].append(seconds)
    return taken


def bars(taken: Mapping[str, Sequence[Taken]]) -> list[Bar]:
    """By the median of the wall, or of the ratios within a round."""
    ours, torch = taken[IMPORT], taken[TORCH]
    ratio = statistics.median(mine.wall / its.wall for mine, its in zip(ours, torch, strict=True))
    return [
        Bar("vaekit --help, seconds", statistics.median(one.wall for one in taken[HELP]), 0.3),
        Bar("import vaekit / import torch", ratio, 1.15),
    ]


def as_table(taken: Mapping[str, Sequence[Taken]]) -> str:
    """Seconds."""
    lines = [f"{'seconds':<46}{'wall':>7}{'min':>7}{'max':>7}{'CPU':>7}{'min':>7}{'max':>7}{'/ torch':>9}"]
    for name, rounds in taken.items():
        wall, cpu = [one.wall for one in rounds], [one.cpu for one in rounds]
        ratio = statistics.median(a.wall / b.wall for a, b in zip(rounds, taken[TORCH], strict=True))
        numbers = (statistics.median(wall), min(wall), max(wall), statistics.median(cpu), min(cpu), max(cpu))
        lines.append(f"{name:<46}" + "".join(f"{number:>7.2f}" for number in numbers) + f"{ratio:>9.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of each, in turn, after one that does not count")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    taken = measure(options.rounds)
    print(machine())
    print(as_table(taken))
    for bar in bars(taken):
        print(f"{bar.words}: {bar.value:.2f}, at most {bar.most}: {'holds' if bar.held else 'MISSED'}")
    if options.json:
        held = {bar.words: {"value": bar.value, "most": bar.most, "holds": bar.held} for bar in bars(taken)}
        options.json.write_text(json.dumps({"machine": machine(), "taken": as_json(taken), "bars": held}, indent=2))


if __name__ == "__main__":
    main()
