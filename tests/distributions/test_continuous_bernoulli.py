"""The continuous Bernoulli: digits everywhere, above all where its formulas are 0/0."""

from __future__ import annotations

from typing import Any

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor

from vaekit.distributions.continuous_bernoulli import ContinuousBernoulli
from vaekit.distributions.draw import reparameterised

pytestmark = pytest.mark.usefixtures("float64")

PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]
LOGITS = st.floats(-80, 80, width=32) | st.floats(-1, 1, width=32) | st.floats(-(2.0**-13), 2.0**-13, width=32)
SEAMS = [0.0, 1e-30, 1e-12, -1e-6, 9.99e-4, -1.001e-3, 0.01, 0.4999, 0.5, -0.5001, 1.0, -20.0, 300.0, -1e4]


def exactly(function: Any, *numbers: float) -> float:
    with mpmath.workdps(80):
        return float(function(*map(mpmath.mpf, numbers)))


def mean(eta: Any) -> Any:
    return mpmath.mpf(1) / 2 if eta == 0 else 1 / (1 - mpmath.exp(-eta)) - 1 / eta


def variance(eta: Any) -> Any:
    return mpmath.mpf(1) / 12 if eta == 0 else 1 / eta**2 - 1 / (4 * mpmath.sinh(eta / 2) ** 2)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@given(eta=LOGITS, x=st.floats(0, 1, width=32))
def test_the_density_of_the_paper(dtype: torch.dtype, tolerance: float, eta: float, x: float) -> None:
    r""":math:`C(\lambda) \lambda^x (1 - \lambda)^{1 - x}`, C being 2 at 1/2."""

    def log_density(eta: Any, x: Any) -> Any:
        p = 1 / (1 + mpmath.exp(-eta))
        constant = 2 if p == 0.5 else 2 * mpmath.atanh(1 - 2 * p) / (1 - 2 * p)
        return mpmath.log(constant) + x * mpmath.log(p) + (1 - x) * mpmath.log(1 - p)

    expected = exactly(log_density, eta, x)
    actual = ContinuousBernoulli(torch.tensor(eta, dtype=dtype)).log_prob(torch.tensor(x, dtype=dtype))
    assert actual.dtype == dtype
    assert abs(actual.item() - expected) <= tolerance * max(1.0, abs(expected))


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("eta", [*SEAMS, 2.0, -3.7, 80.0])
def test_mean_and_variance(dtype: torch.dtype, tolerance: float, eta: float) -> None:
    logits = torch.tensor(eta, dtype=dtype)
    q = ContinuousBernoulli(logits)
    assert abs(q.mean.item() - exactly(mean, logits.item())) < tolerance
    assert q.variance.item() == pytest.approx(exactly(variance, logits.item()), rel=tolerance, abs=tolerance**2)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("eta", SEAMS)
def test_gradients_keep_their_digits_at_one_half(dtype: torch.dtype, tolerance: float, eta: float) -> None:
    """The first derivative of the log-density is x - mean, the second minus the variance."""
    logits = torch.tensor(eta, dtype=dtype, requires_grad=True)
    (first,) = torch.autograd.grad(
        ContinuousBernoulli(logits).log_prob(torch.tensor(0.3, dtype=dtype)), logits, create_graph=True
    )
    (second,) = torch.autograd.grad(first, logits)
    x, at = torch.tensor(0.3, dtype=dtype).item(), logits.item()
    assert abs(first.item() - (x - exactly(mean, at))) < tolerance
    assert abs(second.item() + exactly(variance, at)) < 10 * tolerance


def test_gradients_are_those_of_finite_differences() -> None:
    logits = torch.tensor([0.0, 3e-4, -2e-3, 0.3, -0.49, 0.51, 3.0, -40.0], requires_grad=True)
    x = torch.rand(8, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e, x: ContinuousBernoulli(e).log_prob(x), (logits, x))
    assert torch.autograd.gradcheck(lambda e: ContinuousBernoulli(e).mean, (logits,))
    assert torch.autograd.gradgradcheck(lambda e, x: ContinuousBernoulli(e).log_prob(x), (logits, x))


def drawn(logits: Tensor) -> Tensor:
    torch.manual_seed(3)
    return reparameterised(ContinuousBernoulli(logits))


@pytest.mark.parametrize("eta", [0.0, 5e-4, -0.3, 4.0, -60.0])
def test_draws_follow_the_density(eta: float) -> None:
    """Kolmogorov-Smirnov against (e^(eta x) - 1) / (e^eta - 1). False alarm 1e-6 each."""
    cdf = (lambda x: x) if eta == 0 else (lambda x: (torch.tensor(eta * x).expm1() / torch.tensor(eta).expm1()).numpy())
    assert kstest(drawn(torch.full((1, 20_000), eta)).flatten().numpy(), cdf).pvalue > 1e-6


def test_draws_are_smooth_in_the_logits() -> None:
    """Also where the series ends, and at 0."""
    for seam in (1e-3, -1e-3, 0.0):
        below, above = drawn(torch.full((1, 50), seam - 1e-9)), drawn(torch.full((1, 50), seam + 1e-9))
        torch.testing.assert_close(below, above, rtol=0, atol=1e-8)
    logits = torch.tensor([[0.0, 3e-4, -5e-4, 2e-3, -0.3, 0.7, 4.0, -30.0]], requires_grad=True)
    assert torch.autograd.gradcheck(drawn, (logits,), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nothing_is_infinite_far_out(dtype: torch.dtype) -> None:
    logits = torch.tensor([[-1e30, -1e8, -200.0, 200.0, 1e8, 1e30]], dtype=dtype, requires_grad=True)
    x = drawn(logits)
    assert ((x >= 0) & (x <= 1)).all()
    q = ContinuousBernoulli(logits)
    (q.log_prob(x.detach()).sum() + q.mean.sum() + q.variance.sum()).backward()
    assert logits.grad.isfinite().all()
