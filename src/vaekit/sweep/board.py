"""Where a person sees how a sweep stands: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vaekit.sweep.results import FAILED, FINISHED, RUNNING, Result, described, tally
from vaekit.sweep.sampling import Settings
from vaekit.sweep.store import StorageError

_LOOK_SECONDS = 3.0
_STYLES = {"failed": "red", "running": "bold", "pruned": "dim"}


class Lines:
    """A line for each beginning and each end.

    Arguments:
        say: Takes a line.
        count: Trials of the sweep.
    """

    def __init__(self, say: Callable[[str], None], count: int) -> None:
        self.say, self.count = say, count
        self._mine: set[int] = set()
        self._waiting = False

    def began(self, trial: int, settings: Settings) -> None:
        """Say which."""
        self._mine.add(trial)
        self._waiting = False
        self.say(f"trial {trial} begins: {described(settings)}")

    def moved(self, trial: int, epoch: int, epochs: int, score: float | None) -> None:
        """Nothing: a run's own log has its epochs."""

    def changed(self, found: Sequence[Result]) -> None:
        """Say how this process's trials have ended."""
        for result in found:
            if result.trial in self._mine and result.state != RUNNING:
                self._mine.discard(result.trial)
                self.say(f"trial {result.trial} {_ending(result)}  ({tally(found, self.count)})")

    def waits(self, others: int) -> None:
        """Say so once."""
        if not self._waiting:
            self._waiting = True
            self.say(f"{others} left, in other processes: waiting for them")

    def note(self, line: str) -> None:
        """Say it."""
        self.say(line)


class Silence:
    """Shows nothing: for the helpers of a process that shows it all."""

    def began(self, trial: int, settings: Settings) -> None:
        """Nothing."""

    def moved(self, trial: int, epoch: int, epochs: int, score: float | None) -> None:
        """Nothing."""

    def changed(self, found: Sequence[Result]) -> None:
        """Nothing."""

    def waits(self, others: int) -> None:
        """Nothing."""

    def note(self, line: str) -> None:
        """Nothing."""


class LiveTable:
    """A table that follows the sweep: what runs, then the best, and how many are left.

    Arguments:
        console: The terminal.
        count: Trials of the sweep.
        look: Gives what all processes have done, now and then.
    """

    def __init__(self, console: Console, count: int, look: Callable[[], Sequence[Result]]) -> None:
        self.count, self.look, self.console = count, look, console
        self.found: Sequence[Result] = ()
        self._now: dict[int, tuple[Settings, str, float | None]] = {}
        self._note, self._looked = "", time.monotonic()
        self.live = Live(console=console, refresh_per_second=4, get_renderable=self.drawn)

    def __enter__(self) -> LiveTable:
        self.found = self.look()
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._now, self._note = {}, ""
        self.live.stop()

    def began(self, trial: int, settings: Settings) -> None:
        """Show it."""
        self._now[trial], self._note = (settings, "", None), ""

    def moved(self, trial: int, epoch: int, epochs: int, score: float | None) -> None:
        """Show the epoch."""
        if trial in self._now:
            settings, _, before = self._now[trial]
            self._now[trial] = settings, f"{epoch}/{epochs}", before if score is None else score
        if time.monotonic() - self._looked >= _LOOK_SECONDS:  # what other processes have done meanwhile
            self._looked = time.monotonic()
            with suppress(StorageError):
                self.found = self.look()

    def changed(self, found: Sequence[Result]) -> None:
        """Show what has changed."""
        self.found, self._now = found, {}

    def waits(self, others: int) -> None:
        """Show it."""
        self._note = f"{others} left, in other processes"

    def note(self, line: str) -> None:
        """Show it, and leave it there."""
        self.console.print(line)

    def drawn(self) -> Group:
        """The table as it is now."""
        return Group(Text(tally(self.found, self.count), style="bold"), self._table(), Text(self._note, style="dim"))

    def _table(self) -> Table:
        table = Table(box=None)
        for name in ("trial", "settings", "epoch", "score", "state"):
            table.add_column(name, justify="right" if name in ("trial", "score") else "left", overflow="fold")
        for trial, (settings, epoch, score) in self._now.items():
            table.add_row(str(trial), described(settings), epoch, _number(score), RUNNING, style="bold")
        others = sorted((r for r in self.found if r.trial not in self._now), key=lambda r: r.state != RUNNING)
        for result in others[: max(3, self.console.height - 8)]:
            epoch = "" if result.epoch is None else str(result.epoch)
            row = (str(result.trial), result.words, epoch, _number(result.score), result.state)
            table.add_row(*row, style=_STYLES.get(result.state, ""))
        return table


def table(found: Sequence[Result]) -> str:
    """The trials in plain lines, best first: rank, trial, settings, score, state."""
    rows = [("trial", "score", "state", "settings")]
    rows += [(str(r.trial), _number(r.score), r.state, r.words) for r in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"  {row[0]:>{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}" for row in rows)


def _ending(result: Result) -> str:
    if result.state == FINISHED:
        return f"finished: {result.metric} {_number(result.score)}"
    if result.state == FAILED:
        return f"failed: {result.error}"
    return f"pruned after epoch {result.epoch}: {result.metric} {_number(result.score)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
