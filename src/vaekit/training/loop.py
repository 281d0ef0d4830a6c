"""The only training loop. It knows no variant: variants are players, terms and schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from vaekit.data.batch import Batch
from vaekit.models.vae import VAE
from vaekit.objectives.base import Loss, Objective
from vaekit.schedules import advance, annealed_values
from vaekit.training.guard import Guard
from vaekit.training.history import History, Row
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
    """

    step: int
    steps: int
    steps_per_epoch: int
    history: History
    loss: Loss | None = None
    guard: Guard | None = None

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.steps_per_epoch


class Callback:
    """Watches a training. A row handed to `epoch` may be added to; callbacks are called in their order."""

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
    start: int = 0,
    history: History | None = None,
    callbacks: Sequence[Callback] = (),
    skip_limit: int = 10,
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
        start: Steps already done.
        history: Of those steps.
        callbacks: Called in their order.
        skip_limit: Steps in a row that may be left out because they are not finite.

    Returns:
        The history, with a row for each epoch.

    Raises:
        TrainingError: After `skip_limit` such steps in a row.
    """
    history = History() if history is None else history
    guard = Guard(model, objective, players, skip_limit)
    progress = Progress(start, steps, steps_per_epoch, history, guard=guard)
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
            batch = stream(step)
            active = [player for player in players if player.active(step)]
            progress.loss, good = _move(model, objective, active, batch, samples, guard, step)
            progress.step = step + 1
            history.observe(progress.loss, len(batch.x), good)
            _tell(callbacks, progress)
    finally:
        for callback in callbacks:
            callback.end(progress)
    return history


def _move(
    model: VAE,
    objective: Objective,
    players: Sequence[Player],
    batch: Batch,
    samples: int,
    guard: Guard,
    step: int,
) -> tuple[Loss, Tensor]:
    guard.begin()
    trace = model(batch.x, samples, batch.context)
    loss: Loss = objective(trace)
    for player in players:
        player.backward(trace, loss, last=player is players[-1])
    good = guard.passes(step, trace, loss, batch)
    for player in players:
        player.step(good)
    parts = {name: part.detach() for name, part in loss.parts.items()}
    return Loss(loss.total.detach(), parts, loss.coefficients, loss.roles), good  # who watches needs no graph


def _tell(callbacks: Sequence[Callback], progress: Progress) -> None:
    if progress.step % progress.steps_per_epoch == 0:
        assert progress.guard is not None
        progress.guard.look()
        row = progress.history.close(progress.epoch, progress.step, progress.guard.last or "")
        for callback in callbacks:
            callback.epoch(progress, row)
    for callback in callbacks:
        callback.step(progress)
