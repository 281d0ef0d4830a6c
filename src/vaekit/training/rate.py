"""How the learning rate of a training moves: along a schedule, or down at each plateau of the validation loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from vaekit.schedules import Constant, Schedule


class Pace(ABC):
    """From the learning rate of the configuration to that of a step."""

    @property
    @abstractmethod
    def end(self) -> int:
        """The first step from which only validation losses can still move it."""

    @property
    @abstractmethod
    def moves(self) -> bool:
        """Whether the rate is ever another than that of the configuration."""

    @abstractmethod
    def rate(self, base: float, step: int) -> float:
        """The rate at `step`, given that of the configuration."""

    @abstractmethod
    def observe(self, loss: float) -> None:
        """Take in the validation loss of an epoch, nats per example."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What is no function of the step, as JSON values that come back bit for bit."""

    @abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state` gave."""


class Along(Pace):
    """A schedule of factors: 1 is the learning rate of the configuration.

    Arguments:
        schedule: The factor at each step.

    Raises:
        ValueError: If it begins or ends below 0.
    """

    def __init__(self, schedule: Schedule) -> None:
        ends = schedule(0), schedule(schedule.end)
        if min(ends) < 0.0:
            raise ValueError(
                f"The learning rate goes from {ends[0]} to {ends[1]} times optimizer.lr, expected 0 or more."
            )
        self.schedule = schedule

    @property
    def end(self) -> int:
        """Of the schedule."""
        return self.schedule.end

    @property
    def moves(self) -> bool:
        """Unless it is the factor 1 throughout."""
        return self.end > 0 or self.schedule(0) != 1.0

    def rate(self, base: float, step: int) -> float:
        """`base` times the factor."""
        return base * self.schedule(step)

    def observe(self, loss: float) -> None:
        """A schedule knows its way."""

    def state(self) -> dict[str, Any]:
        """Nothing: it is a function of the step."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""


class Plateau(Pace):
    """The rate falls by a factor when the validation loss has not fallen for some epochs.

    An epoch is an improvement if its loss lies more than `threshold` below the best before it: in nats, because a share of the
    loss would hang on the likelihood's constant, and on the sign that the loss of a density may have. When more than `patience`
    epochs in a row were none, the rate is multiplied by `factor`, and the count starts anew.

    Arguments:
        factor: Of each reduction, above 0 and below 1.
        patience: Epochs without an improvement that are let pass.
        threshold: What an improvement must exceed, nats per example.
        min_lr: The rate never falls below this.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(self, factor: float = 0.1, patience: int = 10, threshold: float = 0.01, min_lr: float = 0.0) -> None:
        if not 0.0 < factor < 1.0:
            raise ValueError(f"factor is {factor}, expected a number above 0 and below 1, for example 0.1.")
        for name, value in {"patience": patience, "threshold": threshold, "min_lr": min_lr}.items():
            if value < 0:
                raise ValueError(f"{name} is {value}, expected 0 or more.")
        self.factor, self.patience, self.threshold, self.min_lr = factor, patience, threshold, min_lr
        self.best: float | None = None
        self.waited, self.reductions = 0, 0

    @property
    def end(self) -> int:
        """0: no step moves it."""
        return 0

    @property
    def moves(self) -> bool:
        """It may."""
        return True

    def rate(self, base: float, step: int) -> float:
        """`base` after the reductions so far, but never below `min_lr` unless `base` is."""
        return max(base * self.factor**self.reductions, min(base, self.min_lr))

    def observe(self, loss: float) -> None:
        """Compare with the best so far, and reduce the rate when patience is over."""
        if self.best is None or loss < self.best - self.threshold:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.waited, self.reductions = 0, self.reductions + 1

    def state(self) -> dict[str, Any]:
        """The best loss, and the counts."""
        return {"best": self.best, "waited": self.waited, "reductions": self.reductions}

    def load(self, state: Mapping[str, Any]) -> None:
        """The best loss, and the counts."""
        self.best = None if state["best"] is None else float(state["best"])
        self.waited, self.reductions = int(state["waited"]), int(state["reductions"])


def unmoved() -> Pace:
    """The rate of the configuration at every step."""
    return Along(Constant(1.0))
