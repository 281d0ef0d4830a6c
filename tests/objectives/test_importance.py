"""The importance-weighted bound as an objective: the logarithm of the mean weight, and the gradient of the paper."""

# K samples, B batch, D values of one example, L latent dimensions

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from vaekit.distributions import Draw
from vaekit.models import Latent, Trace
from vaekit.objectives import KL, ImportanceBound, MonteCarloKL, Objective, Reconstruction, effective_beta
from vaekit.objectives.base import Role

pytestmark = pytest.mark.usefixtures("float64")

Make = Callable[..., Any]
D, L, SIGMA = 5, 2, 0.7


def trace_of(px_loc: Tensor, loc: Tensor, scale: Tensor, noise: Tensor) -> Trace:
    """x = 0 under N(px_loc, 0.5^2), z = loc + scale * noise; all (K, B, D) or (K, B, L)."""

    def normal(loc: Tensor, scale: Tensor) -> Independent:
        return Independent(Normal(loc, scale), 1)

    q, z = normal(loc, scale), loc + scale * noise
    latent = Latent("z", q, normal(torch.zeros_like(loc), torch.ones_like(loc)), Draw(z, lambda: q.log_prob(z)))
    return Trace(torch.zeros(px_loc.shape[1:]), normal(px_loc, torch.full_like(px_loc, 0.5)), (latent,))


def numbers(K: int, B: int) -> tuple[Tensor, ...]:
    return torch.randn(K, B, D), torch.randn(K, B, L), torch.rand(K, B, L) + 0.3, torch.randn(K, B, L)


@pytest.mark.parametrize(("K", "B"), [(1, 3), (2, 5), (50, 3), (5, 50)])
def test_what_is_reported_is_the_logarithm_of_the_mean_weight(K: int, B: int) -> None:
    """Over the samples, not over the batch; and not the mean of log w under the weights, which is too good."""
    trace = trace_of(*numbers(K, B))
    log_w = trace.log_w.numpy()
    expected = np.log(K) - logsumexp(log_w, axis=0)
    np.testing.assert_allclose(ImportanceBound()(trace).numpy(), expected, rtol=1e-12)
    weights = np.exp(log_w - logsumexp(log_w, axis=0))
    too_good = (weights * log_w).sum(0)
    entropy = -(weights * np.log(weights)).sum(0)
    np.testing.assert_allclose(too_good + expected, np.log(K) - entropy, rtol=1e-9, atol=1e-9)


def test_one_sample_is_the_elbo_at_its_draw() -> None:
    trace = trace_of(*numbers(1, 4))
    torch.testing.assert_close(ImportanceBound()(trace), Reconstruction()(trace) + MonteCarloKL()(trace))
    assert not torch.allclose(ImportanceBound()(trace), Reconstruction()(trace) + KL()(trace))


def test_the_order_of_the_samples_does_not_matter() -> None:
    parts, order = numbers(7, 4), torch.randperm(7)
    shuffled = trace_of(*(part[order] for part in parts))
    torch.testing.assert_close(ImportanceBound()(shuffled), ImportanceBound()(trace_of(*parts)), rtol=1e-13, atol=0)


def test_the_gradient_is_that_of_the_paper() -> None:
    """Equation 14: the gradients of log w_k, weighted with the normalised weights as constants."""
    parts = numbers(5, 3)
    leaves = [part.requires_grad_() for part in parts[:3]]
    trace = trace_of(*parts)
    actual = torch.autograd.grad(ImportanceBound()(trace).sum(), leaves, retain_graph=True)
    weights = torch.softmax(trace.log_w.detach(), 0)
    expected = torch.autograd.grad(-(weights * trace.log_w).sum(), leaves)
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_the_best_sample_has_most_of_the_gradient() -> None:
    px_loc = torch.tensor([0.1, 0.5, 2.0]).reshape(3, 1, 1).expand(3, 1, D).clone().requires_grad_()
    same = torch.zeros(3, 1, L)
    trace = trace_of(px_loc, same, torch.ones(3, 1, L), same)
    ImportanceBound()(trace).sum().backward()
    # by sample, against its own residual: the weight it has
    weight = px_loc.grad[:, 0, 0] * 0.25 / px_loc.detach()[:, 0, 0]
    assert weight[0] > weight[1] > weight[2] > 0
    torch.testing.assert_close(weight.sum(), torch.tensor(1.0))


@pytest.mark.parametrize("samples", [1, 3, 50])
def test_the_exact_posterior_gives_the_evidence(linear_gaussian: Make, samples: int) -> None:
    W, b, x = torch.randn(D, L), torch.randn(D), torch.randn(4, D)
    evidence = MultivariateNormal(b, W @ W.T + SIGMA**2 * torch.eye(D)).log_prob(x)
    value = ImportanceBound()(linear_gaussian(W, b, SIGMA)(x, samples=samples))
    torch.testing.assert_close(value, -evidence, rtol=1e-10, atol=1e-10)


def test_it_falls_with_the_samples_and_meets_the_evidence(linear_gaussian: Make) -> None:
    """A posterior that is off; 4000 independent draws of each bound. 6 standard errors: false alarm 2e-9 for each of five."""
    n = 4000
    W, b, x = torch.randn(D, L), torch.randn(D), torch.randn(1, D)
    evidence = MultivariateNormal(b, W @ W.T + SIGMA**2 * torch.eye(D)).log_prob(x).item()
    model, term = linear_gaussian(W, b, SIGMA, shift=0.5, widen=1.5), ImportanceBound()
    with torch.no_grad():
        values = [term(model(x.expand(n, D), samples=K)) for K in (1, 4, 32)]
        many = term(model(x.expand(50, D), samples=4000))
    for fewer, more in pairwise(values):
        error = math.hypot(fewer.std().item(), more.std().item()) / n**0.5
        assert (fewer.mean() - more.mean()).item() > 6 * error
    for value in values:
        assert value.mean().item() + evidence > -6 * value.std().item() / n**0.5
    # 50 bounds of 4000 draws each: their mean has a standard error of a thousandth of a nat, and less bias than that
    assert abs(many.mean().item() + evidence) < 0.01
    assert values[0].mean().item() + evidence > 0.1


def test_in_an_objective_it_is_the_whole_bound() -> None:
    trace, objective = trace_of(*numbers(3, 4)), Objective({"iwae": ImportanceBound()})
    loss = objective(trace)
    torch.testing.assert_close(loss.total, ImportanceBound()(trace).mean())
    assert loss.parts["iwae"] == loss.total
    assert objective.roles == {"iwae": Role.BOUND}
    assert objective.plain
    assert effective_beta(objective, trace) is None
    assert dataclasses.replace(trace, x=trace.x + 1.0).log_w.mean() != trace.log_w.mean()
