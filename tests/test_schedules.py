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

from vaekit.schedules import (
    Annealed,
    Constant,
    Cosine,
    Cyclical,
    Exponential,
    InEpochs,
    Linear,
    Piecewise,
    Schedule,
    advance,
    annealed,
    last_end,
)

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


def test_a_cyclical_schedule_is_that_of_the_paper() -> None:
    """M = 4 cycles of 10 steps each, of which half rise: 0, .2, .4, .6, .8, then 1 until the cycle is over."""
    schedule = Cyclical(start=0.0, stop=1.0, steps=40)
    cycle = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert [schedule(step) for step in range(40)] == pytest.approx(cycle * 4, abs=1e-12)
    assert [schedule(step) for step in (40, 41, 45, 10**9)] == [1.0] * 4
    assert schedule.end == 35


@given(
    start=VALUES,
    stop=VALUES,
    cycles=st.integers(1, 9),
    length=st.integers(1, 1000),
    rising=st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_cycles_are_alike_and_the_last_one_stays(
    start: float, stop: float, cycles: int, length: int, rising: float
) -> None:
    schedule = Cyclical(start=start, stop=stop, steps=cycles * length, cycles=cycles, rising=rising)
    scale = abs(start) + abs(stop) + 1.0
    for cycle in range(cycles):
        assert schedule(cycle * length) == pytest.approx(start, abs=1e-9 * scale)
        for step in range(0, length, max(1, length // 7)):
            expected = start + (stop - start) * min(1.0, step / length / rising)
            assert schedule(cycle * length + step) == pytest.approx(expected, abs=1e-9 * scale)
    assert schedule(schedule.end) == schedule(cycles * length) == stop
    assert schedule.end <= cycles * length


@given(start=st.floats(1e-6, 1e6), stop=st.floats(1e-6, 1e6), steps=STEPS)
def test_an_exponential_schedule_has_one_factor(start: float, stop: float, steps: int) -> None:
    schedule = Exponential(start=start, stop=stop, steps=steps)
    assert schedule(0) == pytest.approx(start)
    assert schedule(steps) == schedule(10 * steps) == stop
    assert schedule(steps / 2) == pytest.approx((start * stop) ** 0.5)
    assert schedule.end == steps


def test_the_temperature_of_gumbel_softmax() -> None:
    """max(0.5, exp(-r t)) with r = 1e-3."""
    rate = 1e-3
    schedule = Exponential(start=1.0, stop=math.exp(-rate * 693), steps=693)
    for step in (0, 1, 100, 692, 693):
        assert schedule(step) == pytest.approx(math.exp(-rate * step), rel=1e-12)


def test_piecewise_is_straight_between_its_knots() -> None:
    schedule = Piecewise(knots=[(2, 1.0), (4, 3.0), (8, -1.0)])
    assert [schedule(step) for step in range(10)] == [1.0, 1.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0, -1.0, -1.0]
    assert schedule.end == 8
    assert Piecewise(knots=[(5, 0.3)])(0) == Piecewise(knots=[[5, 0.3]])(9) == 0.3
    assert Piecewise(knots=[(5, 0.3)]).end == 0
    assert Piecewise(knots=[(0, 1.0), (4, 2.0), (9, 2.0)]).end == 4


def test_a_schedule_in_epochs_moves_at_every_step() -> None:
    schedule = InEpochs(Linear(start=0.0, stop=1.0, steps=2), steps_per_epoch=4)
    assert [schedule(step) for step in range(10)] == [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.0]
    assert schedule.end == 8
    knots = InEpochs(Piecewise(knots=[(0, 0.0), (1, 1.0)]), steps_per_epoch=10)
    assert [knots(step) for step in (0, 5, 10, 20)] == [0.0, 0.5, 1.0, 1.0]
    assert InEpochs(Cyclical(start=0.0, stop=1.0, steps=4, cycles=2), steps_per_epoch=10)(5) == pytest.approx(0.5)


REFUSED = {
    "a cycle without a step": (lambda: Cyclical(start=0.0, stop=1.0, steps=3, cycles=4), "steps is 3, cycles is 4"),
    "no cycle": (lambda: Cyclical(start=0.0, stop=1.0, steps=3, cycles=0), "cycles is 0"),
    "no rise": (lambda: Cyclical(start=0.0, stop=1.0, steps=30, rising=0.0), "rising is 0.0"),
    "more than a cycle of rise": (lambda: Cyclical(start=0.0, stop=1.0, steps=30, rising=1.5), "rising is 1.5"),
    "a factor from 0": (lambda: Exponential(start=0.0, stop=1.0, steps=3), "schedules.Linear"),
    "a factor to below 0": (lambda: Exponential(start=1.0, stop=-1.0, steps=3), "1e-3"),
    "no steps": (lambda: Exponential(start=1.0, stop=2.0, steps=0), "schedules.Constant"),
    "no knots": (lambda: Piecewise(knots=[]), "knots="),
    "knots that fall": (lambda: Piecewise(knots=[(3, 0.0), (3, 1.0)]), r"\[3, 3\]"),
    "a knot before the start": (lambda: Piecewise(knots=[(-1, 0.0)]), r"\[-1\]"),
    "no epochs": (lambda: InEpochs(Linear(start=0.0, stop=1.0, steps=2), steps_per_epoch=0), "steps_per_epoch is 0"),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_a_schedule_is_refused(make: Callable[[], Schedule], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


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
