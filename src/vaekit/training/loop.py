"""The only training loop. It knows no variant: variants are players, terms and schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from vaekit.data.batch import Batch
from vaekit.models.vae import VAE
from vaekit.objectives.base import Loss, Objective
from vaekit.schedules import advance, annealed_values
from vaekit.training.clock import Clock
from vaekit.training.compiled import Compiling
from vaekit.training.guard import Guard
from vaekit.training.history import History, Row
from vaekit.training.passes import Passes
from vaekit.training.players import Player

Stream = Callable[[int], Batch]


@dataclass
class Progress:
    """Where a training stands, as callbacks see it.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        steps_per_epoch: Steps in an epoch.
        history: What has been measured.
        loss: Of the last batch, on the device.
        guard: Which steps had to be left out.
        clock: Where the time goes.
        refusal: Why a step could not be recorded, if one could not.
        uncompiled: Why one could not be compiled, if it was to be.
    """

    step: int
    steps: int
    steps_per_epoch: int
    history: History
    loss: Loss | None = None
    guard: Guard | None = None
    clock: Clock = field(default_factory=Clock)
    refusal: str = ""
    uncompiled: str = ""

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.steps_per_epoch


class Callback:
    """Watches a training. A row handed to `epoch` may be added to; callbacks are called in their order.

    Attributes:
        part: Of the time of a training, what its `epoch` counts as; one of `clock.PARTS`.
    """

    part = "rest"

    def start(self, progress: Progress) -> None:
        """Before the first step."""

    def epoch(self, progress: Progress, row: Row) -> None:
        """After the last step of an epoch, before that step's `step`."""

    def step(self, progress: Progress) -> None:
        """After a step."""

    def end(self, progress: Progress) -> None:
        """After the last step, or when the training is left by an exception."""


def fit(
    model: VAE,
    objective: Objective,
    players: Sequence[Player],
    stream: Stream,
    *,
    steps: int,
    steps_per_epoch: int,
    samples: int = 1,
    compiling: Compiling | None = None,
    start: int = 0,
    history: History | None = None,
    callbacks: Sequence[Callback] = (),
    skip_limit: int = 10,
    clock: Clock | None = None,
) -> History:
    """Train.

    At each step the clock moves, the model is traced once, every active player backpropagates its own loss into its own
    parameters, and then all of them step. A step whose loss or gradient is not finite moves nothing and is counted.

    Arguments:
        model: On the device of the batches.
        objective: Its loss is recorded, and is what the sole player minimises.
        players: At least one.
        stream: From a step to its batch.
        steps: At which step to stop, counted from 0 over all epochs.
        steps_per_epoch: For the rows of the history.
        samples: Posterior draws of each example, K.
        compiling: Whether steps are compiled; told why one cannot be.
        start: Steps already done.
        history: Of those steps.
        callbacks: Called in their order.
        skip_limit: Steps in a row that may be left out because they are not finite.
        clock: Told where the time goes.

    Returns:
        The history, with a row for each epoch.

    Raises:
        TrainingError: After `skip_limit` such steps in a row.
    """
    history = History() if history is None else history
    guard = Guard(model, objective, players, skip_limit)
    clock = Clock() if clock is None else clock
    progress = Progress(start, steps, steps_per_epoch, history, guard=guard, clock=clock)
    passes = Passes(model, objective, players, guard.telling, samples, history.values, clock, compiling)
    clocked = nn.ModuleList([model, objective])
    moving = annealed_values(clocked)
    advance(clocked, max(start - 1, 0))  # where the last step left it, also when none is left to do
    for callback in callbacks:
        callback.start(progress)
    try:
        model.train()
        for step in range(start, steps):
            for value in moving:
                value.advance(step)
            for player in players:
                player.advance(step)
            clock.lap("rest")
            batch = stream(step)
            clock.lap("data")
            active = [player for player in players if player.active(step)]
            progress.loss, values, good = _move(passes, active, batch, guard, step, clock)
            progress.step, progress.refusal, progress.uncompiled = step + 1, passes.refusal, passes.compiling.refused
            history.observe(values, len(batch.x), good)
            clock.step()
            _tell(callbacks, progress)
    finally:
        for callback in callbacks:
            callback.end(progress)
    return history


def _move(
    passes: Passes,
    players: Sequence[Player],
    batch: Batch,
    guard: Guard,
    step: int,
    clock: Clock,
) -> tuple[Loss, Tensor, Tensor]:
    guard.begin()
    outcome = passes(batch, players)
    good = guard.passes(step, outcome.good, outcome.trace, outcome.loss, batch)
    for player in players:
        player.step(good)
    clock.lap("waiting" if guard.waited else "optimizer")
    return outcome.loss, outcome.values, good


def _tell(callbacks: Sequence[Callback], progress: Progress) -> None:
    if progress.step % progress.steps_per_epoch == 0:
        assert progress.guard is not None
        progress.guard.look()
        row = progress.history.close(progress.epoch, progress.step, progress.guard.last or "")
        progress.clock.lap("waiting" if progress.clock.waits else "rest")  # the numbers come from the device
        for callback in callbacks:
            callback.epoch(progress, row)
            progress.clock.lap(callback.part)
    for callback in callbacks:
        callback.step(progress)
