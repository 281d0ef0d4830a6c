"""What is said of a number, case by case."""

from __future__ import annotations

import math

import pytest
import torch

from vaekit.evaluation.units import Estimate
from vaekit.reproduce.protocol import Check, Quantity, difference
from vaekit.reproduce.verdict import Above, Near, Rule, Shown, Verdict, Within

A, D, H, F, E = Verdict.AGREES, Verdict.DIFFERS, Verdict.HOLDS, Verdict.FAILS, Verdict.EARLY
NAN = math.nan

TABLE: list[tuple[Rule, float, float, Verdict]] = [
    (Near(84.78, 0.4), 84.78, 0.1, A),
    (Near(84.78, 0.4), 85.17, 0.1, A),
    (Near(84.78, 0.4), 84.39, 9.9, A),
    (Near(84.78, 0.4), 85.30, 0.1, E),
    (Near(84.78, 0.4), 84.20, 0.1, E),
    (Near(84.78, 0.4), 85.40, 0.1, D),
    (Near(84.78, 0.4), 84.10, 0.1, D),
    (Near(84.78, 0.4, same_examples=True), 85.19, 9.9, D),
    (Near(84.78, 0.4, same_examples=True), 85.17, NAN, A),
    (Near(25, 2), 27, 0.0, A),
    (Near(25, 2), 28, 0.0, D),
    (Near(25, 2), NAN, 0.0, E),
    (Above(0.5), 1.0, 0.1, H),
    (Above(0.5), 0.7, 0.1, E),
    (Above(0.5), 0.3, 0.1, E),
    (Above(0.5), 0.2, 0.1, F),
    (Above(0.5), 0.5, 0.0, E),
    (Above(0.0), 1e-9, 0.0, H),
    (Above(-1.0), -0.2, 0.1, H),
    (Above(0.0), NAN, 0.1, E),
    (Above(0.0), 5.0, NAN, E),
    (Within(0.01), 0.0099, 0.005, H),
    (Within(0.01), -0.0099, 0.0, H),
    (Within(0.01), 0.0, 0.0051, E),
    (Within(0.01), 0.02, 0.005, E),
    (Within(0.01), 0.02, 0.003, F),
    (Within(0.01), -0.02, 0.0, F),
    (Within(0.01), 0.005, NAN, E),
    (Within(0.01), NAN, 0.0, E),
    (Shown(), 3.0, 0.1, Verdict.NONE),
]


@pytest.mark.parametrize(("rule", "value", "error", "verdict"), TABLE)
def test_the_verdict(rule: Rule, value: float, error: float, verdict: Verdict) -> None:
    assert rule.judge(value, error) is verdict
    assert rule.words


def test_a_claim_is_wrong_once_in_two_hundred() -> None:
    """At the threshold itself either answer comes with a probability of 0.5 %: 200,000 draws, 6 standard errors of a share."""
    draws = torch.randn(200_000, generator=torch.Generator().manual_seed(0)).tolist()
    said = [Above(0.0).judge(draw, 1.0) for draw in draws]
    for verdict in (H, F):
        assert abs(said.count(verdict) / 200_000 - 0.005) < 6 * (0.005 / 200_000) ** 0.5


def quantity(values: list[float], words: str = "how") -> Quantity:
    x = torch.tensor(values, dtype=torch.float64)
    return Quantity(Estimate(float(x.mean()), float(x.std()) / len(x) ** 0.5, "nats", len(x), words), x)


def test_a_difference_over_the_same_examples_has_the_error_of_differences() -> None:
    found = difference(quantity([101.0, 201.0, 301.5]), quantity([100.0, 200.0, 300.0]))
    assert found.value == pytest.approx(3.5 / 3)
    assert found.standard_error == pytest.approx(0.5 / 3**0.5 / 3**0.5)
    assert found.estimator == "mean of the differences of the examples"


def test_a_difference_of_other_examples_adds_errors() -> None:
    a, b = quantity([1.0, 2.0, 3.0], "one"), quantity([0.0, 4.0], "two")
    for first, second in ((a, b), (Quantity(a.estimate), Quantity(b.estimate))):
        found = difference(first, second)
        assert found.value == pytest.approx(0.0)
        assert found.standard_error == pytest.approx(math.hypot(1 / 3**0.5, 2.0))
        assert found.estimator == "difference of independent numbers"


def test_a_row_has_ours_beside_what_is_published() -> None:
    measured = {"a": quantity([3.0, 4.0]), "b": quantity([1.0, 2.0])}
    row = Check("gain", "a", Above(1.0), less="b", published=2.5, source="somewhere").row(measured)
    assert (row.ours.value, row.ours.standard_error, row.published, row.verdict) == (2.0, 0.0, 2.5, H)
    assert row.estimators == ("how", "how")
    alone = Check("it", "a", Near(3.4, 0.2)).row(measured)
    assert (alone.ours.value, alone.verdict) == (3.5, A)
