"""Counts under a model of their expression: intervals by mpmath, sums to one, and the evidence of PCA by integration."""

# N cells, F features

from __future__ import annotations

import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import norm

from vaekit.data.cells import cells
from vaekit.data.expression import CellRestore
from vaekit.data.synthetic import ProbabilisticPCA
from vaekit.errors import ConfigError
from vaekit.evaluation.cells import Recovered, recovered
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.rounded_counts import log_interval, rounded_counts_nll
from vaekit.math.importance import importance_bound
from vaekit.reproduce.cells import fitted_pca
from vaekit.reproduce.gaussian import linear_gaussian


def exact(low: float, high: float) -> float:
    with mpmath.workdps(400):
        a, b = mpmath.mpf(low), mpmath.mpf(high)
        # of lower tails, which are exact on their side
        a, b = (-b, -a) if a > 0 else (a, b)
        return float(mpmath.log(mpmath.ncdf(b) - mpmath.ncdf(a)))


@pytest.mark.parametrize("low", [-math.inf, -30.0, -3.0, -1e-3, 0.0, 0.2, 5.0, 25.0])
@pytest.mark.parametrize("width", [1e-9, 1e-3, 0.5, 4.0])
def test_an_interval_is_exact_however_far_out_and_however_narrow(low: float, width: float) -> None:
    high = (0.0 if math.isinf(low) else low) + width
    a, b = (torch.tensor(end, dtype=torch.float64) for end in (low, high))
    loc, scale = torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    found = float(log_interval(1.0 + 2.0 * a, 1.0 + 2.0 * b, loc, scale))
    # the ends are rounded: of an interval of 1e-9 far out six digits are lost before it is looked at
    assert found == pytest.approx(exact(low, high), rel=1e-5 if width < 1e-6 else 1e-9)


def test_its_slope_is_that_of_finite_differences() -> None:
    low = torch.tensor([-math.inf, -2.0, 0.1, 30.0, -40.0], dtype=torch.float64)
    high = torch.tensor([-1.0, -1.9, 5.0, 31.0, -39.0], dtype=torch.float64)
    loc = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda mu: log_interval(low, high, mu, torch.tensor(0.8).double()), loc)


def test_the_counts_of_a_feature_have_probabilities_that_sum_to_one() -> None:
    """Two features of which one is given: all counts of the other, at one library each, tile the line."""
    target, library = 50.0, 60.0
    edges = [math.log1p(target * (k + 0.5) / library) for k in range(4000)]
    low = torch.tensor([-math.inf, *edges[:-1]], dtype=torch.float64)
    total = log_interval(low, torch.tensor(edges), torch.tensor(0.7).double(), torch.tensor(0.9).double()).exp().sum()
    assert float(total) == pytest.approx(norm.cdf(edges[-1], 0.7, 0.9), abs=1e-12)
    assert float(total) > 1.0 - 1e-12


@pytest.fixture(scope="module")
def expression(cells_file: Path) -> tuple:
    data = cells(cells_file, expression="log1p")
    way = recovered(data)
    assert way is not None
    return data, way


def test_pca_by_integration_over_its_latent(expression: tuple) -> None:
    """One latent: the probability of a cell's counts is an integral over a line, here by the trapezoidal rule."""
    data, way = expression
    model = fitted_pca(data, 1)
    part = data.test.part(torch.arange(4))
    estimate, each = rounded_counts_nll(model, part, Plan(samples=200), way)
    assert (estimate.unit, estimate.n) == ("nats", 4)
    decoder = model.decoder.layers[-1]
    z = np.linspace(-12.0, 12.0, 4_001)
    loc = z[:, None] * decoder.weight.detach().numpy()[:, 0] + decoder.bias.detach().numpy()
    sigma = float(model.likelihood.scale)
    counts = way.counts(part, part.batch(torch.arange(4))).numpy()
    for row, found in zip(counts, each.tolist(), strict=True):
        factor = way.restore.target / row.sum()
        high = np.log1p(factor * (row + 0.5))
        low = np.where(row > 0, np.log1p(factor * np.maximum(row - 0.5, 0.0)), -np.inf)
        mass = norm.logsf((low - loc) / sigma), norm.logsf((high - loc) / sigma)
        tails = norm.logcdf((high - loc) / sigma), norm.logcdf((low - loc) / sigma)
        above = (low - loc) > 0
        first, second = (np.where(above, m, t) for m, t in zip(mass, tails, strict=True))
        log_px = (first + np.log1p(-np.exp(second - first))).sum(1) + norm.logpdf(z)
        peak = log_px.max()
        evidence = peak + math.log(np.trapezoid(np.exp(log_px - peak), z))
        assert found == pytest.approx(-evidence, abs=0.05)


def test_another_proposal_gives_the_same_number(expression: tuple) -> None:
    """The posterior of the density, which is good enough where data have few zeros."""
    data, way = expression
    model, part = fitted_pca(data, 2), data.test.part(torch.arange(12))
    ours, again = (rounded_counts_nll(model, part, Plan(samples=100, seed=seed), way)[1] for seed in (0, 1))
    assert (ours - again).abs().max() < 0.5
    batch = part.batch(torch.arange(12))
    counts = way.counts(part, batch)
    factor = way.restore.target / counts.sum(1, keepdim=True)
    low = torch.where(counts > 0, (factor * (counts - 0.5).clamp_min(0.0)).log1p(), -math.inf)
    with torch.no_grad():
        trace = model.double()(batch.x.double(), samples=100)
        base = trace.px.base_dist
        log_px = log_interval(low, (factor * (counts + 0.5)).log1p(), base.loc.double(), base.scale.double()).sum(-1)
    found = -importance_bound(log_px + (trace.latents[0].log_p - trace.latents[0].log_q).double())
    assert (found - ours).abs().max() < 0.5
    assert abs((found - ours).mean()) < 0.1


def test_the_batch_size_changes_nothing(expression: tuple) -> None:
    data, way = expression
    model, part = fitted_pca(data, 2).double(), data.test.part(torch.arange(4))
    whole, pieces = (rounded_counts_nll(model, part, Plan(size, 20), way)[1] for size in (4, 3))
    torch.testing.assert_close(whole, pieces, rtol=1e-9, atol=1e-9)


def test_a_model_in_training_mode_is_measured_as_any_other(expression: tuple) -> None:
    data, way = expression
    model, part = fitted_pca(data, 2), data.test.part(torch.arange(2))
    model.decoder.layers.insert(0, torch.nn.Dropout(0.5))
    before, _ = rounded_counts_nll(model.eval(), part, Plan(samples=5), way)
    after, _ = rounded_counts_nll(model.train(), part, Plan(samples=5), way)
    assert before == after


def test_it_is_of_log1p_expression_and_normal_models_only(expression: tuple, cells_file: Path) -> None:
    data, way = expression
    plain = Recovered(CellRestore(way.restore.genes, way.restore.target, logarithm=False))
    model = linear_gaussian(ProbabilisticPCA(torch.eye(40, 1).double(), torch.zeros(40).double(), 1.0))
    with pytest.raises(ConfigError, match="write expression=log1p"):
        rounded_counts_nll(model, data.test, Plan(samples=1), plain)
    from vaekit.likelihoods import Laplace

    model.likelihood = Laplace((40,))
    with pytest.raises(ConfigError, match="write likelihood=normal_learned"):
        rounded_counts_nll(model, data.test, Plan(samples=1), way)
