"""Precision, recall, density and coverage: by hand, in their limits, in expectation, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from vaekit.math.neighbours import density_coverage, precision_recall, radii, squared_distances

pytestmark = pytest.mark.usefixtures("float64")


def numbers(real: torch.Tensor, fake: torch.Tensor, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density, coverage."""
    cross, within = squared_distances(real, fake), squared_distances(real, real)
    overlap = precision_recall(within, squared_distances(fake, fake), cross, k)
    return *overlap, *density_coverage(within, cross, k)


def line(*points: float) -> torch.Tensor:
    return torch.tensor(points)[:, None]


def test_distances_of_far_points_keep_their_digits() -> None:
    a = torch.randn(1500, 3).float() + 1000.0
    b = torch.randn(40, 3).float() + 1000.0
    expected = (a.double()[:, None] - b.double()).square().sum(-1)
    torch.testing.assert_close(squared_distances(a, b).double(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("k", "expected"), [(1, [1, 1, 4, 25]), (2, [9, 4, 9, 49]), (3, [64, 49, 25, 64])])
def test_radii_by_hand(k: int, expected: list[float]) -> None:
    x = line(0, 1, 3, 8)
    assert radii(squared_distances(x, x), k).tolist() == expected


def test_a_duplicate_is_a_neighbour_and_oneself_is_none() -> None:
    x = line(2, 2, 5)
    assert radii(squared_distances(x, x), 1).tolist() == [0, 0, 9]


@pytest.mark.parametrize("k", [0, 3, 4])
def test_too_few_points_for_a_radius(k: int) -> None:
    x = line(0, 1, 2)
    with pytest.raises(ValueError, match=f"3 points have no {k}-th nearest other point"):
        radii(squared_distances(x, x), k)


def test_by_hand() -> None:
    # balls of k = 1: real [-1, 1], [0, 2], [1, 5], [3, 13]; generated [0.5, 3.5], [0.5, 3.5], [16.5, 43.5]
    real, fake = line(0, 1, 3, 8), line(0.5, 3.5, 30)
    # generated 0.5 lies in two real balls, 3.5 in two, 30 in none; each of those four balls is hit
    within = squared_distances(real, real)
    cross = squared_distances(real, fake)
    fakes = squared_distances(fake, fake)
    assert radii(fakes, 1).tolist() == [9, 9, 26.5**2]
    # generated balls: [-2.5, 3.5], [0.5, 6.5], [3.5, 56.5]; real 0, 1, 3 lie in the first, 8 in the last
    precision, recall = precision_recall(within, fakes, cross, k=1)
    assert (precision, recall) == (2 / 3, 1.0)
    assert density_coverage(within, cross, k=1) == (4 / 3, 1.0)
    # with k = 2 the real balls are [-3, 3], [-1, 3], [0, 6], [1, 15]
    assert density_coverage(within, cross, k=2) == (5 / (2 * 3), 1.0)
    # without the generated 3.5 the ball [3, 13] is empty, and so is [1, 5]
    assert density_coverage(within, cross[:, [0, 2]], k=1) == (2 / 2, 2 / 4)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_of_a_set_with_itself(k: int) -> None:
    x = torch.randn(50, 4)
    # each ball holds its centre and its k neighbours
    assert numbers(x, x, k) == (1.0, 1.0, (k + 1) / k, 1.0)


def test_of_sets_far_apart() -> None:
    assert numbers(torch.randn(30, 4), torch.randn(30, 4) + 100, 3) == (0.0, 0.0, 0.0, 0.0)


def test_a_generator_of_one_mode_is_precise_and_reaches_little() -> None:
    real = torch.cat([torch.randn(100, 2), torch.randn(100, 2) + 50])
    precision, recall, density, coverage = numbers(real, torch.randn(200, 2), 5)
    assert precision > 0.9
    assert density > 0.8
    assert 0.4 < recall <= 0.5
    assert 0.4 < coverage <= 0.5


def test_an_outlier_among_the_real_raises_precision_and_hardly_density() -> None:
    # the example of the paper: one real point far away, and generated points around it
    real = torch.cat([torch.randn(99, 2), torch.tensor([[40.0, 40.0]])])
    precision, _, density, _ = numbers(real, torch.randn(100, 2) + 30.0, 3)
    assert precision == 1.0
    assert density < 0.5


@pytest.mark.parametrize(("n", "m"), [(60, 60), (40, 90)])
@pytest.mark.parametrize("k", [3, 5])
def test_against_nearest_neighbours_of_scikit_learn(n: int, m: int, k: int) -> None:
    real, fake = torch.randn(n, 3), torch.randn(m, 3) * 0.8 + 0.4

    def reach(points: np.ndarray) -> np.ndarray:
        return NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points)[0][:, k]

    x, y = real.numpy(), fake.numpy()
    across = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    inside_real, inside_fake = across <= reach(x)[:, None], across <= reach(y)[None]
    expected = (
        inside_real.any(0).mean(),
        inside_fake.any(1).mean(),
        inside_real.sum() / (k * m),
        inside_real.any(1).mean(),
    )
    assert numbers(real, fake, k) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "k"), [(20, 20, 3), (15, 30, 5)])
def test_expectation_under_equal_distributions(n: int, m: int, k: int) -> None:
    # all orders of the others around a real point are equally likely: a generated point is among the k nearest of N - 1 real ones
    # and itself with probability k / N, so E[density] = N M (k / N) / (k M); the ball is empty if the k nearest of all are real
    repeats = 400
    found = torch.tensor([numbers(torch.randn(n, 2), torch.randn(m, 2), k)[2:] for _ in range(repeats)])
    empty = math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    error = found.std(0) / math.sqrt(repeats)
    expected = torch.tensor([1.0, 1.0 - empty])
    assert ((found.mean(0) - expected).abs() < 4 * error).all()  # false alarm: 1.3e-4
