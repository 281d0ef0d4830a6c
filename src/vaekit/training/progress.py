"""How a training shows where it stands: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from vaekit.training.history import Row
from vaekit.training.loop import Callback, Progress


class _Rate:
    """Examples a second and time left, counted from the first step of this process."""

    def __init__(self, progress: Progress) -> None:
        self.began, self.first = time.monotonic(), progress.step
        self.examples, self.before = 0, progress.history.examples

    def said(self, progress: Progress, unit: str = " examples/s") -> str:
        seconds = max(time.monotonic() - self.began, 1e-9)
        done = progress.step - self.first
        left = (progress.steps - progress.step) * seconds / max(done, 1)
        examples = self.examples + progress.history.examples - self.before
        return f"{examples / seconds:,.0f}{unit}  {duration(left)} left"


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
    """One line that moves, for terminals: the numbers of the last epoch, and how far the training is.

    Arguments:
        console: Where it is drawn.
    """

    SECONDS = 0.2  # between two drawings within an epoch

    def __init__(self, console: Console) -> None:
        self.labels = SHORT if console.width < 110 else LONG
        columns = (
            TextColumn("{task.fields[epochs]}"),
            BarColumn(bar_width=8 if console.width < 110 else 24),
            TextColumn("{task.fields[numbers]}"),
            TextColumn("{task.fields[rate]}"),
        )
        self.bar = Bar(*columns, console=console)
        self._drawn, self.numbers = -float("inf"), ""

    def start(self, progress: Progress) -> None:
        """Draw the empty line."""
        self.rate = _Rate(progress)
        self.bar.start()
        self.task = self.bar.add_task(
            "train", total=progress.steps, completed=progress.step, epochs=_epochs(progress), numbers="", rate=""
        )

    def epoch(self, progress: Progress, row: Row) -> None:
        """Draw the row."""
        self.rate.examples += int(row["examples"])
        self.numbers = summary(row, self.labels)
        self._draw(progress)

    def step(self, progress: Progress) -> None:
        """Draw how far it is, a few times a second."""
        if time.monotonic() - self._drawn >= self.SECONDS:
            self._draw(progress)

    def end(self, progress: Progress) -> None:
        """Leave the line as it is."""
        self.bar.stop()

    def _draw(self, progress: Progress) -> None:
        self._drawn = time.monotonic()
        rate, epochs = self.rate.said(progress, self.labels["rate"]), _epochs(progress)
        self.bar.update(self.task, completed=progress.step, rate=rate, epochs=epochs, numbers=self.numbers)


LONG = {
    "loss": "loss",
    "elbo": "ELBO",
    "reconstruction": "reconstruction",
    "kl": "KL",
    "val": "validation ELBO",
    "rate": " examples/s",
}
SHORT = {"loss": "loss", "elbo": "ELBO", "reconstruction": "rec", "kl": "KL", "val": "val", "rate": "/s"}


def summary(row: Row, labels: Mapping[str, str] = LONG) -> str:
    """The numbers of a row that people watch, in nats."""
    shown = {"loss": row["train/loss"]}
    if "train/elbo" in row:
        shown = {"elbo": row["train/elbo"], "reconstruction": row["train/recon_loss"], "kl": row["train/kl_loss"]}
    elif "train/recon_loss" in row:
        shown["reconstruction"] = row["train/recon_loss"]
    if "val/elbo" in row:
        shown["val"] = row["val/elbo"]
    return "  ".join(f"{labels[name]} {value:.2f}" for name, value in shown.items())


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
