"""The learning rate moves as its schedule or the validation loss says, and a resumed run moves it alike, bit for bit."""

from __future__ import annotations

import json
import math
import os
import signal
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from vaekit.compose import choices, compose, resolve
from vaekit.errors import ConfigError
from vaekit.recipe import build_pace
from vaekit.schedules import Constant, Cosine, Linear, Staircase
from vaekit.training import Plateau, Player
from vaekit.training.rate import Along, Pace, unmoved

LOSSES = st.lists(st.floats(-3.0, 3.0).map(lambda loss: round(loss, 2)), max_size=40)


def player(lr: float, pace: Pace | None = None, kind: Any = torch.optim.SGD) -> Player:
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    return Player("model", parameters, kind(parameters, lr=lr), pace=unmoved() if pace is None else pace)


@given(
    losses=LOSSES,
    factor=st.sampled_from([0.1, 0.5]),
    patience=st.integers(0, 4),
    threshold=st.sampled_from([0.0, 0.015, 0.5]),
    min_lr=st.sampled_from([0.0, 1e-3, 0.5]),
)
def test_a_plateau_is_that_of_torch(
    losses: list[float], factor: float, patience: int, threshold: float, min_lr: float
) -> None:
    """With its threshold as an absolute number."""
    (parameter,) = player(0.1).parameters
    theirs = torch.optim.SGD([parameter], lr=0.1)
    scheduler = ReduceLROnPlateau(theirs, "min", factor, patience, threshold, "abs", min_lr=min(0.1, min_lr), eps=0.0)
    ours = Plateau(factor, patience, threshold, min_lr)
    for loss in losses:
        scheduler.step(loss)
        ours.observe(loss)
        assert ours.rate(0.1, 0) == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)


@given(losses=LOSSES, cut=st.integers(0, 40))
def test_a_plateau_goes_on_from_its_state(losses: list[float], cut: int) -> None:
    whole, first, second = Plateau(0.5, 1), Plateau(0.5, 1), Plateau(0.5, 1)
    for loss in losses:
        whole.observe(loss)
    for loss in losses[:cut]:
        first.observe(loss)
    second.load(json.loads(json.dumps(first.state())))
    for loss in losses[cut:]:
        second.observe(loss)
    assert second.state() == whole.state()
    assert second.rate(0.3, 5) == whole.rate(0.3, 5)


def test_a_loss_below_zero_is_no_gain_when_it_rises() -> None:
    """best * (1 - threshold), as a relative threshold has it, would lie above a negative best."""
    pace = Plateau(0.1, patience=0, threshold=0.0)
    for loss in (-100.0, -99.999):
        pace.observe(loss)
    assert pace.rate(1.0, 0) == pytest.approx(0.1)


def test_the_rate_stays_above_its_floor_and_is_not_lifted_to_it() -> None:
    pace = Plateau(0.1, patience=0, min_lr=0.05)
    for _ in range(9):
        pace.observe(0.0)
    assert pace.rate(1.0, 0) == 0.05
    assert pace.rate(0.01, 0) == 0.01


BAD = {"factor": (0.0, 1.0, -1.0, math.nan), "patience": (-1,), "threshold": (-0.1,), "min_lr": (-1e-9,)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_values_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Plateau(**{name: value})


def test_a_schedule_multiplies_the_rate_of_every_group() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    groups = [{"params": [parameters[0]], "lr": 0.5}, {"params": [parameters[1]], "lr": 0.25}]
    moved = Player("model", parameters, torch.optim.SGD(groups), pace=Along(Linear(1.0, 0.0, 4)))
    for step, factor in enumerate((1.0, 0.75, 0.5, 0.25, 0.0, 0.0)):
        moved.advance(step)
        assert [group["lr"] for group in moved.optimizer.param_groups] == [0.5 * factor, 0.25 * factor]
        assert type(moved.lr) is float  # a tensor would make a fused step wait
    moved.advance(1)
    assert moved.lr == 0.375


def test_a_loaded_optimizer_still_starts_from_the_rate_of_the_configuration() -> None:
    trained, fresh = (player(0.1, Along(Cosine(1.0, 0.0, 10))) for _ in range(2))
    trained.advance(9)
    fresh.optimizer.load_state_dict(trained.optimizer.state_dict())
    fresh.advance(3)
    assert fresh.lr == 0.1 * Cosine(1.0, 0.0, 10)(3)


def test_a_rate_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"from 1\.0 to -0\.5 times optimizer\.lr"):
        Along(Linear(1.0, -0.5, 4))


@pytest.mark.parametrize(
    ("schedule", "moves"), [(Constant(1.0), False), (Constant(0.5), True), (Cosine(1.0, 0.0, 3), True)]
)
def test_only_a_rate_that_is_another_moves(schedule: Any, moves: bool) -> None:
    assert Along(schedule).moves is moves


def paced(*overrides: str, examples: int = 1000) -> Pace:
    return build_pace(resolve(compose(list(overrides)), (64,), examples=examples))


@pytest.mark.parametrize("name", choices("schedule"))
def test_every_schedule_starts_with_the_rate_of_the_configuration(name: str) -> None:
    pace = paced(f"schedule={name}")
    assert pace.rate(0.3, 0) == 0.3
    assert pace.moves is (name != "constant")


@pytest.mark.parametrize(("name", "last"), [("cosine", 0.0), ("exponential", 0.01), ("steps", 0.01)])
def test_schedules_end_with_the_training(name: str, last: float) -> None:
    pace = paced(f"schedule={name}", "training.batch_size=100", "training.epochs=30")
    assert pace.end <= 300
    assert pace.rate(1.0, 300) == pytest.approx(last)
    assert pace.rate(1.0, 150) > last


def test_the_schedule_of_the_importance_weighted_autoencoder() -> None:
    """3^i passes at 10^(-i/7) times the rate, i = 0..7."""
    pace = paced("schedule=iwae", "training.batch_size=100", "training.epochs=3280")
    wanted = [10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert len(wanted) == 3280
    rates = [pace.rate(1.0, 10 * epoch + within) for epoch in range(3280) for within in (0, 9)]
    assert rates == pytest.approx([rate for rate in wanted for _ in range(2)], abs=1e-6)


def test_a_staircase_stands_between_its_knots() -> None:
    stairs = Staircase([(2, 1.0), (5, 0.5)])
    assert [stairs(step) for step in (0, 2, 4, 4.9, 5, 9)] == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


MISTAKES = {
    "schedule=cosin": "there is no schedule 'cosin'; closest: cosine",
    "schedule.patience=3": "has no argument 'patience'",
    "schedule.value=fast": "schedule.value is 'fast', expected a finite number",
}


@pytest.mark.parametrize(("override", "said"), MISTAKES.items(), ids=MISTAKES.keys())
def test_mistakes(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        paced(override)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


NODES: dict[str, tuple[Any, str]] = {
    "another part": ({"kind": "priors.StandardNormal", "event_shape": [3]}, "does not say how a learning rate moves"),
    "no part": (0.1, "schedule is 0.1, which does not say how"),
    "below 0": (
        {"kind": "schedules.Linear", "start": 1.0, "stop": -1.0, "steps": 5},
        "schedule: The learning rate goes from 1.0 to -1.0",
    ),
}


@pytest.mark.parametrize(("node", "said"), NODES.values(), ids=NODES.keys())
def test_nodes_that_are_no_schedule(node: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_pace({"schedule": node})


def test_a_configuration_from_before_rates_moved_has_a_constant_one() -> None:
    assert not build_pace({}).moves


def test_a_schedule_that_ends_after_the_training_is_refused(train: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"A schedule reaches its final value at step 108, but the training ends at step 12"
    ):
        train("late", "schedule=steps")


# steps of 4, epochs of 3; with a threshold that no epoch exceeds, each epoch but the first is without an improvement
PLATEAU = ("schedule=plateau", "schedule.patience=0", "schedule.threshold=1e6", "schedule.factor=0.5", "beta=1")
MOVING = {
    "plateau": (PLATEAU, [1e-3, 1e-3, 5e-4]),
    "cosine": (("schedule=cosine",), [1e-3 * 0.5 * (1 + math.cos(math.pi * step / 12)) for step in (3, 7, 11)]),
    "stairs": (
        ("schedule=steps", "schedule.schedule.knots=[[0,1.0],[1,0.5],[2,0.1]]"),
        [1e-3, 5e-4, 1e-4],
    ),
}


@pytest.mark.parametrize(("overrides", "rates"), MOVING.values(), ids=MOVING.keys())
def test_the_rate_is_logged_where_it_moves(overrides: tuple[str, ...], rates: list[float], train: Any) -> None:
    rows = [json.loads(line) for line in (train("moving", *overrides) / "metrics.jsonl").read_text().splitlines()]
    assert [row["train/lr"] for row in rows] == pytest.approx(rates, rel=1e-12)


def test_a_constant_rate_is_not_logged(train: Any) -> None:
    assert "train/lr" not in (train("still") / "metrics.jsonl").read_text()


@pytest.mark.parametrize("overrides", [words for words, _ in MOVING.values()], ids=MOVING.keys())
def test_stopped_at_every_epoch_and_within(
    overrides: tuple[str, ...], train: Any, resume: Any, results: Any, after_step: Any
) -> None:
    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    whole = train("whole", *overrides)
    path = train("stopped", *overrides, callback=after_step(4, stop))
    for step in (6, 8, 12):
        assert not resume(path, after_step(step, stop))
    assert resume(path)
    assert results(path) == results(whole)


def test_the_rate_that_is_logged_is_the_one_that_is_used(train: Any) -> None:
    still, moved = (
        [json.loads(line)["train/loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (train("still", "beta=1"), train("moved", *PLATEAU))
    )
    assert still[:2] == moved[:2]
    assert still[2] != moved[2]


def test_checkpoints_from_before_rates_moved_still_load(train: Any, resume: Any, results: Any, after_step: Any) -> None:
    """A checkpoint without the state of a pace is one of a constant rate."""
    from vaekit.training.checkpoint import latest, save

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    path = train("old", callback=after_step(4, stop))
    checkpoint = latest(path / "checkpoints", print)
    assert checkpoint is not None
    assert checkpoint.state.pop("paces") == {"model": {}}
    save(path / "checkpoints", checkpoint)
    assert resume(path)
    assert results(path) == results(train("whole"))


def test_while_a_schedule_of_the_objective_moves_no_plateau_is_counted(train: Any) -> None:
    """The warm-up of the tiny run ends at step 9, within the third epoch: its loss is another quantity until then."""
    path = train("warm", *PLATEAU[:-1])
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [row["train/lr"] for row in rows] == [1e-3] * 3
