"""Where the time of a training goes: laps of the host's clock, a microsecond a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

PARTS = (
    "data", "forward", "backward", "optimizer", "recording", "evaluation", "pictures", "checkpoints", "waiting", "rest",
)  # fmt: skip
# what these wait for is theirs: a checkpoint is over when the disk has it, and a step is compiled by other processes
_OWN_WAITING = frozenset({"checkpoints", "recording", "waiting"})


class Clock:
    r"""Adds up the seconds between laps, each under the name of what was done in them.

    The seconds of a process are those of the wall, so the parts add up to all of them. What of them this process was not on a
    processor core is *waiting*: for a core that another program had, or for a disk. In an interval of :math:`w` seconds by the wall
    with :math:`c` seconds of processor time, of all threads, that is :math:`\max(0, w - c)`, taken from the interval's parts in
    proportion to their length. With one thread it is exact; with more, threads that work hide one that waits, and it is the least
    that was waited. Processor time is asked for where an interval ends, not at each lap: it costs a call of the system.

    A GPU works while the host goes on, and nothing here waits for it: the seconds are those of the host, and where the host reads
    a number from the device, and so must wait for all that it was given, they count as waiting. `Lag` says which of the two was
    behind.

    Arguments:
        lag: Of the device, if it is not the host.
        wall: Seconds by the clock.
        processor: Seconds of processor time of this process.
        waits: Whether the host must wait for a number that it reads, because the device is another.

    Attributes:
        steps: Training steps done.
    """

    def __init__(
        self,
        lag: Lag | None = None,
        wall: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.process_time,
        waits: bool = False,
    ) -> None:
        self.lag, self.waits, self.steps = lag, waits, 0
        self._wall, self._processor = wall, processor
        self._settled = dict.fromkeys(PARTS, 0.0)
        self._open = dict.fromkeys(PARTS, 0.0)  # of the present interval
        self._last, self._before = wall(), processor()

    def lap(self, part: str) -> None:
        """What was done since the last lap was `part`, one of `PARTS`."""
        now = self._wall()
        self._open[part] += now - self._last
        self._last = now

    def shared_lap(self, *parts: str) -> None:
        """What was done since the last lap was all of `parts` at once: theirs as they shared the time before, or alike."""
        now, taken = self._wall(), [self._settled[part] + self._open[part] for part in parts]
        for part, own in zip(parts, taken, strict=True):
            self._open[part] += (now - self._last) * (own / sum(taken) if sum(taken) else 1.0 / len(parts))
        self._last = now

    def step(self) -> None:
        """What was done since the last lap was the rest of a training step, which is now over."""
        self.lap("rest")
        self.steps += 1
        if self.lag is not None:
            self.lag.look()

    def add(self, seconds: Mapping[str, float], steps: int) -> None:
        """What another clock has measured since the last lap of this one, in so many training steps."""
        self._settle()
        for part, taken in seconds.items():
            self._settled[part] += taken
        self.steps += steps
        self._last, self._before = self._wall(), self._processor()

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Within this context is `part`, an interval of its own; not for every step, and not one within another."""
        self.lap("rest")
        self._settle()
        try:
            yield
        finally:
            self.lap(part)
            self._settle()

    def seconds(self) -> dict[str, float]:
        """Of each part so far."""
        self.lap("rest")
        self._settle()
        return dict(self._settled)

    def _settle(self) -> None:
        now = self._processor()
        mixed = sum(seconds for part, seconds in self._open.items() if part not in _OWN_WAITING)
        waited = max(0.0, mixed - (now - self._before))
        for part, seconds in self._open.items():
            own = part in _OWN_WAITING or not mixed
            self._settled[part] += seconds if own else seconds * (1.0 - waited / mixed)
            self._open[part] = 0.0
        self._settled["waiting"] += waited
        self._before = now


class Lag:
    """Whether a GPU falls behind the host, which gives it work: asked now and then, and never waited for.

    After a step a mark is put among the work of the GPU, and after the next the host looks whether it has been passed. Where it has
    not, the GPU is a step or more behind and has never been idle; where it has, the GPU waits for what the host gives it.

    Arguments:
        mark: Makes a mark, an event as torch has them: `record` puts it, `query` says whether it has been passed.
        every: Steps from one mark to the next.
    """

    def __init__(self, mark: Callable[[], Any] = torch.cuda.Event, every: int = 16) -> None:
        self.mark, self.every = mark, every
        self.looks, self.behind = 0, 0
        self._steps = 0
        self._put: Any = None

    def look(self) -> None:
        """After a step."""
        self._steps += 1
        if self._put is not None:
            self.looks += 1
            self.behind += not self._put.query()
            self._put = None
        elif self._steps % self.every == 0:
            self._put = self.mark()
            self._put.record()

    @property
    def share(self) -> float | None:
        """Of the looks, how many found it behind; None before the first."""
        return self.behind / self.looks if self.looks else None


def clock_for(device: torch.device) -> Clock:
    """The clock of a training on `device`."""
    return Clock(Lag() if device.type == "cuda" else None, waits=device.type != "cpu")
