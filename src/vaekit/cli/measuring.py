"""How a long measurement shows where it stands, on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0

# done, of how many
Tell = Callable[[int, int], None]
Show = Callable[[str], Tell]


@contextmanager
def measuring() -> Iterator[Show]:
    """Within this context, what is given makes of a measurement's name what it is to tell its progress to."""
    if not sys.stderr.isatty():
        yield Lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("examples"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:

        def show(name: str) -> Tell:
            task = bar.add_task(name, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield show


class Lines:
    """A line for a measurement that takes longer than ten seconds, and one more after every ten.

    Arguments:
        name: Of the measurement.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.first = self.last = self.total = 0
        self.began = self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Take note, and say it when it is time."""
        if total != self.total or done < self.last:  # the next part of the same measurement
            self._begin(done, total)
            if 0 < done < total:
                self._say(f"going on after {done:,} of {total:,} examples, which were kept")
        self.last = done
        now = time.monotonic()
        if done > self.first and done < total and now - self.said >= SECONDS_BETWEEN_LINES:
            left = (now - self.began) / (done - self.first) * (total - done)
            self._say(f"{done:,} of {total:,} examples, {_duration(left)} left")

    def _begin(self, done: int, total: int) -> None:
        self.first = self.last = done
        self.total = total
        self.began = self.said = time.monotonic()

    def _say(self, words: str) -> None:
        self.said = time.monotonic()
        print(f"vaekit: {self.name}: {words}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    from vaekit.training.progress import duration

    return duration(seconds)
