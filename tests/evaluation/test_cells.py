"""Reconstructions of vectors against numpy and scipy, in passes that never hold the whole."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse, stats

from vaekit.data import cells as open_cells
from vaekit.data.batch import Dataset
from vaekit.data.rows import Sparse
from vaekit.evaluation import Plan
from vaekit.evaluation.cells import (
    LEAST_MEAN,
    fitted_counts_nll,
    fitted_dispersion,
    peak_signal_to_noise,
    pearson,
    reconstructed,
    reconstruction_numbers,
    recovered,
)

N = 83  # no multiple of any batch size below


@pytest.fixture
def binary(split: Any) -> Any:
    generator = torch.Generator().manual_seed(5)
    return split((torch.rand(N, 5, generator=generator, dtype=torch.float64) < 0.4).double())


def dense(model: Any, split: Any) -> tuple[np.ndarray, np.ndarray]:
    """All examples and all reconstructions at once."""
    x = split.batch(torch.arange(len(split))).x
    with torch.no_grad():
        return x.numpy(), model.eval().reconstruct(x).numpy()


def test_pearson_is_that_of_scipy_and_has_no_value_without_variance() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 40)), rng.normal(size=(6, 40)) + 1e6
    expected = [stats.pearsonr(p, q).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(pearson(torch.tensor(a), torch.tensor(b)), expected, atol=1e-8)
    a[2], b[4] = 0.1, 1 / 3  # not exact in binary: their mean is another number
    found = pearson(torch.tensor(a), torch.tensor(b))
    assert found.isnan().tolist() == [False, False, True, False, True, False]


def test_numbers_are_those_of_the_whole_matrix(tiny_vae: Any, binary: Any) -> None:
    x, made = dense(tiny_vae, binary)
    numbers = reconstruction_numbers(reconstructed(tiny_vae, binary, Plan(batch_size=7)), "values")
    squared = ((x - made) ** 2).mean(1)
    assert numbers["mse"].value == pytest.approx(squared.mean(), rel=1e-12)
    assert numbers["mse"].standard_error == pytest.approx(squared.std(ddof=1) / math.sqrt(N), rel=1e-9)
    varied = x.std(1) > 0
    correlations = [stats.pearsonr(p, q).statistic for p, q in zip(x[varied], made[varied], strict=True)]
    assert 0 < (~varied).sum() == N - numbers["pearson_cell"].n
    assert f"{(~varied).sum()} examples without one left out" in numbers["pearson_cell"].estimator
    assert numbers["pearson_cell"].value == pytest.approx(np.mean(correlations), rel=1e-9)
    expected = stats.pearsonr(x.mean(0), made.mean(0)).statistic
    assert numbers["pearson_gene_mean"].value == pytest.approx(expected, rel=1e-9)


def test_the_error_of_the_feature_means_is_a_jackknife_over_ten_groups(tiny_vae: Any, binary: Any) -> None:
    x, made = dense(tiny_vae, binary)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3)).numpy()
    left = [np.delete(np.arange(N), order[group::10]) for group in range(10)]
    values = np.array([stats.pearsonr(x[kept].mean(0), made[kept].mean(0)).statistic for kept in left])
    expected = math.sqrt(9 / 10 * ((values - values.mean()) ** 2).sum())
    numbers = reconstruction_numbers(reconstructed(tiny_vae, binary, Plan(seed=3)), "values")
    assert numbers["pearson_gene_mean"].standard_error == pytest.approx(expected, rel=1e-9)


def test_nothing_depends_on_the_batch_size(tiny_vae: Any, binary: Any) -> None:
    small, large = (reconstructed(tiny_vae, binary, Plan(batch_size=size, seed=2)) for size in (3, 500))
    assert small.drawn is not None
    assert large.drawn is not None
    for a, b in ((small.original, large.original), (small.drawn, large.drawn)):
        torch.testing.assert_close(torch.stack(list(vars(a).values())), torch.stack(list(vars(b).values())))
    torch.testing.assert_close(small.sums, large.sums)
    torch.testing.assert_close(small.correlation, large.correlation, equal_nan=True)


def test_draws_of_the_model_that_made_the_data_have_the_moments_of_the_data(exact: Any, pca: Any, split: Any) -> None:
    n = 4000
    found = reconstructed(exact, split(pca.sample(n)), Plan(batch_size=1000))
    assert found.drawn is not None
    variance = (pca.weight @ pca.weight.T).diagonal() + pca.sigma**2
    error = (variance / n).sqrt()
    # z from the exact posterior of data from the model, so that draws are from the model: false alarm 6e-5 for each of 5 features
    assert bool(((found.drawn.mean - pca.bias).abs() < 4 * error).all())
    assert bool(((found.drawn.variance / variance - 1).abs() < 4 * math.sqrt(2 / n)).all())
    assert bool(((found.original.variance / variance - 1).abs() < 4 * math.sqrt(2 / n)).all())
    below = torch.distributions.Normal(pca.bias, variance.sqrt()).cdf(torch.zeros(5, dtype=torch.float64))
    assert bool(((found.drawn.zeros - below).abs() < 4 * 0.5 / math.sqrt(n)).all())


def test_examples_whose_reconstruction_is_the_same_everywhere_have_no_correlation(tiny_vae: Any, split: Any) -> None:
    numbers = reconstruction_numbers(reconstructed(tiny_vae, split(torch.ones(12, 5).double()), Plan()), "values")
    assert set(numbers) == {"mse"}  # neither correlation has a value, and neither is made up


def test_psnr_of_a_known_error() -> None:
    found = peak_signal_to_noise(torch.tensor([0.01, 0.0001]), span=1.0)
    assert found.value == pytest.approx(30.0, rel=1e-6)
    assert found.unit == "dB"


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Counts of 90 cells and 12 genes with cells of very different depth, and one gene that is nearly never there."""
    rng = np.random.default_rng(1)
    depth = rng.gamma(3.0, 10.0, size=(90, 1))
    share = rng.dirichlet(np.ones(12))
    share[-1] = 1e-4
    counts = rng.poisson(rng.gamma(2.0, 0.5, size=(90, 12)) * depth * share) + (np.arange(12) == 0)
    matrix = sparse.csr_matrix(counts.astype(np.float32))
    path = tmp_path / "cells.npz"
    np.savez(
        path, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, shape=matrix.shape, format=b"csr",
        number=np.arange(90),
    )  # fmt: skip
    return path, counts


@pytest.mark.parametrize("expression", ["log1p", "standardised", "normalised"])
def test_counts_come_back_from_their_expression(archive: Any, expression: str) -> None:
    path, counts = archive
    dataset = open_cells(path=str(path), expression=expression, clip=None)
    way = recovered(dataset)
    assert way is not None
    batch = dataset.test.batch(torch.arange(len(dataset.test)))
    chosen = dataset.test.annotations["number"]
    np.testing.assert_array_equal(way.counts(dataset.test, batch), counts[chosen])
    # the data for its own reconstruction: every mean is the count
    np.testing.assert_allclose(way.means(batch.x, batch), np.maximum(counts[chosen], LEAST_MEAN), rtol=2e-4)


def test_only_expression_of_counts_has_counts(archive: Any, pca: Any, split: Any) -> None:
    path, _ = archive
    assert recovered(open_cells(path=str(path), expression="counts")) is None
    part = split(pca.sample(5))
    plain = Dataset("a", part, part, part, "", binary=False, low=-9, high=9)
    assert recovered(plain) is None


@pytest.fixture
def normal(archive: Any) -> Any:
    """An untrained normal model of log1p data of 12 genes, with data."""
    from vaekit.conditionals import Normal as Posterior
    from vaekit.likelihoods import Normal
    from vaekit.models import flat
    from vaekit.networks import MLP
    from vaekit.priors import StandardNormal

    torch.manual_seed(0)
    dataset = open_cells(path=str(archive[0]), expression="log1p")
    model = flat(
        *[lambda in_shape, out_shape: MLP(in_shape, out_shape, [8])] * 2,
        Posterior((2,)),
        StandardNormal((2,)),
        Normal((12,)),
    ).float()
    with torch.no_grad():
        list(model.decoder.parameters())[-1].add_(1.0)
    return model, dataset


def means_and_counts(normal: Any, part: Any, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    model, _ = normal
    with torch.no_grad():
        share = np.expm1(model.eval().reconstruct(part.batch(torch.arange(len(part))).x).double().numpy()).clip(0)
    own = counts[part.annotations["number"]]
    return np.maximum(share / share.sum(1, keepdims=True) * own.sum(1, keepdims=True), LEAST_MEAN), own


def test_the_fitted_likelihood_is_that_of_scipy(normal: Any, archive: Any) -> None:
    model, dataset = normal
    way = recovered(dataset)
    mu, own = means_and_counts(normal, dataset.train, archive[1])
    excess = ((own - mu) ** 2 - mu).sum(0)
    theta = np.where(excess > 0, (mu**2).sum(0) / np.where(excess > 0, excess, 1), 1e6).clip(1e-3, 1e6)
    found = fitted_dispersion(model, dataset.train, Plan(batch_size=11), way)
    np.testing.assert_allclose(found, theta, rtol=1e-4)
    mu, own = means_and_counts(normal, dataset.test, archive[1])
    expected = -stats.nbinom.logpmf(own, theta, theta / (theta + mu)).sum(1)
    estimate = fitted_counts_nll(model, dataset.train, dataset.test, Plan(batch_size=2), way)
    assert estimate.value == pytest.approx(expected.mean(), rel=1e-4)
    assert estimate.standard_error == pytest.approx(expected.std(ddof=1) / math.sqrt(len(expected)), rel=1e-3)
    assert estimate.unit == "nats"


def test_moments_find_the_dispersion_that_made_the_counts() -> None:
    """Reconstructions that are the true means: the estimate is within its Monte Carlo error."""
    from types import SimpleNamespace

    from vaekit.data.batch import Split

    rng = np.random.default_rng(2)
    n, mu, theta = 20_000, np.array([5.0, 2.0, 40.0]), np.array([0.7, 3.0, 10.0])
    counts = rng.negative_binomial(theta, theta / (theta + mu), size=(n, 3)).astype(np.float64)

    class Way:
        def counts(self, split: Any, batch: Any) -> torch.Tensor:
            return torch.tensor(counts)[batch.index]

        def means(self, made: Any, batch: Any) -> torch.Tensor:
            return torch.tensor(mu).expand(len(batch.index), 3)

    model = SimpleNamespace(
        event_shape=torch.Size([3]),
        training=False,
        eval=lambda: None,
        train=lambda mode: None,
        reconstruct=lambda x, c: x,
    )
    found = fitted_dispersion(model, Split(torch.tensor(counts), ()), Plan(batch_size=999), Way())  # type: ignore[arg-type]
    # (c - mu)^2 has a heavy tail: 30 resamples say how far the estimate scatters
    spread = []
    for _ in range(30):
        own = rng.negative_binomial(theta, theta / (theta + mu), size=(n, 3))
        spread.append(n * mu**2 / ((own - mu) ** 2 - mu).sum(0))
    assert (np.abs(found.numpy() - theta) < 5 * np.std(spread, axis=0)).all()


def test_a_pass_asks_for_a_batch_at_a_time(normal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, dataset = normal
    asked = []
    whole = Sparse.index_select

    def spied(self: Sparse, dim: int, index: torch.Tensor) -> torch.Tensor:
        asked.append(len(index))
        return whole(self, dim, index)

    rows = dataset.train.stored
    if not isinstance(rows, Sparse):
        filled = torch.as_tensor(rows)
        kept = filled.nonzero()
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), (filled != 0).sum(1).cumsum(0)])
        rows = Sparse(starts, kept[:, 1].int(), filled[filled != 0], 12)
    monkeypatch.setattr(Sparse, "index_select", spied)
    train = replace(dataset.train, stored=rows)
    model.double()  # the default of these tests, and so of what is made dense
    reconstructed(model, train, Plan(batch_size=10))
    fitted_counts_nll(model, train, train, Plan(batch_size=10), recovered(dataset))
    assert max(asked) == 10
    assert sum(asked) > 3 * len(train)
