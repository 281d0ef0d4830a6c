"""Values that follow the training step: schedules, the module that holds one, and the one clock that moves them all."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = [
    "Annealed",
    "Constant",
    "Cosine",
    "Cyclical",
    "Exponential",
    "InEpochs",
    "Linear",
    "Piecewise",
    "Schedule",
    "Staircase",
    "advance",
    "annealed",
    "last_end",
]


@runtime_checkable
class Schedule(Protocol):
    """A function from the training step (0, 1, ...) to a value."""

    @property
    def end(self) -> int:
        """The first step from which the value stays as it is."""

    def __call__(self, step: int) -> float:
        """The value at `step`."""


@runtime_checkable
class Continuous(Schedule, Protocol):
    """A schedule that also has values between two steps. All of this file do."""

    def __call__(self, step: float) -> float:
        """The value at `step`."""


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float

    @property
    def end(self) -> int:
        """Constant from the first step."""
        return 0

    def __call__(self, step: float) -> float:
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

    def __call__(self, step: float) -> float:
        """The value at `step`."""
        return self.stop if step >= self.steps else self._at(step / self.steps)

    @abstractmethod
    def _at(self, share: float) -> float:
        """The value after this share of the steps, in [0, 1)."""

    def _mixed(self, done: float) -> float:
        return self.start * (1.0 - done) + self.stop * done


class Linear(_Ramp):
    r"""From `start` to `stop` in a straight line over `steps` steps, and `stop` from there on.

    The usual KL warm-up is ``Linear(start=0.0, stop=1.0, steps=...)``.

    References:
        | Generating Sentences from a Continuous Space (Bowman et al., 2016), section 3.1
        | https://arxiv.org/abs/1511.06349
    """

    def _at(self, share: float) -> float:
        return self._mixed(share)


class Cosine(_Ramp):
    r"""From `start` to `stop` along half a cosine over `steps` steps, and `stop` from there on.

    .. math:: \text{stop} + (\text{start} - \text{stop}) \, \tfrac12 (1 + \cos(\pi t / \text{steps}))

    References:
        | SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov and Hutter, 2017), equation 5
        | https://arxiv.org/abs/1608.03983
    """

    def _at(self, share: float) -> float:
        return self._mixed(0.5 * (1.0 - math.cos(math.pi * share)))


class Exponential(_Ramp):
    r"""From `start` to `stop` by the same factor at every step over `steps` steps, and `stop` from there on.

    .. math:: \text{start} \, (\text{stop} / \text{start})^{t / \text{steps}}

    For what counts in factors rather than differences, such as the temperature of a relaxed categorical:
    :math:`\tau = \max(0.5, \exp(-rt))` is ``Exponential(start=1.0, stop=0.5, steps=round(log(2) / r))``.

    References:
        | Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017), section 4.2
        | https://arxiv.org/abs/1611.01144
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.start > 0.0 and self.stop > 0.0):
            raise ValueError(
                f"An exponential schedule from {self.start} to {self.stop} cannot be: both must be above 0. Give a small "
                "value such as 1e-3 in place of 0, or take schedules.Linear."
            )

    def _at(self, share: float) -> float:
        return self.start * math.pow(self.stop / self.start, share)


@dataclass(frozen=True)
class Cyclical:
    r"""`cycles` times from `start` in a straight line to `stop`, where it stays for the rest of the cycle; `stop` at last.

    .. math:: \beta_t = \text{start} + (\text{stop} - \text{start}) \min(1, \tau_t / R), \qquad
              \tau_t = \frac{t \bmod (T / M)}{T / M}

    for M cycles, a rising part R of each and T steps, counted from 0.

    Arguments:
        start: Value at the beginning of each cycle.
        stop: Value at its end.
        steps: T, of all cycles together.
        cycles: M.
        rising: R, above 0 and at most 1.

    Raises:
        ValueError: If a cycle has no step, or `rising` is out of its range.

    References:
        | Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing (Fu et al., 2019), equations 6 and 7
        | https://arxiv.org/abs/1903.10145
    """

    start: float
    stop: float
    steps: int
    cycles: int = 4
    rising: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.cycles <= self.steps or not 0.0 < self.rising <= 1.0:
            raise ValueError(
                f"steps is {self.steps}, cycles is {self.cycles} and rising is {self.rising}, expected 1 cycle or more, a step or "
                "more for each, and 0 < rising <= 1."
            )

    @property
    def end(self) -> int:
        """When the last cycle has risen."""
        # rounded, so that what is a whole number on paper stays one
        return math.ceil(round((self.cycles - 1 + self.rising) * self.steps / self.cycles, 9))

    def __call__(self, step: float) -> float:
        """The value at `step`."""
        if step >= self.end:
            return self.stop
        risen = min(1.0, step * self.cycles / self.steps % 1.0 / self.rising)
        return self.start * (1.0 - risen) + self.stop * risen


@dataclass(frozen=True)
class _Knots(ABC):
    """Values at given steps."""

    knots: Sequence[tuple[int, float]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", tuple((step, float(value)) for step, value in self.knots))
        steps = [step for step, _ in self.knots]
        if not steps or steps[0] < 0 or any(later <= earlier for earlier, later in pairwise(steps)):
            raise ValueError(
                f"The knots are at steps {steps}, expected one or more that rise from 0 or more, for example "
                "knots=[[0, 0.0], [1000, 1.0]]."
            )

    @property
    def end(self) -> int:
        """Where the last value is reached for good."""
        moving = [later for (_, before), (later, after) in pairwise(self.knots) if before != after]
        return moving[-1] if moving else 0

    @abstractmethod
    def __call__(self, step: float) -> float:
        """The value at `step`."""


class Piecewise(_Knots):
    """Straight lines between knots; the first value before them and the last one after them.

    Arguments:
        knots: (step, value), by rising step.

    Raises:
        ValueError: If there is no knot, or the steps do not rise from 0 or more.
    """

    def __call__(self, step: float) -> float:
        """The value at `step`."""
        for (first, before), (last, after) in pairwise(self.knots):
            if step < last:
                done = max(0.0, (step - first) / (last - first))
                return before * (1.0 - done) + after * done
        return self.knots[-1][1]


class Staircase(_Knots):
    """The value of the last knot that has been reached, and the first value before them.

    Arguments:
        knots: (step, value), by rising step.

    Raises:
        ValueError: If there is no knot, or the steps do not rise from 0 or more.
    """

    def __call__(self, step: float) -> float:
        """The value at `step`."""
        reached = [value for knot, value in self.knots if knot <= step]
        return reached[-1] if reached else self.knots[0][1]


@dataclass(frozen=True)
class InEpochs:
    """A schedule whose steps are epochs; it still moves at every training step.

    In a configuration ``steps_per_epoch: ${steps_per_epoch}`` knows how long an epoch is.

    Arguments:
        schedule: Where it says steps, epochs are meant.
        steps_per_epoch: Training steps in one of them.

    Raises:
        ValueError: If `steps_per_epoch` is below 1.
    """

    schedule: Continuous
    steps_per_epoch: int

    def __post_init__(self) -> None:
        if self.steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch is {self.steps_per_epoch}, expected 1 or more.")

    @property
    def end(self) -> int:
        """In training steps."""
        return self.schedule.end * self.steps_per_epoch

    def __call__(self, step: float) -> float:
        """The value at the training step `step`."""
        return self.schedule(step / self.steps_per_epoch)


class Annealed(nn.Module):
    """Holds the present value of a schedule, as a tensor that a compiled graph can read.

    Calling it gives the value. It changes only through `advance`, and is not part of a checkpoint: it is a function of the step.

    Attributes:
        value: Shape ().
        number: The same as a Python number, for what decides rather than computes: reading it waits for no device.
        decides: Whether `number` has been read, so that what is computed may hang on it.
    """

    value: Tensor

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.settled = self.decides = False
        self._number = float(schedule(0))
        self.register_buffer("value", torch.tensor(self._number), persistent=False)

    @property
    def number(self) -> float:
        """The present value."""
        self.decides = True
        return self._number

    def forward(self) -> Tensor:
        """The present value, shape ()."""
        return self.value

    def advance(self, step: int) -> None:
        """Move to `step`, from any other step in either direction."""
        # the value at the end is written once, at whatever step comes first beyond it: a run may resume there
        if step < self.schedule.end or not self.settled:
            self._number = float(self.schedule(step))
            self.value.fill_(self._number)
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
