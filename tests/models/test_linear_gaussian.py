"""The linear-Gaussian VAE: everything about it is known in closed form."""

# K samples, B batch, D values of one example, L latent dimensions

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from vaekit.conditionals import Normal as DiagonalPosterior
from vaekit.distributions.noise import use
from vaekit.likelihoods import Normal
from vaekit.math.importance import importance_bound
from vaekit.models import VAE, Level, TopDown, flat
from vaekit.models.level import DrawOnly, FeaturesOnly
from vaekit.networks import MLP
from vaekit.objectives import KL, MonteCarloKL, Objective, Reconstruction
from vaekit.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("float64")

Make = Callable[..., VAE]
D, L, SIGMA = 5, 2, 0.7


@pytest.fixture
def numbers() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(D, L), torch.randn(D), torch.randn(4, D)


def evidence(W: Tensor, b: Tensor, sigma: float, x: Tensor) -> Tensor:
    return MultivariateNormal(b, W @ W.T + sigma**2 * torch.eye(len(b))).log_prob(x)


def exact_posterior(W: Tensor, b: Tensor, sigma: float, x: Tensor) -> MultivariateNormal:
    covariance = torch.linalg.inv(torch.eye(W.shape[1]) + W.T @ W / sigma**2)
    return MultivariateNormal((x - b) @ W @ covariance / sigma**2, covariance)


@pytest.mark.parametrize("samples", [1, 2, 8])
def test_the_exact_posterior_makes_every_weight_the_evidence(
    linear_gaussian: Make, numbers: tuple[Tensor, Tensor, Tensor], samples: int
) -> None:
    W, b, x = numbers
    trace = linear_gaussian(W, b, SIGMA)(x, samples=samples)
    truth = evidence(W, b, SIGMA, x)
    assert trace.log_w.shape == (samples, 4)
    torch.testing.assert_close(trace.log_w, truth.expand(samples, 4), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(importance_bound(trace.log_w), truth, rtol=1e-10, atol=1e-10)
    loss = Objective({"reconstruction": Reconstruction(), "kl": MonteCarloKL()})(trace).total
    torch.testing.assert_close(loss, -truth.mean(), rtol=1e-10, atol=1e-10)


def test_with_the_parameters_of_pca_it_is_scikit_learns_score(linear_gaussian: Make) -> None:
    data = np.random.default_rng(0).standard_normal((300, D)) @ np.diag([3.0, 2.0, 1.0, 0.5, 0.4]) + 1.5
    pca = PCA(n_components=L).fit(data)
    W = torch.from_numpy((pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_)).copy())
    model = linear_gaussian(W, torch.from_numpy(pca.mean_), float(pca.noise_variance_**0.5))
    scores = torch.from_numpy(pca.score_samples(data))
    torch.testing.assert_close(model(torch.from_numpy(data)).log_w[0], scores, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("shift", "widen"), [(0.0, 1.0), (0.4, 1.0), (0.0, 2.5), (-0.3, 0.5)])
def test_the_elbo_is_the_evidence_less_the_kl_to_the_exact_posterior(
    linear_gaussian: Make, numbers: tuple[Tensor, Tensor, Tensor], shift: float, widen: float
) -> None:
    """Both sides without a draw: log w is quadratic in z, so the mean of its values at the sigma points is its expectation."""
    W, b, x = numbers
    exact = exact_posterior(W, b, SIGMA, x)
    model = linear_gaussian(W, b, SIGMA, shift=shift, widen=widen)
    q = model.posterior(x)
    points = L**0.5 * torch.cat([torch.eye(L), -torch.eye(L)])
    z = q.loc + (points @ torch.linalg.cholesky(widen * exact.covariance_matrix[0]).T)[:, None]
    px = model.decode(z.reshape(-1, L)).log_prob(x.repeat(2 * L, 1)).reshape(2 * L, 4)
    prior = MultivariateNormal(torch.zeros(L), torch.eye(L))
    elbo = (px + prior.log_prob(z) - q.log_prob(z)).mean(0)
    gap = kl_divergence(MultivariateNormal(exact.loc + shift, widen * exact.covariance_matrix), exact)
    torch.testing.assert_close(elbo, evidence(W, b, SIGMA, x) - gap, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kl", [KL, MonteCarloKL])
def test_the_objective_of_a_diagonal_posterior_is_the_elbo_exactly(
    numbers: tuple[Tensor, Tensor, Tensor], sigma_points: Any, kl: type
) -> None:
    """Public parts alone, through encoder, draw, decoder, likelihood, terms and objective, at the sigma points of q."""
    W, b, x = numbers
    model = flat(
        encoder=lambda **shapes: MLP(**shapes, hidden_dims=(6,), activation="tanh"),
        decoder=lambda **shapes: MLP(**shapes, hidden_dims=()),
        posterior=DiagonalPosterior((L,)),
        prior=StandardNormal((L,)),
        likelihood=Normal((D,), scale=SIGMA),
    )
    (linear,) = model.decoder.layers
    linear.weight.data, linear.bias.data = W, b
    with use(sigma_points(L)):
        loss = Objective({"reconstruction": Reconstruction(), "kl": kl()})(model(x, samples=2 * L))
    mean, scale = model.encode(x), model.encode_scale(x)
    q = MultivariateNormal(mean, torch.diag_embed(scale**2))
    elbo = evidence(W, b, SIGMA, x) - kl_divergence(q, exact_posterior(W, b, SIGMA, x))
    torch.testing.assert_close(loss.total, -elbo.mean(), rtol=1e-10, atol=1e-10)


def test_the_bound_rises_with_samples_and_stays_below_the_evidence(linear_gaussian: Make) -> None:
    """Paired differences over 20 000 repetitions. 6 standard errors each: false alarm 1e-9 for each of eight comparisons."""
    W, b, x = torch.randn(D, L), torch.randn(D), torch.randn(1, D)
    log_w = linear_gaussian(W, b, SIGMA, shift=0.5, widen=1.5)(x.expand(20_000, D), samples=16).log_w.detach()
    bounds = [importance_bound(log_w[:K]) for K in (1, 2, 4, 8, 16)]
    truth = evidence(W, b, SIGMA, x)
    for fewer, more in pairwise(bounds):
        rise = more - fewer
        assert rise.mean() > 6 * rise.std() / 20_000**0.5
    for bound in bounds[:-1]:
        assert truth - bound.mean() > 6 * bound.std() / 20_000**0.5
    assert bounds[-1].mean() - truth < 6 * bounds[-1].std() / 20_000**0.5


def test_the_bound_meets_the_evidence_with_many_samples(linear_gaussian: Make) -> None:
    """5000 samples: within 0.01 nat on average over 64 examples, where the ELBO is far below."""
    W, b, x = torch.randn(D, L), torch.randn(D), torch.randn(64, D)
    log_w = linear_gaussian(W, b, SIGMA, shift=0.3, widen=1.3)(x, samples=5000).log_w.detach()
    gap = evidence(W, b, SIGMA, x) - importance_bound(log_w)
    # the mean has a standard error of about 0.001, so 0.01 is ten of them
    assert abs(gap.mean().item()) < 0.01
    assert (evidence(W, b, SIGMA, x) - log_w.mean(0)).mean() > 0.1


def test_training_reaches_the_evidence_of_the_fitted_model() -> None:
    """One dimension of latent, so a diagonal posterior can be exact: the ELBO of the fit comes within 0.02 nat of PCA's."""
    data = torch.from_numpy(np.random.default_rng(1).standard_normal((200, 3))) * torch.tensor([2.0, 0.5, 0.5])
    pca = PCA(n_components=1).fit(data.numpy())
    model = flat(
        encoder=lambda **shapes: MLP(**shapes, hidden_dims=()),
        decoder=lambda **shapes: MLP(**shapes, hidden_dims=()),
        posterior=DiagonalPosterior((1,)),
        prior=StandardNormal((1,)),
        likelihood=Normal((3,), scale=float(pca.noise_variance_**0.5)),
    )
    objective = Objective({"reconstruction": Reconstruction(), "kl": KL()})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        objective(model(data)).total.backward()
        optimizer.step()
    elbo = -objective(model(data, samples=200)).total.item()
    assert elbo == pytest.approx(pca.score(data.numpy()), abs=0.02)


class Both(torch.nn.Module):
    """Join: features and state side by side."""

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        return torch.cat([features, state], -1)


@pytest.mark.parametrize("samples", [1, 2, 8])
def test_two_levels_with_exact_posteriors_give_the_evidence(multivariate: Make, linear: Make, samples: int) -> None:
    """z1 ~ N(0, I), z2 | z1 ~ N(A z1, s^2 I), x | z2 ~ N(W z2 + b, sigma^2 I); q(z1|x) q(z2|x, z1) exact."""
    A, W, b, x, s, sigma = torch.randn(3, 2), torch.randn(D, 3), torch.randn(D), torch.randn(4, D), 0.6, 0.5
    noise = s**2 * W @ W.T + sigma**2 * torch.eye(D)  # of x given z1, whose mean is W A z1 + b
    to_x = W @ A
    precision = torch.linalg.inv(noise)
    upper = torch.linalg.inv(torch.eye(2) + to_x.T @ precision @ to_x)
    gain = upper @ to_x.T @ precision
    lower = torch.linalg.inv(torch.eye(3) / s**2 + W.T @ W / sigma**2)
    from_both = lower @ torch.cat([W.T / sigma**2, A / s**2], 1)  # of (x, z1)
    offset = -lower @ W.T @ b / sigma**2
    q1, q2 = multivariate(gain, -gain @ b, upper), multivariate(from_both, offset, lower)
    p1, p2 = StandardNormal((2,)), multivariate(A, torch.zeros(3), s**2 * torch.eye(3))
    hierarchy = TopDown([Level("z1", q1, p1, FeaturesOnly(), DrawOnly()), Level("z2", q2, p2, Both(), DrawOnly())])
    model = VAE(torch.nn.Identity(), hierarchy, linear(W, b)(None, None), Normal((D,), scale=sigma))
    trace = model(x, samples=samples)
    truth = MultivariateNormal(b, to_x @ to_x.T + noise).log_prob(x)
    assert [latent.name for latent in trace.latents] == ["z1", "z2"]
    torch.testing.assert_close(trace.log_w, truth.expand(samples, 4), rtol=1e-10, atol=1e-10)
    # moments of what the model generates, 6 standard errors each: false alarm 2e-9 times 5 means and 5 variances
    draws = model.sample(40_000)
    variance = (to_x @ to_x.T + noise).diagonal()
    assert ((draws.mean(0) - b).abs() < 6 * (variance / 40_000).sqrt()).all()
    assert ((draws.var(0) / variance - 1).abs() < 6 * (2 / 40_000) ** 0.5).all()
