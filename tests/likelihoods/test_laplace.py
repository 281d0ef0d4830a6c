"""Laplace likelihoods: an absolute error in nats."""

from __future__ import annotations

import math

import pytest
import torch

from vaekit.likelihoods import Laplace, LearnedScaleLaplace

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 7.0])
def test_the_constant_of_a_given_scale_is_what_a_perfect_reconstruction_costs(scale: float) -> None:
    part, x, context = Laplace((3, 4), scale=scale), torch.randn(5, 3, 4), torch.randn(2, 5, 3, 4)
    assert part.constant == pytest.approx(12 * math.log(2 * scale), rel=1e-13)
    rest = -part(context, model=None).log_prob(x) - part.constant
    torch.testing.assert_close(rest, (context - x).abs().sum((2, 3)) / scale, rtol=1e-9, atol=1e-9)


def test_the_constant_of_a_learned_scale_leaves_what_is_trained() -> None:
    part, x, context = LearnedScaleLaplace((3, 4), scale=0.3), torch.randn(5, 3, 4), torch.randn(2, 5, 3, 4)
    with torch.no_grad():
        part.theta.fill_(0.5 / LearnedScaleLaplace.GAIN)
    b = 0.3 * math.exp(0.5)
    assert part.constant == pytest.approx(12 * math.log(2), rel=1e-14)
    expected = (context - x).abs().sum((2, 3)) / b + 12 * math.log(b)
    actual = -part(context, model=None).log_prob(x).detach() - part.constant
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    assert part.parameters_of_note == {"laplace_scale": pytest.approx(b)}


@pytest.mark.parametrize("start", [0.05, 1.0, 20.0])
def test_a_learned_scale_converges_to_the_mean_absolute_error(start: float) -> None:
    """The maximum of -log(2b) - |x - mu| / b."""
    x, context = 0.4 * torch.randn(20, 3), torch.zeros(1, 20, 3)
    part = LearnedScaleLaplace((3,), scale=start)
    optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        (-part(context, model=None).log_prob(x).mean()).backward()
        optimizer.step()
    assert part.scale.item() == pytest.approx(x.abs().mean().item(), rel=1e-2)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("kind", [Laplace, LearnedScaleLaplace])
def test_an_impossible_scale_is_refused(kind: type, scale: float) -> None:
    with pytest.raises(ValueError, match="above 0") as caught:
        kind((2,), scale=scale)
    assert str(scale) in str(caught.value)
