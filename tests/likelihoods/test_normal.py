"""Normal likelihoods: three ways to one scale."""

# K samples, B batch, D values of one example

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.likelihoods import LearnedScaleNormal, Normal, OptimalScaleNormal
from vaekit.objectives import Reconstruction

pytestmark = pytest.mark.usefixtures("float64")

HALF_LOG_2PI = 0.9189385332046727


def nll(part: Any, context: Tensor, x: Tensor) -> Tensor:
    return -part.adapt(part(context, model=None), x).log_prob(x)


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 7.0])
def test_the_constant_of_a_given_scale_is_what_a_perfect_reconstruction_costs(scale: float) -> None:
    part, x = Normal((3, 4), scale=scale), torch.randn(5, 3, 4)
    perfect = nll(part, x[None], x)
    torch.testing.assert_close(perfect, torch.full_like(perfect, part.constant), rtol=1e-12, atol=1e-12)
    context = torch.randn(2, 5, 3, 4)
    rest = nll(part, context, x) - part.constant
    torch.testing.assert_close(rest, (context - x).square().sum((2, 3)) / (2 * scale**2), rtol=1e-9, atol=1e-9)


def test_the_constant_of_a_learned_scale_leaves_what_is_trained() -> None:
    part, x, context = LearnedScaleNormal((3, 4), scale=0.3), torch.randn(5, 3, 4), torch.randn(2, 5, 3, 4)
    with torch.no_grad():
        part.theta.fill_(0.5 / LearnedScaleNormal.GAIN)
    sigma = 0.3 * math.exp(0.5)
    assert part.constant == pytest.approx(12 * HALF_LOG_2PI, rel=1e-14)
    expected = (context - x).square().sum((2, 3)) / (2 * sigma**2) + 12 * math.log(sigma)
    torch.testing.assert_close(nll(part, context, x).detach() - part.constant, expected, rtol=1e-12, atol=1e-12)


def test_the_constant_of_the_optimal_scale_leaves_the_profile_likelihood() -> None:
    """In training the batch mean of -log p, less the constant, is D/2 log MSE."""
    part, x, context = OptimalScaleNormal((3, 4)), torch.randn(5, 3, 4), torch.randn(2, 5, 3, 4)
    assert part.constant == pytest.approx(6 + 12 * HALF_LOG_2PI, rel=1e-14)
    mse = (context - x).square().mean()
    torch.testing.assert_close(nll(part, context, x).mean() - part.constant, 6 * mse.log(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("kind", [Normal, LearnedScaleNormal])
def test_an_impossible_scale_is_refused(kind: type, scale: float) -> None:
    with pytest.raises(ValueError, match="above 0") as caught:
        kind((2,), scale=scale)
    assert str(scale) in str(caught.value)


def test_a_given_scale_is_exact_in_the_precision_of_the_model() -> None:
    part = Normal((2,), scale=0.1)
    assert part.float().scale.dtype == torch.float32
    assert part.double().scale.item() == 0.1
    assert part.state_dict() == {}
    assert part.scale.shape == ()


def test_the_optimal_scale_has_the_gradient_of_the_profile_likelihood() -> None:
    """That of D/2 log MSE, by the envelope theorem, although nothing is differentiated through the scale."""
    part, x = OptimalScaleNormal((3, 4)), torch.randn(5, 3, 4)
    context = torch.randn(2, 5, 3, 4, requires_grad=True)
    (actual,) = torch.autograd.grad(nll(part, context, x).mean(), context)
    (expected,) = torch.autograd.grad(6 * (context - x).square().mean().log(), context)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)


def test_the_optimal_scale_is_optimal() -> None:
    part, x, context = OptimalScaleNormal((3, 4)), torch.randn(5, 3, 4), torch.randn(2, 5, 3, 4)
    px = part.adapt(part(context, model=None), x)
    best = px.stddev.unique().item()
    assert best == pytest.approx((context - x).square().mean().sqrt().item(), rel=1e-14)
    for other in (0.99 * best, 1.01 * best):
        assert -px.log_prob(x).mean() < nll(Normal((3, 4), scale=other), context, x).mean()


def test_the_running_average_of_the_optimal_scale_has_no_start_up_bias() -> None:
    """After n steps: a weighted mean of the n optimal variances with weights 0.95^(n - i), normalised."""
    part, seen = OptimalScaleNormal((4,)), []
    for step in range(1, 8):
        x, context = step * torch.randn(5, 4), torch.randn(1, 5, 4)
        nll(part, context, x)
        seen.append((context - x).square().mean().item())
        weights = [0.95 ** (step - i) for i in range(1, step + 1)]
        expected = sum(w * v for w, v in zip(weights, seen, strict=True)) / sum(weights)
        assert part.scale.item() == pytest.approx(expected**0.5, rel=1e-12)


def test_outside_training_the_optimal_scale_is_one_fixed_density() -> None:
    part, x, context = OptimalScaleNormal((4,)), torch.randn(6, 4), torch.randn(2, 6, 4)
    assert part.scale.item() == 1.0
    for _ in range(3):
        nll(part, torch.zeros(1, 50, 4), 0.2 * torch.randn(50, 4))
    part.eval()
    scale = part.scale.item()
    assert scale == pytest.approx(0.2, rel=0.1)
    whole = nll(part, context, x)
    torch.testing.assert_close(whole, nll(Normal((4,), scale=scale), context, x), rtol=1e-12, atol=1e-12)
    parts = [nll(part, context[:, rows], x[rows]) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-14, atol=1e-14)
    assert part.scale.item() == scale


def test_the_running_average_is_part_of_the_state() -> None:
    part, other = OptimalScaleNormal((4,)), OptimalScaleNormal((4,))
    nll(part, torch.zeros(1, 5, 4), torch.randn(5, 4))
    other.load_state_dict(part.state_dict())
    assert other.scale.item() == part.scale.item() != 1.0


def test_a_perfect_reconstruction_does_not_send_the_density_to_infinity() -> None:
    part, x = OptimalScaleNormal((4,)), torch.randn(5, 4)
    context = x[None].clone().requires_grad_()
    loss = nll(part, context, x).mean()
    loss.backward()
    assert loss.item() == pytest.approx(4 * (math.log(1e-3) + HALF_LOG_2PI))
    assert context.grad.isfinite().all()
    assert part.scale.item() == 1e-3


def test_the_optimal_scale_carries_no_gradient() -> None:
    part, x = OptimalScaleNormal((4,)), torch.randn(5, 4)
    context = torch.randn(1, 5, 4, requires_grad=True)
    assert not part.adapt(part(context, model=None), x).stddev.requires_grad
    assert not part.variance.requires_grad


@pytest.mark.parametrize("start", [0.05, 1.0, 20.0])
def test_a_learned_scale_converges_to_the_optimal_one(start: float) -> None:
    x, context = 0.4 * torch.randn(20, 3), torch.zeros(1, 20, 3)
    part, optimal = LearnedScaleNormal((3,), scale=start), OptimalScaleNormal((3,))
    nll(optimal, context, x)
    optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        nll(part, context, x).mean().backward()
        optimizer.step()
    assert part.scale.item() == pytest.approx(optimal.scale.item(), rel=1e-3)


def test_a_learned_scale_moves_its_gain_times_the_learning_rate() -> None:
    part, x = LearnedScaleNormal((3,), scale=2.0), torch.randn(5, 3)
    optimizer = torch.optim.Adam(part.parameters(), lr=1e-3)
    assert part.scale.item() == pytest.approx(2.0, rel=1e-14)
    nll(part, torch.zeros(1, 5, 3), x).mean().backward()
    optimizer.step()
    assert math.log(part.scale.item() / 2.0) == pytest.approx(-1e-3 * LearnedScaleNormal.GAIN, rel=1e-6)


def test_the_scale_of_one_example_does_not_depend_on_the_number_of_samples(make_normals: Any) -> None:
    """Duplicating samples or examples leaves the optimal scale and the loss."""
    x, context = torch.randn(4, 3), torch.randn(2, 4, 3)
    once = Reconstruction()(make_normals(OptimalScaleNormal((3,)), context, x)).mean()
    twice = Reconstruction()(make_normals(OptimalScaleNormal((3,)), context.repeat(2, 2, 1), x.repeat(2, 1))).mean()
    torch.testing.assert_close(once, twice, rtol=1e-13, atol=1e-13)


@pytest.fixture
def make_normals() -> Any:
    from vaekit.models import Trace

    def make(part: Any, context: Tensor, x: Tensor) -> Trace:
        return Trace(x, part.adapt(part(context, model=None), x), ())

    return make
