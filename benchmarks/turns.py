"""Contestants that take turns, so that a noisy machine disturbs all of them alike.

Each has a process of its own, and so its own allocator, threads and caches: nobody is slowed or helped by what another library has
set. They wait for each other, so only one of them works at a time.
"""

from __future__ import annotations

import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
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


class Turns:
    """What a contestant sees of the others: when to work, and for how many steps.

    Arguments:
        line: To whom gives the turns.
    """

    def __init__(self, line: Connection) -> None:
        self._line = line

    def wait(self) -> int | None:
        """How many steps to do now; None when all is over. Returns when it is this one's turn."""
        count: int | None = self._line.recv()
        return count

    def done(self, taken: Taken) -> None:
        """The steps are done, and took so long."""
        self._line.send(taken)

    def serve(self, steps: Steps) -> None:
        """Do steps whenever asked, until all is over."""
        while (count := self.wait()) is not None:
            watch = Stopwatch()
            taken = steps(count)
            self.done(taken or watch.taken())


# sets itself up in its own process, then takes its turns
Contestant = tuple[Callable[..., None], tuple[Any, ...]]


def take_turns(
    contestants: Mapping[str, Contestant], rounds: int, steps: int, warm_up: int | None = None
) -> dict[str, list[Taken]]:
    """Seconds a step of each contestant in each round; a turn of `warm_up` steps before them does not count.

    Arguments:
        contestants: By name: a function of a module, which is given `Turns` and then these arguments.
        rounds: Turns of each.
        steps: In a turn.
        warm_up: Steps before the first turn that counts; as many as in a turn if None.
    """
    context = multiprocessing.get_context("spawn")
    lines, processes = {}, []
    for name, (run, arguments) in contestants.items():
        lines[name], other = context.Pipe()
        processes.append(context.Process(target=_begin, args=(run, other, arguments), daemon=True))
        processes[-1].start()
        other.close()
        _turn(lines[name], warm_up or steps)
    taken: dict[str, list[Taken]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, line in lines.items():
            whole = _turn(line, steps)
            taken[name].append(Taken(whole.cpu / steps, whole.wall / steps))
    for line, process in zip(lines.values(), processes, strict=True):
        line.send(None)
        process.join()
    return taken


def _turn(line: Connection, steps: int) -> Taken:
    line.send(steps)
    taken: Taken = line.recv()
    return taken


def _begin(run: Callable[..., None], line: Connection, arguments: tuple[Any, ...]) -> None:
    run(Turns(line), *arguments)


def ratios(
    taken: Mapping[str, Sequence[Taken]], ours: str, *, wall: bool = False
) -> dict[str, tuple[float, float, float]]:
    """CPU time of `ours` (or its time by the clock) over that of each other, pair by pair in a round: median, least, most."""
    found = {}
    for name, others in taken.items():
        if name != ours:
            both = zip(taken[ours], others, strict=True)
            pairs = [mine.wall / other.wall if wall else mine.cpu / other.cpu for mine, other in both]
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
