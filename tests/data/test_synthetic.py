"""The evidence of probabilistic PCA, by three roads."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.distributions import Normal

from vaekit.data import ProbabilisticPCA, probabilistic_pca

pytestmark = pytest.mark.usefixtures("untouched")


def test_evidence_is_that_of_scikit_learn():
    x = probabilistic_pca(features=5, latents=2, seed=3).sample(500, seed=4)
    pca = PCA(2).fit(x.numpy())
    scales = np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    fitted = ProbabilisticPCA(
        weight=torch.from_numpy(pca.components_.T * scales),
        bias=torch.from_numpy(pca.mean_),
        sigma=pca.noise_variance_**0.5,
    )
    torch.testing.assert_close(fitted.evidence(x), torch.from_numpy(pca.score_samples(x.numpy())))


def test_evidence_is_joint_over_posterior():
    model = probabilistic_pca(features=4, latents=2, seed=1)
    x, z = model.sample(3), torch.tensor([0.3, -1.2], dtype=torch.float64)
    log_joint = Normal(0, 1).log_prob(z).sum() + Normal(model.weight @ z + model.bias, model.sigma).log_prob(x).sum(-1)
    torch.testing.assert_close(log_joint - model.posterior(x).log_prob(z), model.evidence(x))


def test_samples_have_the_moments_of_the_model():
    model, n = probabilistic_pca(features=3, latents=2, sigma=0.7, seed=2), 200_000
    x = model.sample(n)
    covariance = model.weight @ model.weight.T + 0.49 * torch.eye(3, dtype=torch.float64)
    variances = covariance.diagonal()
    # false alarm: below 1e-4 for each of 12 comparisons with fixed seeds
    assert ((x.mean(0) - model.bias).abs() < 4 * (variances / n).sqrt()).all()
    standard_error = ((variances[:, None] * variances + covariance**2) / n).sqrt()
    assert ((x.T.cov() - covariance).abs() < 4 * standard_error).all()


def test_samples_depend_on_the_seed_only():
    model = probabilistic_pca(features=3, latents=1)
    assert torch.equal(model.sample(4, seed=1), model.sample(4, seed=1))
    assert not torch.equal(model.sample(4, seed=1), model.sample(4, seed=2))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"expected \(F, D\) and \(F,\)"):
        ProbabilisticPCA(torch.zeros(3, 2), torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match="sigma is 0"):
        ProbabilisticPCA(torch.zeros(3, 2), torch.zeros(3), 0)
