"""The Bernoulli likelihood."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_expit

from vaekit.likelihoods import Bernoulli


def exact(logit: float, x: float) -> float:
    return float(x * log_expit(logit) + (1.0 - x) * log_expit(-logit))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@given(logit=st.floats(-80, 80, width=32), x=st.sampled_from([0.0, 1.0]))
def test_the_error_is_that_of_rounding_a_logit(dtype: torch.dtype, logit: float, x: float) -> None:
    """No clipping: a wrong sure logit costs all its 80 nats, and a right one nothing."""
    px = Bernoulli((1,))(torch.tensor([[[logit]]], dtype=dtype), model=None)
    actual = px.log_prob(torch.tensor([[[x]]], dtype=dtype)).item()
    assert abs(actual - exact(logit, x)) <= torch.finfo(dtype).eps * max(abs(logit), 1.0)


def test_an_image_of_sure_pixels_keeps_its_digits_in_single_precision() -> None:
    """The worst case for cancellation: 784 right logits between 8 and 16, whose log-probabilities are far below them."""
    x = torch.randint(0, 2, (784,)).float()
    logits = (8.0 + 8.0 * torch.rand(784)) * (2.0 * x - 1.0)
    actual = Bernoulli((784,))(logits[None, None], model=None).log_prob(x).item()
    expected = sum(exact(*pair) for pair in zip(logits.tolist(), x.tolist(), strict=True))
    assert abs(actual - expected) < 1e-3 * abs(expected) < 1e-4


@given(logit=st.floats(-80, 80), x=st.floats(0, 1))
def test_grey_values_give_the_cross_entropy(logit: float, x: float) -> None:
    px = Bernoulli((1,))(torch.tensor([[[logit]]], dtype=torch.float64), model=None)
    actual = px.log_prob(torch.tensor([[[x]]], dtype=torch.float64)).item()
    assert actual == pytest.approx(exact(logit, x), rel=1e-9, abs=1e-12)


def test_the_context_is_logits_not_probabilities() -> None:
    px = Bernoulli((3,))(torch.tensor([[[0.0, 2.0, -50.0]]]), model=None)
    torch.testing.assert_close(px.mean, torch.tensor([[[0.5, 0.8807971, 1.9287498e-22]]]))


def test_the_gradient_is_the_difference_and_never_vanishes_when_wrong() -> None:
    """d(-log p)/d logit = sigmoid(logit) - x: at logit 80 and x = 0 it is 1, not 0 from a clipped probability."""
    logits = torch.tensor([[[80.0, -80.0, 0.0]]], requires_grad=True)
    (-Bernoulli((3,))(logits, model=None).log_prob(torch.tensor([0.0, 1.0, 1.0]))).sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[[1.0, -1.0, -0.5]]]))
