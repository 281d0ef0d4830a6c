"""Likelihoods of discrete grey values, and the one of continuous ones that they are confused with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vaekit.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    Likelihood,
)
from vaekit.likelihoods.base import DataRange

pytestmark = pytest.mark.usefixtures("float64")

DISCRETE = [DiscretizedLogistic, DiscretizedLogisticMixture, Categorical]


def levels_of(x: Tensor, levels: int) -> Tensor:
    return (x * (levels - 1)).round() / (levels - 1)


@pytest.mark.parametrize("kind", DISCRETE)
def test_data_without_levels_are_refused_when_it_is_built(kind: Callable[..., Likelihood]) -> None:
    with pytest.raises(ValueError, match=r"continuous\. Write likelihood=normal"):
        kind((2,), None)
    with pytest.raises(ValueError, match="levels is 1, expected 2 or more"):
        kind((2,), 1)


def test_a_mixture_of_one_component_is_a_rounded_logistic() -> None:
    loc, x = torch.randn(2, 5, 3, 4), levels_of(torch.rand(5, 3, 4), 17)
    part = DiscretizedLogistic((3, 4), 17, scale=0.2)
    mixture = DiscretizedLogisticMixture((3, 4), 17, components=1)
    context = torch.cat([torch.randn_like(loc), loc, torch.full_like(loc, math.log(0.2))], 2)
    expected, actual = part(loc, model=None), mixture(context, model=None)
    torch.testing.assert_close(actual.log_prob(x), expected.log_prob(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(actual.mean, expected.mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "count"), [(DiscretizedLogisticMixture, 9), (Categorical, 3)])
def test_pixels_and_channels_keep_their_own_parameters(kind: Callable[..., Likelihood], count: int) -> None:
    """Changing the parameters of one value of an image changes its mean and no other."""
    part = kind((2, 4, 5), 3, components=3) if kind is DiscretizedLogisticMixture else kind((2, 4, 5), 3)
    assert part.context_shape == (2 * count, 4, 5)
    context = torch.randn(1, 1, *part.context_shape)
    other = context.clone()
    other[0, 0, 1::2, 2, 3] = torch.randn(count)  # parameter n of channel c stands at n * 2 + c
    changed = (part(context, model=None).mean != part(other, model=None).mean)[0, 0]
    assert changed[1, 2, 3]
    assert changed.sum() == 1


def test_a_categorical_is_a_softmax_over_levels() -> None:
    part = Categorical((1,), 4)
    logits = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]]).log()
    px = part(logits, model=None)
    torch.testing.assert_close(px.mean, torch.tensor([[[(0.2 + 0.6 + 1.2) / 3]]]))
    torch.testing.assert_close(px.log_prob(torch.tensor([2 / 3])), torch.tensor([[0.3]]).log())


def test_two_levels_are_a_bernoulli_variable() -> None:
    """The same nats from three sides, so that binary data compare across them."""
    logits, x = torch.randn(2, 5, 3), torch.randint(0, 2, (5, 3)).double()
    expected = Bernoulli((3,))(logits, model=None).log_prob(x)
    categorical = Categorical((3,), 2)(torch.cat([torch.zeros_like(logits), logits], -1), model=None)
    torch.testing.assert_close(categorical.log_prob(x), expected, rtol=1e-12, atol=1e-12)
    logistic = DiscretizedLogistic((3,), 2, scale=0.1)(0.5 + 0.1 * logits, model=None)
    torch.testing.assert_close(logistic.log_prob(x), expected, rtol=1e-10, atol=1e-10)


def test_many_levels_approach_the_density() -> None:
    """log P(x) + log(M - 1) tends to the log-density of the logistic variable, quadratically in the width of a level."""
    loc, s, errors = 0.4, 0.1, []
    for levels in (257, 513, 1025):
        part = DiscretizedLogistic((1,), levels, scale=s)
        actual = part(torch.tensor([[[loc]]]), model=None).log_prob(torch.tensor([0.75])).item() + math.log(levels - 1)
        a = (0.75 - loc) / s
        errors.append(abs(actual - (-a - 2 * math.log1p(math.exp(-a)) - math.log(s))))
    assert errors[0] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_a_learned_logistic_scale_is_learned() -> None:
    x = levels_of(0.5 + 0.05 * torch.rand(4000, 1).logit(), 256)
    part = DiscretizedLogistic((1,), 256)
    optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        (-part(torch.full((1, 4000, 1), 0.5), model=None).log_prob(x).mean()).backward()
        optimizer.step()
    # 6 standard errors of the scale: the Fisher information of log s is (3 + pi^2) / 9 for each value
    assert abs(math.log(part.parameters_of_note["logistic_scale"] / 0.05)) < 6 / (4000 * (3 + math.pi**2) / 9) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_output_of_a_decoder_makes_an_infinite_number(dtype: torch.dtype) -> None:
    outputs = itertools.product((0.0, 1e30), (-1e3, 0.5, 1e3), (-1e30, -50.0, 50.0, 1e30))
    context = torch.tensor([[list(output)] for output in outputs], dtype=dtype, requires_grad=True)
    px = DiscretizedLogisticMixture((1,), 256, components=1)(context, model=None)
    log_prob = px.log_prob(torch.tensor([128 / 255], dtype=dtype))
    assert log_prob.isfinite().all()
    (log_prob.sum() + px.mean.sum()).backward()
    assert context.grad.isfinite().all()


def test_components_begin_apart() -> None:
    """Alike, they would have one gradient and stay alike."""
    part, mean = DiscretizedLogisticMixture((1, 2, 2), 256, components=5), torch.rand(1, 2, 2)
    logits, loc, log_scale = part.beginning(mean).view(3, 5, 2, 2)
    assert (logits == 0).all()
    assert (loc.diff(dim=0) > 0.05).all()
    torch.testing.assert_close(loc.mean(0, keepdim=True), mean)
    torch.testing.assert_close(log_scale, torch.full_like(log_scale, math.log(0.1)))
    assert torch.equal(
        DiscretizedLogisticMixture((2,), 4, components=1).beginning(torch.tensor([0.2, 0.7]))[2:4],
        torch.tensor([0.2, 0.7]),
    )
    with pytest.raises(ValueError, match="components is 0"):
        DiscretizedLogisticMixture((2,), 4, components=0)


def test_binary_data_are_no_matter_for_a_density_on_the_unit_interval() -> None:
    with pytest.raises(ValueError, match=r"no bound.*Write likelihood=bernoulli, or data\.binarisation=none"):
        ContinuousBernoulli((2,)).check(DataRange(0.0, 1.0, 2))


def test_the_mean_of_a_continuous_bernoulli_is_not_its_probability() -> None:
    """Pictures of sigmoid(logits) would show another image."""
    px = ContinuousBernoulli((3,))(torch.tensor([[[0.0, 2.0, -50.0]]]), model=None)
    expected = torch.tensor([[[0.5, 1 / (1 - math.exp(-2.0)) - 0.5, 0.02]]])
    torch.testing.assert_close(px.mean, expected, rtol=1e-10, atol=1e-12)
