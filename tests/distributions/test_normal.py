"""The normal event against torch's own distribution, in values, gradients and draws, in whatever shape its parameters are given."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from vaekit import conditionals
from vaekit.distributions.detached import detached
from vaekit.distributions.draw import reparameterised
from vaekit.distributions.normal import NormalEvent, once

K, B = 3, 4
EVENT = (2, 5)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SHAPES = [(), EVENT, (5,), (1, B, *EVENT), (K, 1, *EVENT), (K, B, *EVENT), (1, 1, 2, 1), (K, B, 1, 1)]


@pytest.mark.parametrize("of_loc", SHAPES, ids=str)
@pytest.mark.parametrize("of_scale", SHAPES, ids=str)
@pytest.mark.parametrize("of_value", [(B, *EVENT), (K, B, *EVENT)], ids=str)
def test_it_is_the_density_of_torch(
    of_loc: tuple[int, ...], of_scale: tuple[int, ...], of_value: tuple[int, ...]
) -> None:
    shape = torch.Size([K, B, *EVENT])
    loc, scale, value = drawn(*of_loc), drawn(*of_scale, seed=1).exp(), drawn(*of_value, seed=2)
    given = [tensor.requires_grad_() for tensor in (loc, scale, value)]
    ours = NormalEvent(loc, scale, shape, 2)
    theirs = Independent(Normal(loc.expand(shape), scale.expand(shape)), 2)
    assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value), rtol=1e-12, atol=1e-12)
    weights = drawn(K, B, seed=3)
    found, expected = (torch.autograd.grad((q.log_prob(value) * weights).sum(), given) for q in (ours, theirs))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_without_dimensions_of_an_event() -> None:
    loc, scale, value = drawn(K, B), drawn(K, B, seed=1).exp(), drawn(K, B, seed=2)
    found = NormalEvent(loc, scale, loc.shape, 0).log_prob(value)
    torch.testing.assert_close(found, torch.from_numpy(stats.norm.logpdf(value, loc, scale)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("value", "scale"), [(1e4, 1e-6), (-1e4, 2e4), (0.0, 1e-6), (3.0, 1.0)])
def test_at_the_ends_of_the_range_in_single_precision(value: float, scale: float) -> None:
    found = NormalEvent(torch.zeros(1), torch.tensor([scale]), torch.Size([1, 1, 1]), 1).log_prob(
        torch.tensor([[[value]]])
    )
    expected = -0.5 * (value / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_draws_moments_and_divergence_are_those_of_torch() -> None:
    shape = torch.Size([K, B, *EVENT])
    loc, scale = drawn(1, B, *EVENT), drawn(1, B, *EVENT, seed=1).exp()
    ours, theirs = NormalEvent(loc, scale, shape, 2), Independent(Normal(loc.expand(shape), scale.expand(shape)), 2)
    torch.manual_seed(5)
    found = reparameterised(ours)
    torch.manual_seed(5)
    assert torch.equal(found, reparameterised(theirs))
    assert found.shape == shape
    assert not torch.equal(found[0], found[1])
    assert torch.equal(ours.mean, theirs.mean)
    assert torch.equal(ours.stddev, theirs.stddev)
    prior = NormalEvent(torch.zeros(EVENT).double(), torch.ones(EVENT).double(), shape, 2)
    standard = Independent(Normal(torch.zeros(shape).double(), torch.ones(shape).double()), 2)
    assert torch.equal(kl_divergence(ours, prior), kl_divergence(theirs, standard))


def test_a_larger_batch_has_the_same_density() -> None:
    q = NormalEvent(drawn(1, B, *EVENT), drawn(1, B, *EVENT, seed=1).exp(), torch.Size([1, B, *EVENT]), 2)
    value = drawn(K, B, *EVENT, seed=2)
    wider = q.expand(torch.Size([K, B]))
    assert wider.batch_shape == (K, B)
    torch.testing.assert_close(
        wider.log_prob(value), torch.cat([q.log_prob(v[None]) for v in value]), rtol=1e-13, atol=0
    )


def test_held_still_only_the_value_is_differentiated_by() -> None:
    loc, scale = drawn(1, B, *EVENT).requires_grad_(), drawn(1, B, *EVENT, seed=1).exp().requires_grad_()
    q = NormalEvent(loc, scale, torch.Size([K, B, *EVENT]), 2)
    value = drawn(K, B, *EVENT, seed=2).requires_grad_()
    still = detached(q)
    assert torch.equal(still.log_prob(value), q.log_prob(value))
    found = torch.autograd.grad(still.log_prob(value).sum(), [loc, scale, value], allow_unused=True)
    assert found[:2] == (None, None)
    torch.testing.assert_close(found[2], -(value - loc) / scale.square(), rtol=1e-12, atol=0)


def test_a_posterior_works_out_its_scale_once_for_all_samples() -> None:
    conditional, context = conditionals.Normal((5,)), drawn(1, B, 10).requires_grad_()
    repeated = context[0].expand(K, B, 10)
    q = conditional(repeated, None)
    assert q.batch_shape == (K, B)
    assert q.scale.shape == (1, B, 5)
    value = drawn(K, B, 5, seed=2)
    other = conditional(repeated.contiguous(), None)
    assert other.scale.shape == (K, B, 5)
    torch.testing.assert_close(q.log_prob(value), other.log_prob(value), rtol=1e-13, atol=1e-13)
    for one, two in zip(
        torch.autograd.grad(q.log_prob(value).sum(), context),
        torch.autograd.grad(other.log_prob(value).sum(), context),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_only_what_was_expanded_is_taken_once() -> None:
    one = drawn(1, B, 2)
    assert once(one) is one
    assert once(one.expand(K, B, 2)).shape == (1, B, 2)
    different = drawn(K, B, 2)
    assert once(different) is different
