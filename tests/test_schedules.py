"""Schedules meet their endpoints, and the clock gives the right value from wherever it comes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vaekit.schedules import Annealed, Constant, Cosine, Linear, Schedule, advance, annealed, last_end

MOVING = [Linear, Cosine]
VALUES = st.floats(-1e3, 1e3)
STEPS = st.integers(1, 10**7)


@pytest.mark.parametrize("make", MOVING)
@given(start=VALUES, stop=VALUES, steps=STEPS)
def test_endpoints(make: Callable[..., Schedule], start: float, stop: float, steps: int) -> None:
    schedule = make(start=start, stop=stop, steps=steps)
    assert schedule(0) == pytest.approx(start, rel=1e-12, abs=1e-9)
    assert schedule.end == steps
    for step in (steps, steps + 1, 10 * steps, 10**12):
        assert schedule(step) == stop
    assert isinstance(schedule, Schedule)


@pytest.mark.parametrize("make", MOVING)
@given(start=VALUES, stop=VALUES, steps=STEPS, first=st.floats(0, 1), second=st.floats(0, 1))
def test_monotone_and_between_the_endpoints(
    make: Callable[..., Schedule], start: float, stop: float, steps: int, first: float, second: float
) -> None:
    schedule = make(start=start, stop=stop, steps=steps)
    low, high = sorted([first, second])
    early, late = schedule(int(low * steps)), schedule(int(high * steps))
    rounding = 1e-12 * (abs(start) + abs(stop) + 1)
    assert (late - early) * (1 if stop >= start else -1) >= -rounding
    assert min(start, stop) - rounding <= early <= max(start, stop) + rounding


@pytest.mark.parametrize("make", MOVING)
def test_the_last_step_before_the_end_has_not_arrived(make: Callable[..., Schedule]) -> None:
    schedule = make(start=0.0, stop=1.0, steps=10)
    assert schedule(9) < 1.0


def test_values_of_the_formulas() -> None:
    linear = Linear(start=2.0, stop=-2.0, steps=8)
    assert [linear(step) for step in range(10)] == [2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5, -2.0, -2.0]
    cosine = Cosine(start=1.0, stop=0.0, steps=12)
    for step, expected in {0: 1.0, 2: 0.5 + 3**0.5 / 4, 4: 0.75, 6: 0.5, 8: 0.25, 12: 0.0}.items():
        assert cosine(step) == pytest.approx(expected, abs=1e-15)
    assert [Constant(0.3)(step) for step in (0, 1, 10**9)] == [0.3] * 3
    assert Constant(0.3).end == 0


@pytest.mark.parametrize("make", MOVING)
@pytest.mark.parametrize("steps", [0, -1])
def test_an_empty_schedule_is_refused(make: Callable[..., Schedule], steps: int) -> None:
    with pytest.raises(ValueError, match=r"schedules.Constant\(value=") as caught:
        make(start=0.0, stop=1.0, steps=steps)
    assert str(steps) in str(caught.value)


def test_an_annealed_value_is_no_state_and_no_parameter() -> None:
    value = Annealed(Linear(start=0.0, stop=1.0, steps=4))
    assert value.state_dict() == {}
    assert list(value.parameters()) == []
    assert value().shape == ()
    assert (
        value().data_ptr() == (value.advance(3), value())[1].data_ptr()
    )  # one tensor for ever: a compiled graph reads it
    assert copy.deepcopy(value)().item() == 0.75


def test_annealed_takes_numbers_and_schedules() -> None:
    assert annealed(2)().item() == 2.0
    assert annealed(0.25)().item() == 0.25
    schedule = Linear(start=0.0, stop=1.0, steps=4)
    assert annealed(schedule).schedule is schedule


def test_one_clock_moves_all_and_knows_when_all_have_settled() -> None:
    root = nn.ModuleDict({
        "a": Annealed(Linear(start=0.0, stop=1.0, steps=4)),
        "b": nn.Sequential(nn.Linear(2, 2), Annealed(Cosine(start=1.0, stop=0.0, steps=10))),
        "c": Annealed(Constant(5.0)),
    })  # fmt: skip
    values = [m for m in root.modules() if isinstance(m, Annealed)]
    for step in (2, 10, 5, 1000, 0):
        advance(root, step)
        assert [v().item() for v in values] == pytest.approx([m.schedule(step) for m in values])
    assert last_end(root) == 10
    assert last_end(root["a"]) == 4
    assert last_end(nn.Linear(2, 2)) == 0
    assert last_end(root["c"]) == 0


def test_the_value_moves_with_the_precision_of_the_model() -> None:
    value = Annealed(Linear(start=0.1, stop=0.7, steps=3)).to(torch.float64)
    value.advance(3)
    assert value().dtype == torch.float64
    assert math.isclose(value().item(), 0.7, rel_tol=0, abs_tol=0)
