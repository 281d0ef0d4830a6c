"""What is true of every schedule, and of the value that follows it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaekit.schedules import Annealed, Schedule

STEPS = st.one_of(st.integers(0, 12), st.integers(990, 1010), st.integers(0, 10**6))


def test_it_is_a_function_of_the_step_with_an_end(schedule: Any) -> None:
    made = schedule()
    assert isinstance(made, Schedule)
    assert isinstance(made.end, int)
    assert made.end >= 0
    assert all(math.isfinite(made(step)) for step in range(made.end + 2))
    assert made == schedule()


def test_the_value_stays_from_the_end_on_and_not_before(schedule: Any) -> None:
    made = schedule()
    assert {made(step) for step in (made.end, made.end + 1, 2 * made.end + 3, 10**12)} == {made(made.end)}
    if made.end:
        assert made(made.end - 1) != made(made.end)


@given(steps=st.lists(STEPS, min_size=1, max_size=8))
def test_advance_gives_the_value_of_the_step_whatever_came_before(schedule: Any, steps: list[int]) -> None:
    """Forwards, backwards, past the end and back."""
    made = schedule()
    value = Annealed(made).double()
    assert value().item() == pytest.approx(made(0), rel=1e-7)
    for step in steps:
        value.advance(step)
        assert value().item() == made(step), f"at step {step} of {steps}"


@pytest.mark.parametrize("step", [0, 3, 500, 999, 1000, 1001, 10**6])
def test_resuming_without_having_seen_earlier_steps(schedule: Any, step: int) -> None:
    uninterrupted, resumed = Annealed(schedule()), Annealed(schedule())
    for earlier in range(min(step, 1100) + 1):
        uninterrupted.advance(earlier)
    uninterrupted.advance(step)
    resumed.advance(step)
    assert resumed().item() == uninterrupted().item() == pytest.approx(schedule()(step), rel=1e-6)
