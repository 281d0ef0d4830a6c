"""Densities of given latents are those of a trace that drew them, whatever the structure of the model."""

# K samples, B batch, L dimensions of all latents

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.conditionals import Normal as NormalPosterior
from vaekit.likelihoods import Bernoulli, LearnedScaleNormal, Normal, OptimalScaleNormal
from vaekit.models import VAE, Trace, flat, residual_growing, two_layers
from vaekit.networks import MLP, Conditioned, Growth, OneHot
from vaekit.networks.residual import whole_gradient
from vaekit.priors import Mixture, StandardNormal, Vamp
from vaekit.schedules import advance

pytestmark = pytest.mark.usefixtures("float64")

K, B = 3, 4
D = 6


def mlp(**shapes: Any) -> MLP:
    return MLP(**shapes, hidden_dims=(7,), activation="tanh")


def told(in_shape: Any, out_shape: Any) -> Conditioned:
    return Conditioned(in_shape, out_shape, mlp, OneHot(3))


def two() -> VAE:
    upper, lower = NormalPosterior((2,)), NormalPosterior((3,))
    return two_layers(mlp, mlp, upper, StandardNormal((2,)), Bernoulli((D,)), mlp, mlp, lower, NormalPosterior((3,)))


def residual(step: int = 99) -> VAE:
    model = residual_growing(
        lambda: NormalPosterior((2,)), lambda: StandardNormal((2,)), lambda: NormalPosterior((2,)), Bernoulli,
        LearnedScaleNormal, Growth(2, 8, epochs_per_stage=2, fadein_ratio=0.5, steps_per_epoch=4), (1, 8, 8), 4, 3,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    advance(model, step)
    return model


MODELS: dict[str, Callable[[], VAE]] = {
    "flat": lambda: flat(mlp, mlp, NormalPosterior((3,)), StandardNormal((3,)), Bernoulli((D,))),
    "map": lambda: flat(mlp, mlp, NormalPosterior((2, 3)), StandardNormal((2, 3)), OptimalScaleNormal((D,))),
    "conditional": lambda: flat(told, told, NormalPosterior((3,)), StandardNormal((3,)), Normal((D,), scale=0.7)),
    "mixture": lambda: flat(mlp, mlp, NormalPosterior((3,)), Mixture((3,), components=4), Bernoulli((D,))),
    "vamp": lambda: flat(mlp, mlp, NormalPosterior((3,)), Vamp((3,), (D,), components=5), Bernoulli((D,))),
    "two layers": two,
    "residual": residual,
    "residual with two stages open": lambda: residual(15),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def case(request: pytest.FixtureRequest) -> tuple[VAE, Tensor, Tensor, Trace, Tensor]:
    """A model, data, their context, a trace and its draws side by side."""
    model = request.param().eval()
    x, context = torch.rand(B, *model.event_shape), torch.tensor([0, 2, 1, 1])
    trace = model(x, K, context)
    return model, x, context, trace, torch.cat([latent.draw.value.flatten(2) for latent in trace.latents], -1)


def test_the_joint_density_is_that_of_the_trace(case: tuple[VAE, Tensor, Tensor, Trace, Tensor]) -> None:
    model, x, context, trace, z = case
    log_p = torch.stack([latent.log_p for latent in trace.latents]).sum(0)
    joint = model.log_joint(x, z, context)
    assert joint.shape == (K, B)
    torch.testing.assert_close(joint, trace.log_px + log_p, rtol=1e-12, atol=1e-12)
    prior, px = model.prior_and_likelihood(z, context)
    torch.testing.assert_close(prior, log_p, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(px.log_prob(x), trace.log_px, rtol=1e-12, atol=1e-12)
    # of other values it is another: nothing is drawn, and nothing of the data but x is seen
    assert (model.log_joint(x, z.flip(1), context) - joint).abs().min() > 1e-6


def test_a_trace_at_given_latents_is_the_trace_that_drew_them(case: tuple[VAE, Tensor, Tensor, Trace, Tensor]) -> None:
    model, x, context, trace, z = case
    for features in (None, model.features(x, K, context)):
        again = model.trace_at(x, z, context, features)
        torch.testing.assert_close(again.log_w, trace.log_w, rtol=1e-12, atol=1e-12)
        for latent, drawn in zip(again.latents, trace.latents, strict=True):
            assert latent.name == drawn.name
            assert torch.equal(latent.draw.value, drawn.draw.value)
            torch.testing.assert_close(latent.log_q, drawn.log_q, rtol=1e-12, atol=1e-12)


def test_too_many_values_are_refused(case: tuple[VAE, Tensor, Tensor, Trace, Tensor]) -> None:
    model, x, context, _, z = case
    for wrong in (torch.cat([z, z], -1), z[..., 1:]):
        with pytest.raises(
            ValueError, match=f"The latents of this model have {z.shape[-1]} dimensions in all, received"
        ):
            model.log_joint(x, wrong, context)


def test_the_whole_gradient_passes_through_the_images_below() -> None:
    """In training a stage is not moved for those above it; within `whole_gradient` the gradient is that of finite differences."""
    model = residual().eval()
    x, z = torch.rand(B, 1, 8, 8), torch.randn(1, B, 6, requires_grad=True)

    def joint(z: Tensor) -> Tensor:
        return model.log_joint(x, z).sum()

    (cut,) = torch.autograd.grad(joint(z), z)
    with whole_gradient():
        (whole,) = torch.autograd.grad(joint(z), z)
    step = 1e-6 * torch.eye(6)
    with torch.no_grad():
        differences = torch.stack([(model.log_joint(x, z + e) - model.log_joint(x, z - e)) / 2e-6 for e in step], -1)
    torch.testing.assert_close(whole, differences, rtol=1e-5, atol=1e-5)
    assert (cut[..., :4] - whole[..., :4]).abs().max() > 1e-3
    torch.testing.assert_close(cut[..., 4:], whole[..., 4:])
