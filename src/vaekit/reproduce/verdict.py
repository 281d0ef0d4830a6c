"""When a number agrees with a published one, and when a claim holds: rules, and nothing but rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

# a claim is decided where the threshold lies this many standard errors away: either wrong answer then has a probability of 0.5 %
CERTAIN = 2.576
# a number differs from a published one when it is beyond the tolerance by this many standard errors: 2.5 %
BEYOND = 1.96


class Verdict(StrEnum):
    """What came out."""

    AGREES = "agrees"
    DIFFERS = "differs"
    HOLDS = "claim holds"
    FAILS = "claim does not hold"
    EARLY = "too early to say"
    NONE = "no claim"


@dataclass(frozen=True)
class Near:
    """A number agrees with a published one within a tolerance.

    The tolerance is the spread between independent reproductions, or between two trainings where none are known; the standard
    error of ours, where it counts, is added to it before a number is said to differ.

    Attributes:
        target: The published number.
        tolerance: On either side.
        same_examples: Whether ours was measured on the very examples that the published number was. Then both have the same
            error over examples, which is not counted.
    """

    target: float
    tolerance: float
    same_examples: bool = False

    def judge(self, value: float, error: float) -> Verdict:
        """Agrees within the tolerance, differs beyond tolerance and error, and between the two it is too early to say."""
        if math.isnan(value):
            return Verdict.EARLY
        distance, spread = abs(value - self.target), 0.0 if self.same_examples else BEYOND * error
        if distance <= self.tolerance:
            return Verdict.AGREES
        return Verdict.DIFFERS if distance > self.tolerance + spread else Verdict.EARLY

    @property
    def words(self) -> str:
        """The rule."""
        return f"agrees within {self.tolerance:g}" + (
            "" if self.same_examples else ", differs beyond that and 1.96 s.e."
        )


@dataclass(frozen=True)
class Above:
    """A claim that a number is above a threshold.

    Attributes:
        threshold: For a difference of two trainings at least what another seed may move it by.
    """

    threshold: float = 0.0

    def judge(self, value: float, error: float) -> Verdict:
        """Holds or fails where the threshold is 2.576 standard errors away, and otherwise it is too early to say."""
        if math.isnan(value) or math.isnan(error):
            return Verdict.EARLY
        if value - CERTAIN * error > self.threshold:
            return Verdict.HOLDS
        return Verdict.FAILS if value + CERTAIN * error < self.threshold else Verdict.EARLY

    @property
    def words(self) -> str:
        """The rule."""
        return f"holds above {self.threshold:g} by 2.58 s.e."


@dataclass(frozen=True)
class Within:
    """A claim that a number is 0 within a tolerance: for what is known exactly, and measured with an error of half of that at most.

    Attributes:
        tolerance: On either side.
    """

    tolerance: float

    def judge(self, value: float, error: float) -> Verdict:
        """Holds for a number that is that small and known well enough; fails where it is larger by 2.576 standard errors."""
        if abs(value) <= self.tolerance and error <= self.tolerance / 2:
            return Verdict.HOLDS
        return Verdict.FAILS if abs(value) - CERTAIN * error > self.tolerance else Verdict.EARLY

    @property
    def words(self) -> str:
        """The rule."""
        return f"holds within {self.tolerance:g} of 0, at an error of half of that or less"


@dataclass(frozen=True)
class Shown:
    """No claim: a number that a reader of the others should see."""

    def judge(self, value: float, error: float) -> Verdict:
        """No verdict."""
        return Verdict.NONE

    @property
    def words(self) -> str:
        """The rule."""
        return "shown for comparison"


Rule = Near | Above | Within | Shown
