"""The normal likelihood with a scale for each value."""

from __future__ import annotations

import math

import pytest
import torch

from vaekit.likelihoods import Normal, PixelNormal

pytestmark = pytest.mark.usefixtures("float64")


def test_alike_variances_are_those_of_a_shared_scale() -> None:
    loc, x = torch.randn(2, 5, 3, 4), torch.randn(5, 3, 4)
    part = PixelNormal((3, 4), floor=0.1)
    context = torch.cat([loc, torch.full_like(loc, math.log(0.49 - 0.01))], 2)
    expected = Normal((3, 4), scale=0.7)(loc, model=None).log_prob(x)
    torch.testing.assert_close(part(context, model=None).log_prob(x), expected, rtol=1e-12, atol=1e-12)


def test_channels_of_an_image_keep_their_own_parameters() -> None:
    """The means of all channels come first, then all variances."""
    context = torch.randn(1, 1, 6, 4, 5)
    px = PixelNormal((3, 4, 5))(context, model=None)
    assert torch.equal(px.mean[0, 0], context[0, 0, :3])
    torch.testing.assert_close(px.variance[0, 0], 1e-6 + context[0, 0, 3:].exp(), rtol=1e-12, atol=0)


def test_a_value_that_never_changes_is_worth_a_bounded_number_of_nats() -> None:
    """And the way back from the floor is open: where the error is large, the gradient asks for more variance."""
    part = PixelNormal((1,))
    context = torch.tensor([[[0.3, -1e4]]])
    best = part(context, model=None).log_prob(torch.tensor([0.3])).item()
    assert best == pytest.approx(-math.log(1e-3) - 0.5 * math.log(2 * math.pi), rel=1e-6)
    context = torch.tensor([[[0.3, -18.0]]], requires_grad=True)
    part(context, model=None).log_prob(torch.tensor([0.8])).sum().backward()
    assert context.grad[0, 0, 1] > 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_output_of_a_decoder_makes_an_infinite_number(dtype: torch.dtype) -> None:
    context = torch.tensor([[[0.0, s]] for s in (-1e30, -200.0, 0.0, 200.0, 1e30)], dtype=dtype, requires_grad=True)
    log_prob = PixelNormal((1,))(context, model=None).log_prob(torch.ones(1, dtype=dtype))
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    assert context.grad.isfinite().all()


def test_the_constant_leaves_what_is_trained() -> None:
    part, x, context = PixelNormal((3,)), torch.randn(5, 3), torch.randn(2, 5, 6)
    loc, variance = context[..., :3], 1e-6 + context[..., 3:].exp()
    expected = ((x - loc).square() / (2 * variance) + 0.5 * variance.log()).sum(-1)
    torch.testing.assert_close(-part(context, model=None).log_prob(x) - part.constant, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("floor", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_floor_is_refused(floor: float) -> None:
    with pytest.raises(ValueError, match=r"floor is .* above 0"):
        PixelNormal((2,), floor=floor)
