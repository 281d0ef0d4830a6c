"""The KL divergence: closed form against quadrature, Monte Carlo and worked examples."""

# K samples, B batch, D latent dimensions

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, constraints

from vaekit.conditionals import Normal as NormalPosterior
from vaekit.distributions import draw
from vaekit.models import Latent, Trace
from vaekit.objectives import KL, MonteCarloKL
from vaekit.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("float64")


def posterior(loc: Tensor, scale: Tensor) -> Distribution:
    """Through the library's own module: context = (mu, log sigma^2)."""
    return NormalPosterior(loc.shape[2:])(torch.cat([loc, 2.0 * scale.log()], dim=2), model=None)


def prior(loc: Tensor) -> Distribution:
    return StandardNormal(loc.shape[2:])(torch.zeros(*loc.shape[:2], 0), model=None)


def trace(*pairs: tuple[Distribution, Distribution]) -> Trace:
    latents = tuple(Latent(f"z{i}", q, p, draw(q)) for i, (q, p) in enumerate(pairs))
    return Trace(torch.zeros(1), Normal(0.0, 1.0), latents)


def against_prior(loc: Tensor, scale: Tensor) -> Trace:
    return trace((posterior(loc, scale), prior(loc)))


def test_the_worked_example() -> None:
    """KL(N(+-10, 0.1^2) || N(0, 1)) = (100 + 0.01 - 1) / 2 + log 10 = 51.8 nats."""
    loc = torch.tensor([10.0, -10.0]).reshape(1, 2, 1)
    kl = KL()(against_prior(loc, torch.full_like(loc, 0.1)))
    torch.testing.assert_close(kl, torch.full((2,), 51.80758509299405), rtol=1e-13, atol=0)
    assert kl[0].item() == pytest.approx(51.8, abs=0.05)


@given(loc=st.floats(-20, 20), log_scale=st.floats(-5, 3))
def test_it_is_the_formula_of_appendix_b(loc: float, log_scale: float) -> None:
    mu, sigma = torch.tensor([[[loc]]]), torch.tensor([[[math.exp(log_scale)]]])
    expected = 0.5 * (loc**2 + math.exp(2 * log_scale) - 1.0) - log_scale
    assert KL()(against_prior(mu, sigma)).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (1.5, 0.3), (-3.0, 2.0), (0.1, 1.1)])
def test_it_is_the_integral_of_q_times_the_log_ratio(loc: float, scale: float) -> None:
    mu, sigma = torch.tensor([[[loc]]]), torch.tensor([[[scale]]])
    q, p = posterior(mu, sigma), prior(mu)
    z = loc + scale * torch.linspace(-12, 12, 4001)[:, None, None]
    integrand = q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z))
    integral = torch.trapezoid(integrand[:, 0], z[:, 0, 0])
    torch.testing.assert_close(KL()(against_prior(mu, sigma))[0], integral, rtol=1e-10, atol=1e-10)


@given(values=st.lists(st.tuples(st.floats(-30, 30), st.floats(-6, 6)), min_size=1, max_size=6))
def test_it_is_never_negative_and_zero_only_at_the_prior(values: list[tuple[float, float]]) -> None:
    loc, log_scale = torch.tensor(values).T
    kl = KL()(against_prior(loc[None, None], log_scale.exp()[None, None])).item()
    assert kl >= -1e-12
    if max(abs(v) for pair in values for v in pair) > 1e-3:
        assert kl > 1e-8


def test_it_is_zero_between_equals() -> None:
    loc, scale = torch.randn(2, 3, 4), torch.rand(2, 3, 4) + 0.1
    for own in (posterior(loc, scale), prior(loc)):
        assert torch.equal(Latent("z", own, own, draw(own)).kl(), torch.zeros(2, 3))
    zero = KL()(against_prior(torch.zeros(2, 3, 4), torch.ones(2, 3, 4)))
    assert torch.equal(zero, torch.zeros(3))


@pytest.mark.parametrize("kind", [KL, MonteCarloKL])
def test_it_adds_over_dimensions_and_latents_and_averages_over_samples(kind: type) -> None:
    loc, scale = torch.randn(3, 2, 5), torch.rand(3, 2, 5) + 0.1
    whole = against_prior(loc, scale)
    value, q = whole.latents[0].draw.value, whole.latents[0].q
    z = value
    log_ratio = Normal(loc, scale).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    analytic = 0.5 * (loc**2 + scale**2 - 1.0) - scale.log()
    expected = (analytic if kind is KL else log_ratio).sum(-1).mean(0)
    torch.testing.assert_close(kind()(whole), expected, rtol=1e-11, atol=1e-11)
    twice = Trace(whole.x, whole.px, (whole.latents[0], Latent("w", q, whole.latents[0].p, whole.latents[0].draw)))
    torch.testing.assert_close(kind()(twice), 2.0 * expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.3), (2.0, 0.1), (-1.0, 2.0), (0.3, 0.9)])
def test_monte_carlo_agrees_within_its_error(loc: float, scale: float) -> None:
    """6 standard errors of 10^5 draws: false alarm 2e-9. A factor of two, or a lost term, is hundreds of them."""
    K = 100_000
    mu, sigma = torch.full((K, 1, 3), loc), torch.full((K, 1, 3), scale)
    mu[..., 1:], sigma[..., 1:] = 0.0, 1.0
    traced = against_prior(mu, sigma)
    log_ratio = traced.latents[0].log_q - traced.latents[0].log_p
    error = log_ratio.std().item() / K**0.5
    torch.testing.assert_close(MonteCarloKL()(traced)[0], log_ratio.mean())
    assert error > 0
    assert abs(MonteCarloKL()(traced).item() - KL()(traced).item()) < 6 * error


def test_both_estimators_have_the_same_gradient_in_expectation() -> None:
    """Per-sample gradients by the mean and the log-scale, each within 6 standard errors: false alarm 2e-9 each."""
    K = 50_000
    mu, log_sigma = (torch.full((K, 1, 1), v).requires_grad_() for v in (0.7, -0.6))
    traced = against_prior(mu, log_sigma.exp())
    noisy = torch.autograd.grad(K * MonteCarloKL()(traced).sum(), [mu, log_sigma], retain_graph=True)
    exact = torch.autograd.grad(K * KL()(traced).sum(), [mu, log_sigma])
    truth = (0.7, math.exp(-1.2) - 1.0)
    for estimate, analytic, expected in zip(noisy, exact, truth, strict=True):
        torch.testing.assert_close(analytic, torch.full_like(analytic, expected), rtol=1e-10, atol=0)
        assert estimate.std() > 1e-3  # it is an estimate
        assert abs(estimate.mean().item() - expected) < 6 * estimate.std().item() / K**0.5


@pytest.mark.parametrize("output", [-1e6, -100.0, -30.0, 30.0, 100.0, 1e6])
@pytest.mark.parametrize("kind", [KL, MonteCarloKL])
def test_one_large_output_does_not_end_a_run_in_single_precision(kind: type, output: float) -> None:
    context = torch.tensor([[[0.5, output]]], dtype=torch.float32, requires_grad=True)
    q = NormalPosterior((1,))(context, model=None)
    p = StandardNormal((1,)).float()(torch.zeros(1, 1, 0), model=None)
    value = kind()(trace((q, p)))
    value.sum().backward()
    assert value.isfinite().all()
    assert context.grad.isfinite().all()
    assert 1e-7 < q.stddev.item() < 1e5


class Shifted(Distribution):
    """A normal that torch does not know: no closed form is registered for it."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: Independent) -> None:
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.base.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(value)


def test_an_unregistered_pair_falls_back_to_the_log_ratio_at_the_draw() -> None:
    loc, scale = torch.randn(2, 3, 4), torch.rand(2, 3, 4) + 0.1
    known = posterior(loc, scale)
    for q, p in [(Shifted(known), prior(loc)), (known, Shifted(prior(loc))), (Shifted(known), Shifted(prior(loc)))]:
        traced = trace((q, p))
        z = traced.latents[0].draw.value
        torch.testing.assert_close(traced.kl(), known.log_prob(z) - prior(loc).log_prob(z), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(KL()(traced), MonteCarloKL()(traced))
        assert not torch.allclose(KL()(traced), KL()(trace((known, prior(loc)))))
