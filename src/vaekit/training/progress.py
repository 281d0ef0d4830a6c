"""How a training shows where it stands: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from vaekit.training.history import Row
from vaekit.training.loop import Callback, Progress


class _Rate:
    """Examples a second and time left, counted from the first step of this process."""

    def __init__(self, progress: Progress) -> None:
        self.began, self.first = time.monotonic(), progress.step
        self.examples = 0

    def said(self, progress: Progress) -> str:
        seconds = max(time.monotonic() - self.began, 1e-9)
        done = progress.step - self.first
        left = (progress.steps - progress.step) * seconds / max(done, 1)
        return f"{self.examples / seconds:,.0f} examples/s  {duration(left)} left"


class PlainLines(Callback):
    """A line when an epoch ends, but not more than one a second; always for the first and the last.

    Arguments:
        say: Takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._last = -float("inf")

    def start(self, progress: Progress) -> None:
        """Start the clock."""
        self.rate = _Rate(progress)

    def epoch(self, progress: Progress, row: Row) -> None:
        """Say the row."""
        self.rate.examples += int(row["examples"])
        if progress.step == progress.steps or time.monotonic() - self._last >= 1.0:
            self._last = time.monotonic()
            self.say(f"{_epochs(progress)}  {summary(row)}  {self.rate.said(progress)}")


class LiveLine(Callback):
    """One line that moves, for terminals; each epoch's numbers replace the last.

    Arguments:
        console: Where it is drawn.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[numbers]}"),
        )
        self.bar = Bar(*columns, console=console)

    def start(self, progress: Progress) -> None:
        """Draw the empty line."""
        self.rate = _Rate(progress)
        self.bar.start()
        total = progress.steps // progress.steps_per_epoch
        self.task = self.bar.add_task("train", total=total, completed=progress.epoch, numbers="")

    def epoch(self, progress: Progress, row: Row) -> None:
        """Draw the row."""
        self.rate.examples += int(row["examples"])
        self.bar.update(self.task, completed=progress.epoch, numbers=f"{summary(row)}  {self.rate.said(progress)}")

    def end(self, progress: Progress) -> None:
        """Leave the line as it is."""
        self.bar.stop()


def summary(row: Row) -> str:
    """The numbers of a row that people watch, in nats."""
    wanted = {
        "ELBO": "train/elbo",
        "reconstruction": "train/recon_loss",
        "KL": "train/kl_loss",
        "validation ELBO": "val/elbo",
    }
    return "  ".join(f"{label} {row[key]:.2f}" for label, key in wanted.items() if key in row)


def duration(seconds: float) -> str:
    """A time span as people say it: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _epochs(progress: Progress) -> str:
    total = progress.steps // progress.steps_per_epoch
    return f"epoch {progress.epoch:>{len(str(total))}}/{total}"
