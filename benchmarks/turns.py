"""Contestants that take turns within one process, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# does so many training steps; may return the seconds (CPU, wall) of them if it knows better than who calls
Steps = Callable[[int], "Taken | None"]


@dataclass(frozen=True)
class Taken:
    """Seconds.

    Attributes:
        cpu: Of this process, all threads together.
        wall: By the clock.
    """

    cpu: float
    wall: float


class Stopwatch:
    """From its making to `taken`."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def taken(self) -> Taken:
        """So far."""
        return Taken(time.process_time() - self._cpu, time.perf_counter() - self._wall)


def take_turns(contestants: Mapping[str, Steps], rounds: int, steps: int) -> dict[str, list[Taken]]:
    """Seconds a step of each contestant in each round; one round before them does not count."""
    taken: dict[str, list[Taken]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            watch = Stopwatch()
            whole = run(steps) or watch.taken()
            if number:
                taken[name].append(Taken(whole.cpu / steps, whole.wall / steps))
    return taken


def ratios(taken: Mapping[str, Sequence[Taken]], ours: str) -> dict[str, tuple[float, float, float]]:
    """CPU time of `ours` over that of each other, pair by pair within a round: median, least, most."""
    found = {}
    for name, others in taken.items():
        if name != ours:
            pairs = [mine.cpu / other.cpu for mine, other in zip(taken[ours], others, strict=True)]
            found[name] = (statistics.median(pairs), min(pairs), max(pairs))
    return found


def as_table(taken: Mapping[str, Sequence[Taken]], ours: str) -> str:
    """Milliseconds a step, and how `ours` stands to each."""
    lines = [f"{'ms a step':<28}{'CPU':>8}{'min':>8}{'max':>8}{'wall':>8}   {ours} / it, pair by pair"]
    shares = ratios(taken, ours)
    for name, rounds in taken.items():
        cpu = [1e3 * one.cpu for one in rounds]
        wall = 1e3 * statistics.median(one.wall for one in rounds)
        share = "" if name == ours else "{:.2f} ({:.2f} to {:.2f})".format(*shares[name])
        lines.append(f"{name:<28}{statistics.median(cpu):>8.2f}{min(cpu):>8.2f}{max(cpu):>8.2f}{wall:>8.2f}   {share}")
    return "\n".join(line.rstrip() for line in lines)


def as_json(taken: Mapping[str, Sequence[Taken]]) -> dict[str, Any]:
    """For a file."""
    return {name: [[one.cpu, one.wall] for one in rounds] for name, rounds in taken.items()}


def machine() -> str:
    """What it ran on, in a line."""
    return f"{processor()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def processor() -> str:
    """Its name, where the system says it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            named = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or platform.machine()
