"""Values that follow the training step: schedules, the module that holds one, and the one clock that moves them all."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["Annealed", "Constant", "Cosine", "Linear", "Schedule", "advance", "annealed", "last_end"]


@runtime_checkable
class Schedule(Protocol):
    """A function from the training step (0, 1, ...) to a value."""

    @property
    def end(self) -> int:
        """The first step from which the value stays as it is."""

    def __call__(self, step: int) -> float:
        """The value at `step`."""


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float

    @property
    def end(self) -> int:
        """Constant from the first step."""
        return 0

    def __call__(self, step: int) -> float:
        """`value`."""
        return self.value


@dataclass(frozen=True)
class _Ramp(ABC):
    """From `start` to `stop` over `steps` steps, and exactly `stop` from there on."""

    start: float
    stop: float
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(
                f"A schedule over {self.steps} steps is empty: give steps=1 or more, or schedules.Constant(value=...)."
            )

    @property
    def end(self) -> int:
        """`steps`."""
        return self.steps

    def __call__(self, step: int) -> float:
        """The value at `step`."""
        if step >= self.steps:
            return self.stop
        done = self._done(step / self.steps)
        return self.start * (1.0 - done) + self.stop * done

    @abstractmethod
    def _done(self, share: float) -> float:
        """How much of the way is done after this share of the steps; both in [0, 1)."""


class Linear(_Ramp):
    r"""From `start` to `stop` in a straight line over `steps` steps, and `stop` from there on.

    The usual KL warm-up is ``Linear(start=0.0, stop=1.0, steps=...)``.

    References:
        | Generating Sentences from a Continuous Space (Bowman et al., 2016), section 3.1
        | https://arxiv.org/abs/1511.06349
    """

    def _done(self, share: float) -> float:
        return share


class Cosine(_Ramp):
    r"""From `start` to `stop` along half a cosine over `steps` steps, and `stop` from there on.

    .. math:: \text{stop} + (\text{start} - \text{stop}) \, \tfrac12 (1 + \cos(\pi t / \text{steps}))

    References:
        | SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov and Hutter, 2017), equation 5
        | https://arxiv.org/abs/1608.03983
    """

    def _done(self, share: float) -> float:
        return 0.5 * (1.0 - math.cos(math.pi * share))


class Annealed(nn.Module):
    """Holds the present value of a schedule, as a tensor that a compiled graph can read.

    Calling it gives the value. It changes only through `advance`, and is not part of a checkpoint: it is a function of the step.
    """

    value: Tensor

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.settled = False
        self.register_buffer("value", torch.tensor(float(schedule(0))), persistent=False)

    def forward(self) -> Tensor:
        """The present value, shape ()."""
        return self.value

    def advance(self, step: int) -> None:
        """Move to `step`, from any other step in either direction."""
        # the value at the end is written once, at whatever step comes first beyond it: a run may resume there
        if step < self.schedule.end or not self.settled:
            self.value.fill_(self.schedule(step))
        self.settled = step >= self.schedule.end


def annealed(value: float | Schedule) -> Annealed:
    """A number or a schedule, as an `Annealed` value."""
    return Annealed(value if isinstance(value, Schedule) else Constant(float(value)))


def advance(root: nn.Module, step: int) -> None:
    """Move every annealed value below `root` to `step`: the one clock."""
    for value in annealed_values(root):
        value.advance(step)


def annealed_values(root: nn.Module) -> list[Annealed]:
    """Every annealed value below `root`, for a loop that need not look for them at each step."""
    return [module for module in root.modules() if isinstance(module, Annealed)]


def last_end(root: nn.Module) -> int:
    """The step at which the last schedule below `root` has reached its final value."""
    return max((value.schedule.end for value in annealed_values(root)), default=0)
