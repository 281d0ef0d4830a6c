"""Counts: digits at all ends, probabilities that sum to one, gradients in closed form, and samplers that follow them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy.stats import chisquare, gamma, kstest, nbinom, poisson
from torch import Tensor

from vaekit.distributions.counts import Counts, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import PerExample, use
from vaekit.math import counts as formulas

pytestmark = pytest.mark.usefixtures("float64")

PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]
LOG_MEANS = st.floats(math.log(1e-8), math.log(1e8), width=64)
LOG_THETAS = st.floats(-18.0, 18.0, width=64) | st.floats(-40.0, 60.0, width=64)
LOGITS = st.floats(-80.0, 80.0, width=64)
COUNTS = st.integers(0, 6) | st.integers(0, 10**8)
# in standard deviations from the mean, where the deviance cancels most
NEARBY = st.floats(-4.0, 4.0)
DRAWS = 20_000


def negative_binomial(m: Any, t: Any, x: Any) -> Any:
    mu, theta = mpmath.exp(m), mpmath.exp(t)
    chosen = mpmath.loggamma(x + theta) - mpmath.loggamma(theta) - mpmath.loggamma(x + 1)
    return chosen - theta * mpmath.log1p(mu / theta) + x * (m - mpmath.log(theta + mu))


def exactly(function: Callable[..., Any], *numbers: float) -> float:
    with mpmath.workdps(70):
        return float(function(*map(mpmath.mpf, numbers)))


def rounded(dtype: torch.dtype, *numbers: float) -> list[Tensor]:
    return [torch.tensor(number, dtype=dtype) for number in numbers]


def check(
    q: Callable[..., Counts], exact: Callable[..., Any], dtype: torch.dtype, tolerance: float, *at: float
) -> None:
    """The log-probability of the last number under parameters that are the others, as they are in this precision."""
    *parameters, x = rounded(dtype, *at)
    expected = exactly(exact, *(p.item() for p in parameters), x.item())
    actual = q(*parameters).log_prob(x)
    assert actual.dtype == dtype
    assert abs(actual.item() - expected) <= tolerance * max(1.0, abs(expected))


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@given(m=LOG_MEANS, t=LOG_THETAS, x=COUNTS)
@example(m=18.0, t=60.0, x=65_659_969)
@example(m=0.0, t=-18.4, x=10**8)
@example(m=18.42, t=0.0, x=1)
@example(m=-18.42, t=18.42, x=0)
def test_the_negative_binomial(dtype: torch.dtype, tolerance: float, m: float, t: float, x: int) -> None:
    check(NegativeBinomial, negative_binomial, dtype, tolerance, m, t, x)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@given(m=LOG_MEANS, t=LOG_THETAS, away=NEARBY)
def test_the_negative_binomial_near_its_mean(
    dtype: torch.dtype, tolerance: float, m: float, t: float, away: float
) -> None:
    mu = math.exp(m)
    x = max(0.0, float(np.float32(round(mu + away * math.sqrt(mu + mu * mu / math.exp(t))))))
    check(NegativeBinomial, negative_binomial, dtype, tolerance, m, t, x)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@given(m=LOG_MEANS, x=COUNTS, away=st.none() | NEARBY)
def test_poisson(dtype: torch.dtype, tolerance: float, m: float, x: int, away: float | None) -> None:
    near = x if away is None else max(0, round(math.exp(m) + away * math.exp(m / 2)))
    check(Poisson, lambda m, x: x * m - mpmath.exp(m) - mpmath.loggamma(x + 1), dtype, tolerance, m, near)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@given(m=LOG_MEANS, t=LOG_THETAS, logit=LOGITS, x=COUNTS)
def test_zero_inflation(dtype: torch.dtype, tolerance: float, m: float, t: float, logit: float, x: int) -> None:
    def exact(m: Any, t: Any, logit: Any, x: Any) -> Any:
        pi = 1 / (1 + mpmath.exp(-logit))
        kept = mpmath.log(1 - pi) + negative_binomial(m, t, x)
        return mpmath.log(pi + mpmath.exp(kept)) if x == 0 else kept

    check(ZeroInflatedNegativeBinomial, exact, dtype, tolerance, m, t, logit, x)


@given(m=st.floats(-5, 8), t=st.floats(-4, 6), x=st.integers(0, 2000))
def test_scipys_where_scipy_keeps_its_digits(m: float, t: float, x: int) -> None:
    log_mean, log_theta, value = rounded(torch.float64, m, t, x)
    theta, mu = math.exp(t), math.exp(m)
    expected = [nbinom.logpmf(x, theta, theta / (theta + mu)), poisson.logpmf(x, mu)]
    assume(all(map(math.isfinite, expected)))
    actual = [NegativeBinomial(log_mean, log_theta).log_prob(value).item(), Poisson(log_mean).log_prob(value).item()]
    # scipy's own differences of lgamma lose what a probability of 1 - 1e-10 would show
    assert actual == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("t", [30.0, 45.0, 60.0, 1e3, 1e30])
def test_poisson_is_where_theta_has_no_end(t: float) -> None:
    log_mean = torch.linspace(-18.0, 10.0, 29)[:, None]
    x = torch.tensor([0.0, 1.0, 5.0, 100.0, 1e4])
    actual = NegativeBinomial(log_mean, torch.tensor(t)).log_prob(x)
    torch.testing.assert_close(actual, Poisson(log_mean).log_prob(x), rtol=0, atol=max(2e16 * math.exp(-t), 1e-9))


LAWS: dict[str, Callable[[], Counts]] = {
    "poisson": lambda: Poisson(torch.tensor([-3.0, 0.2, 4.0])),
    "negative binomial": lambda: NegativeBinomial(torch.tensor([-3.0, 0.2, 4.0]), torch.tensor([-1.0, 0.5, 3.0])),
    "nearly all zeros": lambda: NegativeBinomial(torch.tensor([-2.0, 0.2, 2.0]), torch.tensor(-1.5)),
    "zero-inflated": lambda: ZeroInflatedNegativeBinomial(
        torch.tensor([-3.0, 0.2, 4.0]), torch.tensor([-0.5, 0.5, 3.0]), torch.tensor([-1.0, 0.0, 2.0])
    ),
}
every_law = pytest.mark.parametrize("make", LAWS.values(), ids=LAWS.keys())


@every_law
def test_probabilities_sum_to_one_and_have_the_stated_moments(make: Callable[[], Counts]) -> None:
    q, x = make(), torch.arange(20_000.0)[:, None]
    mass = q.log_prob(x).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(3), rtol=0, atol=1e-9)
    torch.testing.assert_close((mass * x).sum(0), q.mean, rtol=1e-9, atol=0)
    torch.testing.assert_close((mass * (x - q.mean).square()).sum(0), q.variance, rtol=1e-8, atol=0)


def side_by_side(q: Any) -> Counts:
    """Each of the three DRAWS times in one event."""
    given = [q.log_mean, q.log_theta, *([q.dropout_logits] if hasattr(q, "dropout_logits") else [])]
    wide: Counts = type(q)(*(p.expand(3)[:, None].expand(3, DRAWS) for p in given), event_dims=1)
    return wide


@every_law
def test_draws_follow_the_probabilities(make: Callable[[], Counts]) -> None:
    """Chi-squared, rare counts together. False alarm 1e-6 each; the seed is fixed."""
    q = make()
    drawn = q.sample((DRAWS,)) if isinstance(q, Poisson) else side_by_side(q).sample().T
    for i in range(3):
        value = drawn[:, i]
        assert (value == value.round()).all()
        expected = DRAWS * q.log_prob(torch.arange(20_000.0)[:, None]).exp()[:, i]
        seen, rare = torch.bincount(value.long(), minlength=20_000), expected < 20
        groups = [torch.cat([n[~rare], n[rare].sum()[None]]).numpy() for n in (seen, expected)]
        assert chisquare(*groups).pvalue > 1e-6


@pytest.mark.parametrize("t", [math.log(0.3), math.log(50.0)])
def test_draws_of_large_means_follow_the_gamma_distribution(t: float) -> None:
    """At 1e8 the Poisson noise is a ten-thousandth of the mean, and only the rate's own distribution can be seen."""
    theta = math.exp(t)
    drawn = NegativeBinomial(torch.full((4000,), math.log(1e8)), torch.tensor(t)).sample()
    assert kstest(drawn.numpy(), gamma(theta, scale=1e8 / theta).cdf).pvalue > 1e-6


def parameters(kind: str) -> tuple[Tensor, ...]:
    lead = (2, 3, 4)
    m, t, logits = torch.randn(*lead) + 1.0, torch.randn(*lead), torch.randn(*lead)
    return {
        "poisson": (m,),
        "one theta for each gene": (m, t[0, 0]),
        "one theta for each gene of a cell": (m, t),
        "one theta": (m, t[0, 0, 0]),
        "zero-inflated": (m, t[0, 0], logits),
        "zero-inflated, of a cell": (m, t, logits),
    }[kind]


KINDS = ["poisson", "one theta for each gene", "one theta for each gene of a cell", "one theta", "zero-inflated",
         "zero-inflated, of a cell"]  # fmt: skip


def scored(x: Tensor) -> Callable[..., Tensor]:
    classes = {1: Poisson, 2: NegativeBinomial, 3: ZeroInflatedNegativeBinomial}
    return lambda *given: classes[len(given)](*given, event_dims=1).log_prob(x)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    x = torch.tensor([[0.0, 1.0, 3.0, 40.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    given = tuple(p.requires_grad_() for p in parameters(kind))
    assert torch.autograd.gradcheck(scored(x), given, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_is_not_waited_for_computes_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([[0.0, 1.0, 3.0, 40.0], [2.0, 0.0, 0.0, 1e8], [0.0, 0.0, 0.0, 0.0]])
    given = tuple(p.requires_grad_() for p in parameters(kind))
    results = []
    for _ in range(2):
        nats = scored(x)(*given)
        results.append([nats, *torch.autograd.grad((nats * torch.arange(1.0, 7.0).view(2, 3)).sum(), given)])
        monkeypatch.setattr(formulas, "_counted", formulas._Masked)
    for once, again in zip(*results, strict=True):
        torch.testing.assert_close(once, again, rtol=1e-12, atol=1e-12)


@given(m=LOG_MEANS, t=LOG_THETAS, x=COUNTS)
def test_slopes_keep_their_digits(m: float, t: float, x: int) -> None:
    """In float64, relative to the mean and to the slope, whichever is larger."""

    def by_mean(m: Any, t: Any, x: Any) -> Any:
        return mpmath.exp(t) * (x - mpmath.exp(m)) / (mpmath.exp(t) + mpmath.exp(m))

    def by_theta(m: Any, t: Any, x: Any) -> Any:
        mu, theta = mpmath.exp(m), mpmath.exp(t)
        psi = mpmath.digamma(x + theta) - mpmath.digamma(theta)
        return theta * (psi - mpmath.log1p(mu / theta) - (x - mu) / (theta + mu))

    log_mean, log_theta = (p.requires_grad_() for p in rounded(torch.float64, m, t))
    nats = NegativeBinomial(log_mean, log_theta).log_prob(torch.tensor(float(x)))
    slopes = torch.autograd.grad(nats, (log_mean, log_theta))
    for actual, exact in zip(slopes, (by_mean, by_theta), strict=True):
        expected = exactly(exact, m, t, x)
        assert abs(actual.item() - expected) <= 1e-9 * max(1.0, abs(expected)) + 1e-14 * max(math.exp(m), x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_nothing_is_infinite_far_out(dtype: torch.dtype, size: int) -> None:
    """Means from 1e-8 to 1e8, and a log-mean of -1000 that a softmax can put out, at any theta and any chance of a zero."""
    m, t, logits, x = torch.meshgrid(
        torch.tensor([-1e3, -18.42, 0.0, 18.42]),
        torch.tensor([-1e3, -80.0, -18.0, 0.0, 18.0, 80.0, 1e3]),
        torch.tensor([-1e4, -80.0, 0.0, 80.0, 1e4]),
        torch.tensor([0.0, 1.0, 1e3, 1e8]),
        indexing="ij",
    )
    given = [p.flatten().to(dtype).requires_grad_() for p in (m, t, logits)[:size]]
    q = {1: Poisson, 2: NegativeBinomial, 3: ZeroInflatedNegativeBinomial}[size](*given)
    nats = q.log_prob(x.flatten().to(dtype))
    assert nats.isfinite().all()
    assert (nats <= 1e-6).all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(nats.sum(), given))


def test_draws_are_no_functions_of_the_parameters() -> None:
    assert not reparameterised(Poisson(torch.zeros(2, 3, requires_grad=True), 1)).requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_draws_belong_to_their_example(kind: str) -> None:
    """Each event has its own numbers, whatever batch it comes in; and its own parameters."""
    given = parameters(kind)
    classes = {1: Poisson, 2: NegativeBinomial, 3: ZeroInflatedNegativeBinomial}

    def drawn(order: list[int]) -> Tensor:
        chosen = [p[:, order] if p.dim() == 3 else p for p in given]
        with use(PerExample(7, torch.tensor(order))):
            return reparameterised(classes[len(given)](*chosen, event_dims=1))

    assert torch.equal(drawn([0, 1, 2])[:, [2, 0]], drawn([2, 0]))


@pytest.mark.parametrize("kind", KINDS)
def test_expanding_keeps_the_distribution(kind: str) -> None:
    x = torch.tensor([0.0, 2.0, 1.0, 7.0])
    given = parameters(kind)
    q = {1: Poisson, 2: NegativeBinomial, 3: ZeroInflatedNegativeBinomial}[len(given)](*given, event_dims=1)
    wide = q.expand((5, 2, 3))
    assert wide.batch_shape == (5, 2, 3)
    assert wide.event_shape == (4,)
    assert torch.equal(wide.log_prob(x), q.log_prob(x).expand(5, 2, 3))
