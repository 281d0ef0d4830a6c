"""Which settings mattered, for scores whose dependence is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vaekit.comparison import Importance, importance

NAMES = ("kld_weight", "latent_dim", "prior")
GRID = [
    tuple(values)
    for values in itertools.product(("1e-6", "1e-5", "1e-4", "0.001"), ("32", "64", "128"), ("Vamp", "Normal"))
]


def found(scores: list[float]) -> Importance:
    made = importance(NAMES, GRID, scores)
    assert isinstance(made, Importance)
    return made


def test_the_setting_that_the_score_depends_on_is_the_one() -> None:
    made = found([math.log(float(weight)) for weight, _, _ in GRID])
    weight, latent, prior = made.values
    # shuffled, it predicts a score of another run: R^2 of two independent draws is 1 - 2 = -1, so that R^2 falls by about 2
    assert weight == pytest.approx(2.0, abs=0.4)
    assert abs(latent) < 0.05
    assert abs(prior) < 0.05
    assert made.explained > 0.9
    assert made.runs == 24


def test_words_count_as_one_setting() -> None:
    made = found([float(prior == "Vamp") for _, _, prior in GRID])
    assert made.values[2] > 1.0
    assert made.values[2] > 10 * max(abs(value) for value in made.values[:2])


def test_noise_is_not_explained() -> None:
    rng = np.random.default_rng(0)
    assert found(list(rng.normal(size=24))).explained < 0.3


def test_the_unit_of_a_score_does_not_matter_and_the_same_runs_give_the_same() -> None:
    scores = [float(latent) for _, latent, _ in GRID]
    assert found(scores).values == pytest.approx(found([1000 * score + 7 for score in scores]).values)


def test_too_few_runs_and_nothing_to_explain_are_said() -> None:
    few = importance(NAMES, GRID[:9], [1.0, math.nan, *range(7)])
    assert isinstance(importance(NAMES, GRID[:8], list(range(8))), Importance)
    assert isinstance(few, Importance)
    assert importance(NAMES, GRID[:8], [math.nan, *range(7)]) == (
        "Which settings mattered is not asked of 7 runs; it takes 8 or more."
    )
    assert "one setting" in str(importance(NAMES[:1], [row[:1] for row in GRID], list(range(24))))
    assert "same score" in str(importance(NAMES, GRID, [1.0] * 24))


def test_settings_that_change_together_are_one_and_share_nothing() -> None:
    rows = [(weight, f"beta {weight}", latent) for weight, latent, prior in GRID if prior == "Vamp"]
    made = importance(("kld_weight", "beta", "latent_dim"), rows, [math.log(float(weight)) for weight, _, _ in rows])
    assert isinstance(made, Importance)
    assert made.names == ("kld_weight and beta", "latent_dim")
    assert made.values[0] == pytest.approx(2.0, abs=0.5)
    alone = importance(("kld_weight", "beta"), [row[:2] for row in rows], list(range(len(rows))))
    assert "one setting" in str(alone)
