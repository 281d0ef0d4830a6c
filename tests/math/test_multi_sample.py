"""The bounds between and beside ELBO and importance weighting: what each is by hand, and the ends at which it becomes another."""

# S draws, M groups of K, B batch

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from vaekit.math.importance import importance_bound
from vaekit.math.multi_sample import combined_bound, grouped_bound, renyi_bound

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(("groups", "draws"), [(1, 6), (2, 3), (5, 50), (50, 5), (3, 1)])
def test_a_grouped_bound_is_the_mean_over_groups_of_logs_of_means_within(groups: int, draws: int) -> None:
    """Written out with loops: M and K exchanged is another number."""
    log_w = 3.0 * torch.randn(groups * draws, 4)
    w = np.exp(log_w.numpy())
    by_hand = [np.mean([np.log(np.mean(w[m * draws : (m + 1) * draws, b])) for m in range(groups)]) for b in range(4)]
    np.testing.assert_allclose(grouped_bound(log_w, groups).numpy(), by_hand, rtol=1e-12)
    if groups != draws and 1 < groups < groups * draws:
        assert not np.allclose(grouped_bound(log_w, draws).numpy(), by_hand, rtol=1e-3)


def test_one_group_is_importance_weighting_and_groups_of_one_the_elbo() -> None:
    log_w = torch.randn(12, 5)
    torch.testing.assert_close(grouped_bound(log_w, 1), importance_bound(log_w), rtol=1e-14, atol=0)
    torch.testing.assert_close(grouped_bound(log_w, 12), log_w.mean(0), rtol=1e-12, atol=1e-14)


def test_more_draws_in_a_group_give_a_higher_bound() -> None:
    """For every example, by Jensen's inequality: groups of one size unite to groups of twice the size."""
    bounds = [
        grouped_bound(2.0 * torch.randn(16, 200, generator=torch.Generator().manual_seed(3)), M)
        for M in (16, 8, 4, 2, 1)
    ]
    for fewer, more in pairwise(bounds):
        assert (more >= fewer).all()


@pytest.mark.parametrize("groups", [0, 5, 13])
def test_draws_that_do_not_fall_into_groups_are_refused(groups: int) -> None:
    with pytest.raises(ValueError, match=r"12 draws do not fall into .* write training\.samples=K x"):
        grouped_bound(torch.randn(12, 2), groups)


def test_a_combined_bound_mixes_the_numbers_of_its_two_ends() -> None:
    log_w = 2.0 * torch.randn(7, 3)
    torch.testing.assert_close(combined_bound(log_w, 0.0), importance_bound(log_w), rtol=1e-14, atol=0)
    torch.testing.assert_close(combined_bound(log_w, 1.0), log_w.mean(0), rtol=1e-14, atol=0)
    expected = 0.3 * log_w.mean(0) + 0.7 * log_w.exp().mean(0).log()
    torch.testing.assert_close(combined_bound(log_w, 0.3), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [-3.0, -0.5, 0.0, 0.3, 0.99, 1.01, 2.5])
def test_a_renyi_bound_by_hand(alpha: float) -> None:
    log_w = torch.tensor([-1.0, 0.3, 2.0, -0.5])
    expected = np.log(np.mean(np.exp(log_w.numpy()) ** (1.0 - alpha))) / (1.0 - alpha)
    assert renyi_bound(log_w, alpha).item() == pytest.approx(expected, rel=1e-10)


def test_a_renyi_bound_at_0_is_importance_weighting_and_at_1_the_elbo() -> None:
    log_w = 5.0 * torch.randn(9, 4)
    torch.testing.assert_close(renyi_bound(log_w, 0.0), importance_bound(log_w), rtol=1e-14, atol=0)
    assert torch.equal(renyi_bound(log_w, 1.0), log_w.mean(0))


@pytest.mark.parametrize("distance", [1e-12, 1e-8, 9.9e-4, 1.01e-3, -9.9e-4, -1e-9])
def test_the_limit_of_1_is_met_as_its_series_says(distance: float) -> None:
    """mean + (1 - alpha) variance / 2 + O((1 - alpha)^2), where a difference of logarithms would have lost its digits."""
    log_w = torch.randn(50)
    expected = log_w.mean() + 0.5 * distance * log_w.var(correction=0)
    value = renyi_bound(log_w, 1.0 - distance)
    assert (value - expected).abs() < 2.0 * distance**2 + 1e-13


def test_a_renyi_bound_falls_with_alpha_from_the_largest_weight_to_the_smallest() -> None:
    log_w = 3.0 * torch.randn(8, 100)
    alphas = (-1e4, -5.0, -1.0, 0.0, 0.5, 0.9995, 1.0, 1.0005, 2.0, 7.0, 1e4)
    bounds = [renyi_bound(log_w, alpha) for alpha in alphas]
    for higher, lower in pairwise(bounds):
        assert (higher > lower).all()
    torch.testing.assert_close(bounds[0], log_w.max(0).values, rtol=0, atol=np.log(8) / 9e3)
    torch.testing.assert_close(bounds[-1], log_w.min(0).values, rtol=0, atol=np.log(8) / 9e3)


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 0.5, 0.9999, 1.0, 3.0])
def test_the_gradient_of_a_renyi_bound_are_the_weights_to_the_power(alpha: float) -> None:
    log_w = torch.randn(5, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(renyi_bound(log_w, alpha).sum(), log_w)
    torch.testing.assert_close(gradient, ((1.0 - alpha) * log_w.detach()).softmax(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [-1.0, 0.5, 1.0, 2.0])
def test_weights_that_a_float_cannot_hold(alpha: float) -> None:
    log_w = torch.tensor([[-1e5], [-1e5 + 1.0]])
    near = renyi_bound(log_w + 1e5, alpha) - 1e5
    torch.testing.assert_close(renyi_bound(log_w, alpha), near, rtol=0, atol=1e-9)
