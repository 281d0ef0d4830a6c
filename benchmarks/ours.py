"""vaekit's own loop as a contestant: it trains on and on, and goes on when it is its turn."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import nn

from turns import Stopwatch, Turns
from vaekit.compose import compose
from vaekit.data.batch import Dataset
from vaekit.recipe import make_session, resolved
from vaekit.schedules import advance, last_end
from vaekit.training import Callback, fit
from vaekit.training.loop import Progress
from vaekit.training.memory import keep_for
from vaekit.training.session import Session


def session_of(overrides: list[str], dataset: Dataset) -> Session:
    """A training as it is before its first step, or at the last stage of a model that grows."""
    session = make_session(resolved(compose(overrides), dataset), dataset, torch.device("cpu"))
    session.step = last_end(nn.ModuleList([session.model, session.objective]))
    advance(session.model, session.step)
    return session


def train_in_turns(turns: Turns, session: Session) -> None:
    """Train as `vaekit train` does between two epochs, until there are no more turns."""
    keep_for(sum(parameter.nbytes for parameter in session.model.parameters()))
    with suppress(_Over), session.generators.borrowed():
        fit(
            session.model, session.objective, session.players, session.stream, start=session.step, steps=10**9,
            steps_per_epoch=10**9, samples=session.samples, compiling=session.compiling, history=session.history,
            callbacks=[_InTurns(turns)],
        )  # fmt: skip


class _Over(Exception):  # noqa: N818
    """No more turns."""


class _InTurns(Callback):
    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def start(self, progress: Progress) -> None:
        self._wait()

    def step(self, progress: Progress) -> None:
        self.left -= 1
        if self.left == 0:
            self.turns.done(self.watch.taken())
            self._wait()

    def _wait(self) -> None:
        left = self.turns.wait()
        if left is None:
            raise _Over
        self.left, self.watch = left, Stopwatch()
