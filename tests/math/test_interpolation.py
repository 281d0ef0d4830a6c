"""Paths between vectors: their ends, their norms, their angles, and the great circle of another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp

from vaekit.math.interpolation import linear, spherical

pytestmark = pytest.mark.usefixtures("float64")

TIMES = torch.linspace(0, 1, 9, dtype=torch.float64)


@pytest.fixture(params=[2, 3, 20])
def pair(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(request.param), 3 * torch.randn(request.param)


@pytest.mark.parametrize("path", [linear, spherical])
def test_a_path_leads_from_one_to_the_other(path, pair) -> None:
    a, b = pair
    way = path(a, b, TIMES)
    assert way.shape == (9, len(a))
    torch.testing.assert_close(way[0], a)
    torch.testing.assert_close(way[-1], b)
    torch.testing.assert_close(path(b, a, 1 - TIMES), way)


def test_the_straight_line_goes_in_equal_steps(pair) -> None:
    steps = linear(*pair, TIMES).diff(dim=0)
    torch.testing.assert_close(steps, ((pair[1] - pair[0]) / 8).expand_as(steps))


def test_the_norm_goes_evenly_and_so_does_the_angle(pair) -> None:
    a, b = pair
    way = spherical(a, b, TIMES)
    torch.testing.assert_close(way.norm(dim=1), (1 - TIMES) * a.norm() + TIMES * b.norm())
    turned = torch.arccos((way @ a / (way.norm(dim=1) * a.norm())).clamp(-1, 1))
    torch.testing.assert_close(turned, TIMES * torch.arccos(a @ b / (a.norm() * b.norm())), atol=1e-7, rtol=0)


def test_between_unit_vectors_it_is_the_great_circle_of_scipy(pair) -> None:
    u, v = (vector / vector.norm() for vector in pair)
    np.testing.assert_allclose(
        spherical(u, v, TIMES).numpy(), geometric_slerp(u.numpy(), v.numpy(), TIMES.numpy()), atol=1e-12
    )


def test_half_way_between_orthogonal_vectors() -> None:
    half = torch.tensor([0.5])
    middle = spherical(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), half)
    torch.testing.assert_close(middle, torch.tensor([[math.sqrt(2), math.sqrt(2)]]))
    # the straight line is nearer to the origin there, where a normal prior in many dimensions has next to nothing
    assert linear(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]), half).norm() < 0.75 * middle.norm()


@pytest.mark.parametrize("factor", [1.0, 2.5, 1e-3])
def test_parallel_vectors_have_the_straight_line_between_them(factor: float) -> None:
    a = torch.randn(7)
    torch.testing.assert_close(spherical(a, factor * a, TIMES), linear(a, factor * a, TIMES))


@pytest.mark.parametrize("tilt", [1e-5, 1e-7, 1e-9, 1e-12])
def test_nearly_parallel_vectors_lose_no_digits(tilt: float) -> None:
    a = torch.randn(7)
    b = a + tilt * torch.randn(7)
    torch.testing.assert_close(spherical(a, b, TIMES), linear(a, b, TIMES), atol=1e-9, rtol=0)


@pytest.mark.parametrize("dim", [2, 3, 20])
def test_antiparallel_vectors_go_around_the_origin(dim: int) -> None:
    a = torch.randn(dim)
    way = spherical(a, -2 * a, TIMES)
    torch.testing.assert_close(way[0], a)
    torch.testing.assert_close(way[-1], -2 * a)
    torch.testing.assert_close(way.norm(dim=1), (1 + TIMES) * a.norm())
    torch.testing.assert_close(way[4] @ a, torch.tensor(0.0))
    assert torch.equal(way, spherical(a, -2 * a, TIMES))


@pytest.mark.parametrize(
    ("a", "b"), [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0]), ([1.5], [-2.0]), ([0.0], [0.0])]
)
def test_without_a_circle_it_is_the_straight_line(a: list[float], b: list[float]) -> None:
    start, end = torch.tensor(a), torch.tensor(b)
    assert torch.equal(spherical(start, end, TIMES), linear(start, end, TIMES))


def test_the_precision_is_that_of_the_codes() -> None:
    a, b = torch.randn(5).float(), torch.randn(5).float()
    assert linear(a, b, TIMES).dtype is spherical(a, b, TIMES).dtype is torch.float32
