"""The residual progressive VAE: its bound term by term, that it is one, and that no stage is moved for those above it."""

# K samples, B batch, (C, H, W) image, r resolution of a stage, s stage

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vaekit import runs
from vaekit.conditionals import Normal as NormalPosterior
from vaekit.data import Split
from vaekit.distributions.noise import PerExample, standard_normal, use
from vaekit.errors import ConfigError
from vaekit.evaluation import active_units, kl_per_dimension
from vaekit.evaluation.passes import Plan, encodings
from vaekit.likelihoods import Bernoulli, LearnedScaleNormal, Normal, OptimalScaleNormal, Pyramid
from vaekit.likelihoods.base import DataRange
from vaekit.math.importance import importance_bound
from vaekit.models import VAE, residual_growing
from vaekit.networks import Growth
from vaekit.priors import StandardNormal
from vaekit.schedules import advance

IMAGE, LATENT = (2, 8, 8), 3
SIDES = (2, 4, 8)
OPEN = [(0, 1), (15, 2), (99, 3)]  # (step, open stages)


def learned(**given: Any) -> LearnedScaleNormal:
    return LearnedScaleNormal(**given, scale=0.4)


def make(
    image: tuple[int, ...] = IMAGE,
    latent: int = LATENT,
    residual: Callable[..., Any] = learned,
    finer: Any = NormalPosterior,
) -> VAE:
    growth = Growth(2, image[-1], epochs_per_stage=2, fadein_ratio=0.5, steps_per_epoch=4)
    torch.manual_seed(1)
    model = residual_growing(
        posterior=lambda: NormalPosterior((latent,)), prior=lambda: StandardNormal((latent,)),
        finer_prior=lambda: finer((latent,)), likelihood=Bernoulli, residual=residual,
        growth=growth, event_shape=image, base_ch=6, min_ch=3,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():  # away from an initialisation where residuals are near zero
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def pooled(x: Tensor, r: int) -> Tensor:
    f = x.shape[-1] // r
    return x.reshape(*x.shape[:-2], r, f, r, f).mean((-3, -1))


def twice(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def images_of(model: VAE, z: list[Tensor], alpha: float = 1.0) -> list[Tensor]:
    """From latents (K, B, L) of the open stages: the logits of stage 0, then the means of the others."""
    levels = model.hierarchy.levels
    first = levels[0].merge.network(z[0])
    images, seen = [first], first.sigmoid()
    for s in range(1, len(z)):
        below = twice(seen)
        share = alpha if s == len(z) - 1 else 1.0
        seen = below + share * levels[s].merge.network(z[s], below)
        images.append(seen)
    return images


def normal(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log-density, summed over the image."""
    return (-0.5 * ((x - loc) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum((-3, -2, -1))


def terms_by_hand(model: VAE, x: Tensor, images: list[Tensor]) -> list[Tensor]:
    """log p of each open stage, (K, B)."""
    n = (8 // 2) ** 2
    logits, coarse = images[0], pooled(x, 2)
    terms = [n * (coarse * logsigmoid(logits) + (1 - coarse) * logsigmoid(-logits)).sum((-3, -2, -1))]
    for s, mean in enumerate(images[1:], start=1):
        theta = model.likelihood.parts[s].theta
        terms.append(normal(pooled(x, SIDES[s]), mean, 0.4 * (20 * theta).exp()))
    return terms


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("step", "stages"), [*OPEN, (8, 2), (10, 2), (17, 3)])
def test_the_bound_is_the_sum_of_its_terms(step: int, stages: int) -> None:
    model, x = make(), torch.rand(4, *IMAGE)
    advance(model, step)
    alpha = {8: 0.0, 10: 0.5, 17: 0.25}.get(step, 1.0)
    trace = model(x, samples=3)
    assert [latent.name for latent in trace.latents] == [f"z{s}" for s in range(stages)]
    z = [latent.draw.value for latent in trace.latents]
    images = images_of(model, z, alpha)
    terms = terms_by_hand(model, x, images)
    assert len(terms) == stages
    torch.testing.assert_close(trace.log_px, torch.stack(terms).sum(0), rtol=1e-11, atol=1e-10)
    kl = torch.zeros(3, 4)
    for s, latent in enumerate(trace.latents):
        loc, scale = latent.q.mean, latent.q.stddev
        m, t = torch.zeros_like(loc), torch.ones_like(scale)
        if s > 0:  # its prior sees the image below, at the resolution of that
            seen = images[s - 1].sigmoid() if s == 1 else images[s - 1]
            m, log_variance = model.hierarchy.levels[s].inform.network(seen).chunk(2, -1)
            t = (0.5 * log_variance).exp()
        kl = kl + (0.5 * ((loc - m) ** 2 + scale**2) / t**2 - 0.5 + (t / scale).log()).sum(-1)
    torch.testing.assert_close(trace.kl(), kl, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("float64")
def test_each_posterior_sees_the_residual_of_its_stage() -> None:
    """And what the stages below have drawn, so that its latent depends on theirs."""
    model, x = make(), torch.rand(4, *IMAGE)
    advance(model, 99)
    trace = model(x, samples=3)
    images = images_of(model, [latent.draw.value for latent in trace.latents])
    for s, latent in enumerate(trace.latents):
        image = pooled(x, SIDES[s]).expand(3, 4, 2, SIDES[s], SIDES[s])
        if s > 0:
            below = twice(images[s - 1].sigmoid() if s == 1 else images[s - 1])
            image = torch.cat([image - below, below], 2)
        m, log_variance = model.hierarchy.levels[s].join.network(image).chunk(2, -1)
        torch.testing.assert_close(latent.q.mean, m, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(latent.q.stddev, (0.5 * log_variance).exp(), rtol=1e-11, atol=1e-12)
    assert (trace.latents[0].q.mean.std(0) == 0).all()
    assert (trace.latents[1].q.mean.std(0) > 0).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_terms_of_a_stage_move_its_own_parameters_alone(stage: int) -> None:
    """Its likelihood and its KL: not a bit of gradient to the stages below, and none to those above."""
    model, x = make(), torch.rand(4, *IMAGE)
    advance(model, 99)
    for kind in ("likelihood", "kl"):
        model.zero_grad(set_to_none=True)
        trace = model(x, samples=2)
        part = trace.px.parts[stage]
        log_px = part.log_prob(pooled(x, SIDES[stage]) if stage > 0 else x)
        (log_px if kind == "likelihood" else trace.latents[stage].kl()).sum().backward()
        touched = {
            name for name, parameter in model.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }  # fmt: skip
        expected = (f"hierarchy.levels.{stage}.join.",)
        if kind == "kl":
            expected += (f"hierarchy.levels.{stage}.inform.",)
        if kind == "likelihood":
            expected += (f"hierarchy.levels.{stage}.merge.",) + ((f"likelihood.parts.{stage}.",) if stage > 0 else ())
        own = {name for name, _ in model.named_parameters() if name.startswith(expected)}
        # one 1x1 convolution takes the image in, at the stage's own resolution; the prior's at that of the image below
        used = (f"join.network.take_in.{stage}.", f"inform.network.take_in.{stage - 1}.")
        closed = {name for name in own if ".take_in." in name and not any(end in name for end in used)}
        assert touched == own - closed


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("step", "stages"), OPEN)
def test_closed_stages_are_not_evaluated(step: int, stages: int) -> None:
    model, x = make(), torch.rand(4, *IMAGE)
    advance(model, step)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(name.startswith((f"hierarchy.levels.{s}.", f"likelihood.parts.{s}.")) for s in range(stages, 3)):
                parameter.fill_(math.nan)
    log_w = model(x).log_w
    assert log_w.isfinite().all()
    log_w.sum().backward()
    for name, parameter in model.named_parameters():
        if any(name.startswith((f"hierarchy.levels.{s}.", f"likelihood.parts.{s}.")) for s in range(stages, 3)):
            assert parameter.grad is None, name


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("step", "stages"), [*OPEN, (10, 2)])
def test_coding_and_drawing_use_the_open_stages(step: int, stages: int) -> None:
    model, x = make().eval(), torch.rand(4, *IMAGE)
    advance(model, step)
    code = model.encode(x)
    assert code.shape == model.encode_scale(x).shape == (4, stages * LATENT)
    torch.testing.assert_close(model.decode(code).mean[0], model.reconstruct(x), rtol=1e-12, atol=1e-12)
    assert model.reconstruct(x).shape == x.shape
    assert [level.name for level in model.hierarchy.open()] == [f"z{s}" for s in range(stages)]
    with pytest.raises(ValueError, match=rf"{stages * LATENT} dimensions in all, received an array of shape \(4, 10\)"):
        model.decode(torch.zeros(4, 10))
    assert model.posterior(x).event_shape == (LATENT,)
    assert model.sample(3).shape == (3, *IMAGE)
    blocks = twice(pooled(model.sample(3), SIDES[stages - 1])) if stages < 3 else None
    assert blocks is None or blocks.shape[-1] == 2 * SIDES[stages - 1]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("step", "stages"), OPEN)
def test_samples_of_the_prior_are_what_its_latents_decode_to(step: int, stages: int) -> None:
    model, index = make().eval(), torch.arange(5)
    advance(model, step)
    with use(PerExample(7, index)):
        generated = model.generate(5)
    with use(PerExample(7, index)):  # the same noise, drawn stage by stage from what the image below says of the latent
        z: list[Tensor] = []
        for s in range(stages):
            m, t = torch.zeros(1, 5, LATENT), torch.ones(1, 5, LATENT)
            if s > 0:
                image = images_of(model, z)[-1]
                m, log_variance = (
                    model.hierarchy.levels[s].inform.network(image.sigmoid() if s == 1 else image).chunk(2, -1)
                )
                t = (0.5 * log_variance).exp()
            z.append(m + t * standard_normal(m.shape, dtype=m.dtype, device=m.device))
    torch.testing.assert_close(generated.mean, model.decode(torch.cat(z, -1)[0]).mean, rtol=1e-12, atol=1e-12)
    mean = images_of(model, z)[-1]
    mean = mean.sigmoid() if stages == 1 else mean
    while mean.shape[-1] < 8:
        mean = twice(mean)
    torch.testing.assert_close(generated.mean, mean, rtol=1e-12, atol=1e-12)


def tiny(finer: Any) -> VAE:
    """2 x 2 and 4 x 4 pixels, a latent of one dimension each, grown."""
    model = make((1, 4, 4), latent=1, finer=finer)
    advance(model, 99)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "merge" in name:
                parameter.mul_(3.0)  # so that the latents matter
    return model.eval()


def prior(level: Any, state: Tensor, z: Tensor) -> Tensor:
    if isinstance(level.prior, StandardNormal):
        return -0.5 * z[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)
    m, log_variance = level.inform(state)[0].unbind(-1)
    return -0.5 * ((z[:, 0] - m) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi))


def evidence(model: VAE, x: Tensor) -> Tensor:
    """log p(b, x_1) of each image by the trapezoidal rule over both latents; b is the binary image."""
    z = torch.linspace(-7.0, 7.0, 71)
    grid = torch.cartesian_prod(z, z)
    with torch.no_grad():
        first, second = model.hierarchy.levels
        state = first.merge(torch.zeros(1, len(grid), 0), grid[None, :, :1])
        log_prior = -0.5 * grid[:, 0] ** 2 - 0.5 * math.log(2 * math.pi) + prior(second, state, grid[:, 1:])
        px = model.decode(grid)
        log_px = torch.stack([px.log_prob(one.expand(1, len(grid), 1, 4, 4))[0] for one in x])
    return (log_px + log_prior).logsumexp(1) + 2 * math.log(float(z[1] - z[0]))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("finer", [NormalPosterior, StandardNormal], ids=["learned prior", "standard normal"])
def test_the_bound_is_below_the_evidence_of_all_resolutions_and_rises_towards_it(finer: Any) -> None:
    """ELBO < 5-sample bound < 100-sample bound < evidence, each by 4 standard errors or more: false alarm 3e-5 a comparison."""
    model, x = tiny(finer), (torch.rand(3, 1, 4, 4) > 0.5).double()
    exact = evidence(model, x)
    with torch.no_grad():
        log_w = model(x, samples=12_000).log_w
    assert log_w.std(0).min() > 0.01
    bounds = {}
    for K in (1, 5, 100):
        estimates = importance_bound(log_w.reshape(K, -1, 3))
        bounds[K] = (estimates.mean(0), estimates.std(0) / len(estimates) ** 0.5)
    for (lower, low_error), (higher, high_error) in zip(
        (bounds[1], bounds[5], bounds[100]), (bounds[5], bounds[100], (exact, torch.zeros(3))), strict=True
    ):
        assert (lower - higher < 4 * (low_error**2 + high_error**2).sqrt()).all()
    assert (bounds[1][0] < exact - 4 * bounds[1][1]).all()
    assert ((exact - bounds[100][0]) < 0.2 * (exact - bounds[1][0])).all()
    everything, error = log_w.logsumexp(0) - math.log(12_000), (log_w - log_w.max(0).values).exp()
    error = error.std(0) / error.mean(0) / 12_000**0.5
    assert ((everything - exact).abs() < 5 * error + 1e-6).all()  # unbiased weights: 6e-7 each


@pytest.mark.usefixtures("float64")
def test_the_likelihood_is_a_density_of_the_tuple() -> None:
    """Its factors given z: the base sums to one over binary images, the others are normals, which integrate to one."""
    pyramid = Pyramid((1, 4, 4), Bernoulli, lambda **given: Normal(**given, scale=0.5), start_res=2)
    context = torch.randn(2, 3, *pyramid.context_shape)
    px = pyramid(context, model=None)
    assert px.batch_shape == (2, 3)
    assert px.event_shape == (1, 4, 4)
    base, finer = px.parts
    logits = twice(context[..., :4].reshape(2, 3, 1, 2, 2))
    assert torch.equal(base.base_dist.logits, logits)
    assert torch.equal(finer.mean, context[..., 4:].reshape(2, 3, 1, 4, 4))
    assert (finer.stddev == 0.5).all()
    assert torch.equal(px.mean, finer.mean)
    x = torch.rand(3, 1, 4, 4)
    expected = (x * logsigmoid(logits) + (1 - x) * logsigmoid(-logits)).sum((-3, -2, -1)) + normal(
        x, finer.mean, torch.tensor(0.5)
    )
    torch.testing.assert_close(px.log_prob(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 3, 4)])
def test_the_batch_is_what_leads_the_context(lead: tuple[int, ...]) -> None:
    pyramid = Pyramid((1, 4, 4), Bernoulli, lambda **given: Normal(**given, scale=0.5), start_res=2)
    context, x = torch.randn(*lead, *pyramid.context_shape), torch.rand(*lead, 1, 4, 4)
    px = pyramid(context, model=None)
    assert px.batch_shape == lead
    whole = pyramid(context.reshape(1, -1, 20), model=None).log_prob(x.reshape(1, -1, 1, 4, 4))
    torch.testing.assert_close(px.log_prob(x), whole.reshape(lead), rtol=1e-13, atol=1e-13)


@pytest.mark.usefixtures("float64")
def test_a_scale_in_closed_form_is_that_of_its_own_resolution() -> None:
    model, x = make(residual=OptimalScaleNormal), torch.rand(6, *IMAGE)
    advance(model, 15)  # two of three stages
    trace = model(x, samples=2)
    assert len(trace.px.parts) == 2
    finest = trace.px.finest
    expected = (pooled(x, 4) - finest.mean).square().mean().sqrt().detach()
    torch.testing.assert_close(finest.stddev, expected.expand_as(finest.stddev))
    assert float(model.likelihood.parts[2].weight) == 0.0  # closed
    model.eval()
    torch.testing.assert_close(model(x).px.finest.stddev.unique().squeeze(), expected)
    px = model.likelihood(torch.zeros(1, 6, *model.likelihood.context_shape), model)
    assert model.likelihood.adapt(px, x) is px


def test_what_a_pyramid_says_of_itself() -> None:
    pyramid = Pyramid((1, 8, 8), Bernoulli, lambda **given: LearnedScaleNormal(**given, scale=0.25), start_res=2)
    assert pyramid.parameters_of_note == pytest.approx({"sigma_4x4": 0.25, "sigma_8x8": 0.25})
    assert pyramid.context_shape == (4 + 16 + 64,)
    pyramid.check(DataRange(0.0, 1.0))
    with pytest.raises(ValueError, match=r"\[0, 1\], received values in \[0, 255\]"):
        pyramid.check(DataRange(0.0, 255.0))
    with pytest.raises(ValueError, match="power of two"):
        Pyramid((1, 9, 9), Bernoulli, Normal, start_res=2)


def test_a_base_that_is_no_bernoulli_is_refused() -> None:
    growth = Growth(2, 8, epochs_per_stage=1, fadein_ratio=0.0, steps_per_epoch=1)
    with pytest.raises(ValueError, match=r"base.*logits, received Normal.*likelihood=bernoulli"):
        residual_growing(
            posterior=lambda: NormalPosterior((1,)), prior=lambda: StandardNormal((1,)),
            finer_prior=lambda: StandardNormal((1,)), likelihood=Normal, residual=Normal, growth=growth, event_shape=IMAGE,
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"received 28 x 28.*data\.resolution=8"):
        residual_growing(
            posterior=lambda: NormalPosterior((1,)), prior=lambda: StandardNormal((1,)),
            finer_prior=lambda: StandardNormal((1,)), likelihood=Bernoulli, residual=Normal, growth=growth, event_shape=(1, 28, 28),
        )  # fmt: skip


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("step", "stages"), OPEN)
def test_numbers_by_latent_dimension_of_all_open_latents(step: int, stages: int) -> None:
    model = make()
    advance(model, step)
    split, plan = Split(torch.rand(12, *IMAGE), ()), Plan(batch_size=5, samples=2)
    means, scales = encodings(model, split, plan)
    assert means.shape == scales.shape == (12, stages * LATENT)
    kl = kl_per_dimension(model, split, plan)
    assert kl.shape == (stages * LATENT,)
    first = 0.5 * (means**2 + scales**2 - 1 - 2 * scales.log()).mean(0)[:LATENT]  # of stage 0 nothing is drawn before
    torch.testing.assert_close(kl[:LATENT], first, rtol=1e-10, atol=1e-12)
    assert f"of {stages * LATENT} dimensions" in active_units(means).estimator


SMALL = ("model=residual_progressive", "final_res=8", "base_ch=8", "min_ch=4", "epochs_per_stage=1")


def test_a_whole_training(train: Any) -> None:
    run = train("run", *SMALL, "data.binarisation=none")
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.folder.environment()["best_epoch"] == 2  # the first is of half a model, whatever its numbers
    model = runs.load(run.path)
    assert [level.name for level in model.hierarchy.open()] == ["z0", "z1"]
    assert not model.hierarchy.growth.fading
    x = run.dataset.test.batch(torch.arange(5)).x
    assert model.encode(x).shape == (5, 4)
    assert model.reconstruct(x).shape == model.sample(5).shape == x.shape
    assert run.metrics["sigma_8x8"].value != 0.2  # where it starts
    assert math.isfinite(run.metrics["elbo"].value)


@pytest.mark.slow
def test_it_learns(train: Any) -> None:
    """Each stage, its likelihood and its KL: more nats than it begins with, and images nearer to the data than their mean is."""
    run = train(
        "run", *SMALL, "epochs_per_stage=10", "base_ch=16", "training.batch_size=50", "data.binarisation=none",
        "optimizer.lr=3e-3", "latent_dim=4",
    )  # fmt: skip
    elbo = [row["val/elbo"] for row in run.history]
    assert elbo[9] > elbo[0]
    assert elbo[19] > elbo[10]
    x = run.dataset.test.batch(torch.arange(180)).x
    error = (run.model.reconstruct(x) - x).square().mean()
    assert error < 0.7 * (x - x.mean(0)).square().mean()
    kl = kl_per_dimension(run.model, run.dataset.test, run.plan)
    assert kl[:4].sum() > 1.0
    assert kl[4:].sum() > 1.0


@pytest.mark.parametrize(("ratio", "stops"), [(1.0, (3, 4, 5, 7)), (0.0, (4, 6))])
def test_stopped_and_resumed_while_it_grows(train: Any, same: Any, ratio: float, stops: tuple[int, ...]) -> None:
    whole = train("whole", *SMALL, f"fadein_ratio={ratio}")
    same(whole, train("stopped", *SMALL, f"fadein_ratio={ratio}", stops=stops))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("final_res=24",), r"start_res is 4 and final_res 24: final_res must be start_res times a power of two"),
        (("likelihood=normal",), r"base.*received Normal.*write likelihood=bernoulli"),
        (("training.epochs=1",), r"step 5, but the training ends at step 4"),
        (("network=mlp",), r"encoder"),
    ],
)
def test_mistakes(train: Any, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train("run", *SMALL, *overrides)
