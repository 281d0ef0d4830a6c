"""Metrics of a ranking against scikit-learn and, for their errors, against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc

from vaekit.math.ranking import auroc, average_precision, counted, false_positive_rate, resampled, roc_curve


def both(m: int, n: int, shift: float, grain: float | None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal scores, rounded to whole multiples of a grain so that many of them are tied."""
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=m), draw.normal(size=n) + shift
    return tuple(torch.from_numpy(v if grain is None else np.round(v / grain) * grain) for v in (x, y))  # type: ignore[return-value]


CASES = [(30, 50, 1.0, None), (53, 20, 0.5, 0.5), (40, 40, -0.7, 1.0), (7, 101, 3.0, 2.0), (20, 20, 8.0, None)]


@pytest.mark.parametrize(("m", "n", "shift", "grain"), CASES)
def test_the_numbers_are_those_of_scikit_learn_ties_included(m: int, n: int, shift: float, grain: float | None) -> None:
    x, y = both(m, n, shift, grain)
    label, score = np.r_[np.zeros(m), np.ones(n)], torch.cat([x, y]).numpy()
    assert auroc(x, y)[0] == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    counts = counted(x, y)
    assert average_precision(counts) == pytest.approx(average_precision_score(label, score), abs=1e-12)
    false, true, _ = sklearn_roc(label, score, drop_intermediate=False)
    for recall in (0.5, 0.8, 0.95, 1.0):
        expected = false[np.argmax(true >= recall - 1e-12)]
        assert false_positive_rate(counts, recall) == pytest.approx(expected, abs=1e-12)
    for ours, theirs in zip(roc_curve(x, y), (false, true), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)


def test_the_area_is_the_share_of_pairs_in_order_and_turns_with_the_score() -> None:
    x, y = both(31, 17, 0.6, 0.5)
    pairs = (y[None] > x[:, None]).double() + 0.5 * (y[None] == x[:, None])
    value, error = auroc(x, y)
    assert value == pytest.approx(float(pairs.mean()), abs=1e-12)
    # DeLong's variance, written with all pairs
    expected = math.sqrt(float(pairs.mean(0).var()) / 17 + float(pairs.mean(1).var()) / 31)
    assert error == pytest.approx(expected, rel=1e-12)
    turned, same = auroc(-x, -y)
    assert (turned, same) == (pytest.approx(1 - value), pytest.approx(error))
    assert auroc(x.exp(), y.exp())[0] == pytest.approx(value, abs=1e-12)  # only the order counts


@pytest.mark.parametrize(("shift", "grain"), [(1.0, None), (0.5, 1.0)])
def test_delongs_error_is_the_spread_over_repeated_samples(shift: float, grain: float | None) -> None:
    """600 repetitions give a standard deviation within 2.9 % (one standard error); 4 of them are 12 %."""
    found = np.array([auroc(*both(40, 60, shift, grain, seed)) for seed in range(600)])
    assert math.sqrt(float((found[:, 1] ** 2).mean())) == pytest.approx(float(found[:, 0].std(ddof=1)), rel=0.12)
    truth = 0.5 * (1 + math.erf(shift / 2)) if grain is None else None  # P(y > x) for normal scores, variance 2
    if truth is not None:
        assert abs(found[:, 0].mean() - truth) < 4 * found[:, 0].std() / math.sqrt(600)


def test_the_bootstrap_gives_the_spread_over_repeated_samples() -> None:
    """Within 20 %: a bootstrap from one sample of 300 knows the spread to about 5 %, 200 resamples to another 5 %."""
    fresh = [counted(*both(300, 200, 1.0, 0.25, seed)) for seed in range(1, 301)]
    again = list(resampled(*both(300, 200, 1.0, 0.25), 200, seed=3))
    for number in (average_precision, lambda counts: false_positive_rate(counts, 0.8)):
        assert np.std([number(c) for c in again]) == pytest.approx(np.std([number(c) for c in fresh]), rel=0.25)
    assert {float(counts.positives.sum()) for counts in again} == {200.0}
    assert {float(counts.negatives.sum()) for counts in again} == {300.0}
    repeated = resampled(*both(300, 200, 1.0, 0.25), 200, seed=3)
    assert all(torch.equal(a.positives, b.positives) for a, b in zip(again, repeated, strict=True))


def test_a_score_that_knows_nothing_and_one_that_knows_all() -> None:
    same = torch.zeros(12), torch.zeros(4)
    assert auroc(*same) == (0.5, 0.25)  # no spread to learn the error from: one over the smaller set
    assert average_precision(counted(*same)) == 0.25
    assert false_positive_rate(counted(*same)) == 1.0
    apart = torch.arange(12), torch.arange(4) + 20
    assert auroc(*apart) == (1.0, 0.25)
    assert average_precision(counted(*apart)) == 1.0
    assert false_positive_rate(counted(*apart)) == 0.0
    assert math.isnan(auroc(torch.zeros(1), torch.ones(5))[1])


def test_infinite_scores_are_ordered_and_what_is_no_number_is_refused() -> None:
    inf = float("inf")
    assert auroc(torch.tensor([1.0, inf]), torch.tensor([inf, -inf]))[0] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    with pytest.raises(ValueError, match="not a number"):
        counted(torch.tensor([0.0, math.nan]), torch.zeros(2))
    with pytest.raises(ValueError, match="one or more of each"):
        auroc(torch.zeros(0), torch.zeros(2))


def test_the_recall_of_nineteen_in_twenty_is_reached_by_nineteen() -> None:
    positives = torch.arange(20.0) + 10
    negatives = torch.tensor([10.5, 30.0])  # above one positive, and above all
    assert false_positive_rate(counted(negatives, positives), 0.95) == 0.5
    assert false_positive_rate(counted(negatives, positives), 0.96) == 1.0
