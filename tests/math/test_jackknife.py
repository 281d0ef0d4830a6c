"""Standard errors by leaving out."""

from __future__ import annotations

import math

import pytest
import torch

from vaekit.math.jackknife import jackknife_error, left_out

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(("n", "groups"), [(20, 10), (7, 7), (23, 4), (2, 2)])
def test_groups_share_out_the_examples(n: int, groups: int) -> None:
    kept = left_out(n, groups, seed=3)
    assert len(kept) == groups
    out = [set(range(n)) - set(index.tolist()) for index in kept]
    assert sorted(position for group in out for position in group) == list(range(n))
    assert {len(group) for group in out} <= {n // groups, -(-n // groups)}
    assert all(torch.equal(index, index.sort().values) for index in kept)


def test_groups_are_random_and_follow_the_seed() -> None:
    first, again, other = (left_out(40, 4, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert any(set(range(40)) - set(index.tolist()) != set(range(g, 40, 4)) for g, index in enumerate(first))


@pytest.mark.parametrize(("n", "groups"), [(3, 4), (5, 1), (0, 2)])
def test_too_few_examples(n: int, groups: int) -> None:
    with pytest.raises(ValueError, match=f"{n} examples cannot be divided into {groups} groups"):
        left_out(n, groups, seed=0)


def test_of_a_mean_it_is_the_error_that_group_means_give() -> None:
    x = torch.randn(60) * 3 + 5
    kept = left_out(60, 10, seed=0)
    means = torch.stack([x[[i for i in range(60) if i not in index.tolist()]].mean() for index in kept])
    without = torch.stack([x[index].mean() for index in kept])
    assert jackknife_error(without) == pytest.approx(float(means.std(correction=1)) / math.sqrt(10), rel=1e-12)


def test_with_one_example_a_group_it_is_the_standard_error_of_the_mean() -> None:
    x = torch.randn(30)
    without = torch.stack([x[index].mean() for index in left_out(30, 30, seed=0)])
    assert jackknife_error(without) == pytest.approx(float(x.std(correction=1)) / math.sqrt(30), rel=1e-12)
