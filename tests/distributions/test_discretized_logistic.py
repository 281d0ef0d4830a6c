"""The rounded logistic variable, and the categorical one over levels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import logistic

from vaekit.distributions.discretized_logistic import DiscretizedLogistic
from vaekit.distributions.draw import reparameterised
from vaekit.distributions.levels import LevelsCategorical

pytestmark = pytest.mark.usefixtures("float64")

# down to a 25,000th of a level of 8-bit images, and up to where all levels are alike
SCALES = st.sampled_from([1e-7, 1e-4, 1e-3, 0.01, 0.1, 1.0, 1e3, 1e8])


def q(loc: float, scale: float, levels: int, dtype: torch.dtype = torch.float64) -> DiscretizedLogistic:
    return DiscretizedLogistic(torch.tensor(loc, dtype=dtype), torch.tensor(scale, dtype=dtype), levels)


def values(levels: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.arange(levels).to(dtype) / (levels - 1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@given(loc=st.floats(-3, 4, width=32), scale=SCALES, levels=st.sampled_from([2, 3, 17, 256]))
def test_probabilities_sum_to_one(dtype: torch.dtype, tolerance: float, loc: float, scale: float, levels: int) -> None:
    """In single precision up to what a rounded edge between two levels is worth: it moves mass from one to the other."""
    if dtype == torch.float32 and scale < 1e-3:
        return
    total = q(loc, scale, levels, dtype).log_prob(values(levels, dtype)).double().exp().sum().item()
    assert abs(total - 1) < 10 * tolerance


def test_each_level_has_its_interval_and_the_ends_the_tails() -> None:
    edges = [-math.inf, *((k + 0.5) / 7 for k in range(7)), math.inf]
    cdf = logistic.cdf(edges, loc=0.31, scale=0.2)
    expected = torch.from_numpy(cdf[1:] - cdf[:-1]).log()
    torch.testing.assert_close(q(0.31, 0.2, 8).log_prob(values(8)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_far_out_the_gradient_still_points_home(dtype: torch.dtype) -> None:
    """Where the difference of two sigmoids is 0 in floating point: the log-probability is a straight line of slope 1/s."""
    for x, sign in [(0.25, -1.0), (0.0, -1.0), (1.0, 1.0), (0.75, 1.0)]:
        loc = torch.tensor(0.5 - sign * 40.0, dtype=dtype, requires_grad=True)
        scale = torch.tensor(0.01, dtype=dtype, requires_grad=True)
        log_prob = DiscretizedLogistic(loc, scale, 5).log_prob(torch.tensor(x, dtype=dtype))
        log_prob.backward()
        assert log_prob.isfinite()
        assert loc.grad.item() == pytest.approx(sign * 100.0, rel=1e-5)
        assert scale.grad.item() > 0  # wider is better


def test_mean_and_variance_are_of_the_rounded_variable() -> None:
    for loc, scale in [(0.5, 0.01), (0.02, 0.1), (1.3, 0.2), (-50.0, 0.1), (0.499, 1e-5)]:
        mass, x = q(loc, scale, 256).log_prob(values(256)).exp(), values(256)
        mean = (mass * x).sum()
        torch.testing.assert_close(q(loc, scale, 256).mean, mean, rtol=1e-10, atol=1e-10)
        variance = (mass * (x - mean) ** 2).sum()
        torch.testing.assert_close(q(loc, scale, 256).variance, variance, rtol=1e-8, atol=1e-10)
    assert q(0.5004, 1e-7, 256).mean.item() == pytest.approx(128 / 255, abs=1e-12)


def test_draws_are_levels_to_the_last_bit() -> None:
    for dtype in (torch.float32, torch.float64):
        loc = torch.randn(1, 5000, dtype=dtype)
        for drawn in (
            reparameterised(DiscretizedLogistic(loc, torch.tensor(0.5, dtype=dtype), 256)),
            reparameterised(LevelsCategorical(torch.zeros(1, 5000, 256, dtype=dtype))),
        ):
            assert drawn.dtype == dtype
            assert torch.isin(drawn, values(256, dtype)).all()
            assert {0.0, 1.0} <= set(drawn.flatten().tolist())


def test_one_scale_serves_all_locations() -> None:
    loc, x = torch.randn(2, 3, 4), values(4)
    shared = DiscretizedLogistic(loc, torch.tensor(0.3), 4)
    assert shared.batch_shape == (2, 3, 4)
    whole = DiscretizedLogistic(loc, torch.full_like(loc, 0.3), 4)
    torch.testing.assert_close(shared.log_prob(x), whole.log_prob(x), rtol=1e-14, atol=1e-14)
    assert shared.sample((5,)).shape == (5, 2, 3, 4)
    assert shared.expand((6, 2, 3, 4)).log_prob(x).shape == (6, 2, 3, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_every_level_is_found_again_from_its_value(levels: int, dtype: torch.dtype) -> None:
    """k / (M - 1) in either precision, divided or multiplied, is level k, and not its neighbour by truncation."""
    logits = torch.randn(levels, dtype=dtype)
    for x in (
        values(levels, dtype),
        torch.arange(levels).to(dtype) * (1.0 / (levels - 1)),
        values(levels, dtype) - 1e-6,
    ):
        actual = LevelsCategorical(logits).log_prob(x)
        torch.testing.assert_close(actual, logits.log_softmax(0), rtol=1e-5, atol=1e-5)


def test_the_mean_of_a_categorical_is_that_of_its_values() -> None:
    logits = torch.tensor([0.2, 0.3, 0.5]).log()
    assert LevelsCategorical(logits).mean.item() == pytest.approx(0.3 * 0.5 + 0.5, rel=1e-12)
    assert LevelsCategorical(logits).variance.item() == pytest.approx(0.3 * 0.25 + 0.5 - 0.65**2, rel=1e-12)
