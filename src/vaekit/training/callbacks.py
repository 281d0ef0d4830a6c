"""What watches a training: validation, the choice of the best weights, the log, checkpoints and signals."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from torch import nn

from vaekit.errors import TrainingError
from vaekit.schedules import last_end
from vaekit.training.history import Row
from vaekit.training.loop import Callback, Progress
from vaekit.training.session import Session


class Interrupted(KeyboardInterrupt):
    """A training that stopped at a signal: after a checkpoint, or where what was left undone can be done again.

    Attributes:
        signal: Its number.
        path: The run folder, once it is known.
    """

    def __init__(self, number: int, path: Path = Path()) -> None:
        super().__init__(int(number))
        self.signal, self.path = int(number), path


class Validation(Callback):
    """Adds numbers on the validation split to each epoch's row, keeps the best weights, and tells the learning rates.

    While a schedule within the model still moves, as when it grows or its temperature falls, it is another model at each epoch,
    and its numbers do not compare: weights are kept from the first epoch whose last step found all of them at their end. Where
    a schedule ends only with the training, these are the last ones. So it is with the schedule of an objective that holds a
    term to a target: until then the model is led elsewhere.

    The learning rates are told the loss with the weights that are trained with, or minus the score where it cannot be measured,
    once it is the same quantity at each epoch: when every schedule of the model and of the objective has ended.

    Arguments:
        session: Whose model is measured.
        measure: Gives the numbers to add, and the score to choose by: higher is better.
    """

    part = "evaluation"

    def __init__(self, session: Session, measure: Callable[[], tuple[Row, float]]) -> None:
        self.session, self.measure = session, measure
        moving = [session.model] if session.objective.plain else [session.model, session.objective]
        self.settled = last_end(nn.ModuleList(moving))
        self.unmoved = last_end(nn.ModuleList([session.model, session.objective]))

    def epoch(self, progress: Progress, row: Row) -> None:
        """Measure and compare.

        Raises:
            TrainingError: If a number is not finite.
        """
        numbers, score = self.measure()
        row.update(numbers)
        broken = [name for name, value in row.items() if not math.isfinite(value)]
        if broken:
            raise TrainingError(
                f"{broken[0]} is {row[broken[0]]} after epoch {progress.epoch}. Lower optimizer.lr, or clip with "
                "training.gradient_clip=1."
            )
        # after n steps the model stands where step n - 1 has put it
        if progress.step > self.settled or progress.step == progress.steps:
            row["kept"] = float(bool(self.session.best.consider(score, progress.epoch, self.session.model)))
        for player in self.session.players:
            if player.pace.moves:
                row["train/lr" if player.name == "model" else f"train/{player.name}_lr"] = player.lr
            if progress.step > self.unmoved:
                player.pace.observe(row.get("val/loss", -score))


class Rows(Callback):
    """Hands each finished row on.

    Arguments:
        write: Takes a row.
    """

    def __init__(self, write: Callable[[Row], None]) -> None:
        self.write = write

    def epoch(self, progress: Progress, row: Row) -> None:
        """Write it."""
        self.write(row)


class Checkpoints(Callback):
    """Saves when the time has come, at the last step, and when a signal asks the run to stop.

    A save that took a second or more, as that of a large model does, is followed by at least 19 times as long without one: so no
    more than a twentieth of the time goes into saving.

    Arguments:
        save: Saves the state after so many steps.
        seconds: Longest time between two saves, but for that.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)
    LONG, PAUSE = 1.0, 19.0
    listens = True  # not where somebody else does, and tells it by `ask`

    def __init__(self, save: Callable[[int], None], seconds: float) -> None:
        self.save, self.seconds = save, seconds
        self._pause = 0.0
        self._asked: int | None = None
        self._before: dict[int, object] = {}

    def start(self, progress: Progress) -> None:
        """Start the clock, and listen; only the main thread can."""
        self._saved = time.monotonic()
        if self.listens and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}

    def step(self, progress: Progress) -> None:
        """Save if it is time.

        Raises:
            Interrupted: After a save, if a signal has come.
        """
        due = time.monotonic() - self._saved >= max(self.seconds, self._pause)
        if due or self._asked is not None or progress.step == progress.steps:
            progress.history.means()  # raises on numbers that are not finite: those must not replace a good checkpoint
            began = time.monotonic()
            with progress.clock.of("checkpoints"):
                self.save(progress.step)
            self._saved = time.monotonic()
            took = self._saved - began
            self._pause = self.PAUSE * took if took >= self.LONG else 0.0
        if self._asked is not None:
            raise Interrupted(self._asked)

    def end(self, progress: Progress) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    @property
    def asked(self) -> int | None:
        """The number of a signal that has come."""
        return self._asked

    def ask(self, number: int) -> None:
        """Stop at the next step, as if the signal of this number had come."""
        self._asked = number

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once, without a checkpoint
        self._asked = number
