"""Draws of torch's own distributions through vaekit's noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, norm
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)

from vaekit.distributions.draw import chosen, reparameterised
from vaekit.distributions.noise import PerExample, use

pytestmark = pytest.mark.usefixtures("float64")

DRAWS = 20_000


def mixture(loc: Tensor) -> MixtureSameFamily:
    """Of three components over pairs, from locations (K, B, 3, 2)."""
    weights = torch.tensor([0.2, 0.5, 0.3]).expand(*loc.shape[:2], 3)
    return MixtureSameFamily(Categorical(weights), Independent(Normal(loc, 0.1), 1))


KINDS: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Distribution]]] = {
    "laplace": ((3,), lambda p: Independent(Laplace(p, 0.7), 1)),
    "categorical": ((4,), lambda p: Categorical(logits=p)),
    "one-hot": ((4,), lambda p: OneHotCategorical(logits=p)),
    "one-hot with a gradient": ((4,), lambda p: OneHotCategoricalStraightThrough(logits=p)),
    "groups of one-hots": ((2, 4), lambda p: Independent(OneHotCategorical(logits=p), 1)),
    "mixture": ((3, 2), mixture),
    "values of mixtures": ((5, 3), lambda p: Independent(MixtureSameFamily(Categorical(logits=p), Normal(p, 0.1)), 1)),
    "mixture of one-hots": (
        (3, 4),
        lambda p: MixtureSameFamily(Categorical(torch.ones(*p.shape[:2], 3)), OneHotCategorical(logits=p)),
    ),
}


@pytest.mark.parametrize(("shape", "make"), KINDS.values(), ids=KINDS.keys())
def test_a_draw_belongs_to_its_example_and_sample(
    shape: tuple[int, ...], make: Callable[[Tensor], Distribution]
) -> None:
    parameters, index = torch.randn(4, 6, *shape), torch.tensor([5, 0, 17, 3, 99, 4])

    def drawn(samples: slice, rows: list[int]) -> Tensor:
        with use(PerExample(3, index[rows], first_sample=samples.start)):
            return reparameterised(make(parameters[samples][:, rows]))

    whole = drawn(slice(0, 4), [0, 1, 2, 3, 4, 5])
    q = make(parameters)
    assert whole.shape == q.batch_shape + q.event_shape
    assert whole.dtype == q.sample().dtype
    for samples, rows in [(slice(0, 4), [4]), (slice(1, 3), [5, 2, 0]), (slice(3, 4), [0, 1, 2, 3, 4, 5])]:
        torch.testing.assert_close(drawn(samples, rows), whole[samples][:, rows], rtol=1e-13, atol=1e-13)
    assert not torch.equal(whole[0], whole[1])


def test_laplace_draws() -> None:
    """Kolmogorov-Smirnov, false alarm 1e-6 each, and the gradients of location and scale."""
    for noise in (None, PerExample(3, torch.arange(DRAWS))):
        loc, scale = torch.zeros(1, DRAWS).requires_grad_(), torch.full((1, DRAWS), 2.0).requires_grad_()
        if noise is None:
            value = reparameterised(Laplace(loc, scale))
        else:
            with use(noise):
                value = reparameterised(Laplace(loc, scale))
        assert kstest(value.detach().flatten().numpy() / 2, "laplace").pvalue > 1e-6
        value.sum().backward()
        torch.testing.assert_close(loc.grad, torch.ones_like(loc))
        torch.testing.assert_close(scale.grad, value.detach() / 2, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("end", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laplace_draws_are_finite_at_both_ends(dtype: torch.dtype, end: float) -> None:
    class End(PerExample):
        def uniform(self, shape: torch.Size) -> Tensor:
            return torch.full(shape, end, dtype=torch.float64)

    with use(End(0, torch.arange(2))):
        value = reparameterised(Laplace(torch.zeros(1, 2, dtype=dtype), torch.ones(1, 2, dtype=dtype)))
    assert value.isfinite().all()
    assert (value < 0).all() == (end == 0.0)


def test_categories_are_chosen_with_their_probabilities() -> None:
    """Chi-squared, false alarm 1e-6."""
    probs = torch.tensor([0.1, 0.0, 0.25, 0.6, 0.05])
    counts = torch.bincount(chosen(probs.expand(1, DRAWS, 5)).flatten(), minlength=5)
    assert counts[1] == 0
    kept = probs > 0
    assert chisquare(counts[kept].numpy(), (DRAWS * probs[kept]).numpy()).pvalue > 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_impossible_categories_are_never_chosen_not_even_at_the_ends(dtype: torch.dtype) -> None:
    """Their sum may round to less than the largest uniform number."""

    class Ends(PerExample):
        def uniform(self, shape: torch.Size) -> Tensor:
            return torch.tensor([0.0, 1.0], dtype=torch.float64).expand(shape)

    probs = torch.cat([torch.zeros(3), torch.full((49,), 1 / 49), torch.zeros(2)]).to(dtype) * (1.0 - 1e-6)
    with use(Ends(0, torch.arange(2))):
        assert chosen(probs.expand(1, 2, 54)).tolist() == [[3, 51]]


def test_one_hot_draws_are_one_hot_and_the_straight_through_ones_have_the_gradient_of_the_probabilities() -> None:
    logits = torch.randn(1, 50, 4, requires_grad=True)
    plain = reparameterised(OneHotCategorical(logits=logits))
    assert not plain.requires_grad
    assert ((plain == 0) | (plain == 1)).all()
    assert (plain.sum(-1) == 1).all()
    weights = torch.randn(1, 50, 4)
    value = reparameterised(OneHotCategoricalStraightThrough(logits=logits))
    torch.testing.assert_close(value.detach().round(), value.detach(), rtol=0, atol=1e-15)
    (actual,) = torch.autograd.grad((value * weights).sum(), logits)
    (expected,) = torch.autograd.grad((logits.softmax(-1) * weights).sum(), logits)
    torch.testing.assert_close(actual, expected)


def test_mixture_draws_follow_the_mixture_and_take_an_event_from_one_component() -> None:
    """Kolmogorov-Smirnov in the first coordinate, false alarm 1e-6, with the component told by the second."""
    loc = torch.tensor([[-1.0, 10.0], [0.3, 20.0], [0.5, 30.0]]).requires_grad_()
    value = reparameterised(mixture(loc.expand(1, DRAWS, 3, 2)))[0]
    assert not value.requires_grad  # a gradient without that of the choice would be a wrong one
    weights, places = [0.2, 0.5, 0.3], [-1.0, 0.3, 0.5]
    assert (
        kstest(value[:, 0].numpy(), lambda x: np.average([norm.cdf(x, m, 0.1) for m in places], 0, weights)).pvalue
        > 1e-6
    )
    component = (value[:, 1] / 10).round().long() - 1
    for number, place in enumerate(places):
        own = value[component == number, 0]
        assert kstest(own.numpy(), lambda x, m=place: norm.cdf(x, m, 0.1)).pvalue > 1e-6
