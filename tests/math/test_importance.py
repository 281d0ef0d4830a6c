"""The importance-weighted bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaekit.math.importance import importance_bound

pytestmark = pytest.mark.usefixtures("float64")


@given(values=st.lists(st.floats(-50, 50), min_size=1, max_size=9))
def test_it_is_the_log_of_the_mean_weight(values: list[float]) -> None:
    log_w = torch.tensor(values)
    torch.testing.assert_close(importance_bound(log_w), log_w.exp().mean().log(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("samples", [1, 2, 100])
def test_equal_weights_give_themselves(samples: int) -> None:
    log_w = torch.randn(4).expand(samples, 4) * 1e3
    torch.testing.assert_close(importance_bound(log_w), log_w[0], rtol=1e-14, atol=1e-12)


def test_weights_that_a_float_cannot_hold() -> None:
    log_w = torch.tensor([[-1e4, -1e4 + 1.0], [-1e4, -2e4]])
    expected = torch.tensor([-1e4, -1e4 + 1.0 - 0.6931471805599453])
    torch.testing.assert_close(importance_bound(log_w), expected, rtol=0, atol=1e-11)


def test_it_lies_between_the_mean_and_the_largest_and_ignores_order() -> None:
    log_w = 5.0 * torch.randn(7, 100)
    bound = importance_bound(log_w)
    assert (bound >= log_w.mean(0)).all()
    assert (bound <= log_w.max(0).values).all()
    torch.testing.assert_close(importance_bound(log_w[torch.randperm(7)]), bound)


def test_its_gradient_is_the_normalised_weights() -> None:
    """What the wrong estimators of other libraries get wrong: sign, axis and log K."""
    log_w = torch.randn(5, 3, requires_grad=True)
    importance_bound(log_w).sum().backward()
    torch.testing.assert_close(log_w.grad, log_w.detach().exp() / log_w.detach().exp().sum(0))
