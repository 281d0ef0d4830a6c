"""What a sweep sees of a training: each epoch's score goes to the storage, and a run without hope is stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import TracebackType

from optuna.trial import FrozenTrial

from vaekit.sweep.claims import BEAT_SECONDS, Claim
from vaekit.sweep.metric import Metric
from vaekit.sweep.store import StorageError, Store
from vaekit.training.history import Row
from vaekit.training.loop import Callback, Progress

# between two scores of one run in the storage, where nothing is decided by them
_REPORT_SECONDS = 2.0
Shown = Callable[[int, int, float | None], None]


class Pruned(Exception):  # noqa: N818
    """A run that was stopped because the others did better at its age.

    Attributes:
        epoch: After which.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__(f"Stopped by the sweep after epoch {epoch}: half of the runs were better by then.")
        self.epoch = epoch


class Lost(Exception):  # noqa: N818
    """A trial that another process has taken over, because this one had not been heard of."""


class Pulse(AbstractContextManager["Pulse"]):
    """Within this context the claim on a trial is kept alive.

    Attributes:
        lost: Whether it has been taken over all the same.
    """

    def __init__(self, store: Store, claim: Claim) -> None:
        self.store, self.claim, self.lost = store, claim, False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self.lost = not self.store.patiently(lambda: self.store.claims.beat(self.claim), 0.0)
            except StorageError:  # the storage is away: it may be back at the next beat
                continue
            if self.lost:
                return


class Watch(Callback):
    """Reports the score of each epoch.

    While a schedule within the model moves its scores do not compare, and such an epoch stops no run: those without ``kept``.

    Arguments:
        store: Of the sweep.
        trial: Whose training this is.
        metric: By which it is judged.
        pulse: Of its claim.
        shown: Told the epoch, how many there are, and the score.
    """

    def __init__(self, store: Store, trial: FrozenTrial, metric: Metric, pulse: Pulse, shown: Shown) -> None:
        self.store, self.trial, self.metric, self.pulse, self.shown = store, trial, metric, pulse, shown
        self.prunes = store.definition.prune != "none"
        self._reported = -float("inf")

    def start(self, progress: Progress) -> None:
        """Show where it begins."""
        self.shown(progress.epoch, _epochs(progress), None)

    def epoch(self, progress: Progress, row: Row) -> None:
        """Report the row.

        Raises:
            Lost: If the trial is another process's now.
            Pruned: If the run is to be stopped.
        """
        value, epochs = self.metric.of(row), _epochs(progress)
        self.shown(progress.epoch, epochs, value)
        if self.pulse.lost:
            raise Lost
        settled, last = "kept" in row, progress.step == progress.steps
        if settled and self.prunes:
            self.store.report(self.trial, progress.epoch, value)
        elif settled and time.monotonic() - self._reported >= _REPORT_SECONDS:
            self._reported = time.monotonic()
            with suppress(StorageError):  # nothing hangs on it
                self.store.report(self.trial, progress.epoch, value, patience=0.0)
        if settled and self.prunes and not last and self.store.hopeless(self.trial, epochs):
            raise Pruned(progress.epoch)


def follow(parent: int) -> None:
    """Stop this process, after a checkpoint, when the one that started it is gone."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()


def _epochs(progress: Progress) -> int:
    return progress.steps // progress.steps_per_epoch
