"""The progressive VAE: what a stage is trained for, and that it grows from the first step to the last of a whole training."""

# K samples, B batch, (C, H, W) image, r resolution of a stage, n = (R / r)^2 pixels of a block

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit import runs
from vaekit.conditionals import Normal as NormalPosterior
from vaekit.distributions.noise import PerExample, use
from vaekit.errors import ConfigError
from vaekit.likelihoods import Bernoulli, Likelihood, Normal
from vaekit.models import VAE, growing
from vaekit.networks import GrowingDecoder, GrowingEncoder, Growth
from vaekit.objectives import KL, Objective
from vaekit.priors import StandardNormal
from vaekit.schedules import advance
from vaekit.training.callbacks import Validation
from vaekit.training.loop import Progress

# 2 x 2 to 8 x 8, eight steps each, of which the first four blend the newest resolution in
IMAGE, LATENT = (2, 8, 8), 3
STAGES = [(0, 2), (15, 4), (99, 8)]  # (step, r) where a stage stands alone
POINTS = [0, 8, 10, 15, 16, 18, 99]


def make(likelihood: Likelihood, start: int = 2, latent: int = LATENT) -> VAE:
    growth = Growth(start, likelihood.event_shape[-1], epochs_per_stage=2, fadein_ratio=0.5, steps_per_epoch=4)
    torch.manual_seed(1)
    return growing(
        encoder=lambda **given: GrowingEncoder(**given, base_ch=6, min_ch=3),
        decoder=lambda **given: GrowingDecoder(**given, base_ch=6, min_ch=3),
        posterior=NormalPosterior((latent,)), prior=StandardNormal((latent,)), likelihood=likelihood, growth=growth,
    )  # fmt: skip


def blocks(x: Tensor, r: int) -> Tensor:
    """(..., R, R) to (..., r, r, n): the pixels of each block."""
    f = x.shape[-1] // r
    return x.reshape(*x.shape[:-2], r, f, r, f).transpose(-3, -2).flatten(-2)


def data(kind: str, B: int = 4) -> Tensor:
    x = torch.rand(B, *IMAGE)
    return (x > 0.5).to(x.dtype) if kind == "binary" else x


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("step", "r"), STAGES)
@pytest.mark.parametrize("kind", ["binary", "grey"])
def test_under_bernoulli_the_target_of_a_stage_is_the_downsampled_image(step: int, r: int, kind: str) -> None:
    r"""The score of the whole image is n times the cross-entropy with the means of its blocks, and so is its gradient."""
    model, x, n = make(Bernoulli(IMAGE)), data(kind), (8 // r) ** 2
    advance(model, step)
    trace = model(x, samples=3)
    logits = blocks(trace.px.base_dist.logits, r)
    assert torch.equal(logits, logits[..., :1].expand_as(logits))
    probability, target = logits[..., 0].sigmoid(), blocks(x, r).mean(-1)
    pooled = n * (target * probability.log() + (1 - target) * (1 - probability).log()).sum((2, 3, 4))
    torch.testing.assert_close(trace.log_px, pooled, rtol=1e-11, atol=1e-11)
    same_gradients(model, trace.log_px, pooled)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("step", "r"), STAGES)
def test_under_a_normal_too_up_to_what_varies_within_blocks(step: int, r: int) -> None:
    r"""sum_i (x_i - m)^2 = n (mean - m)^2 + sum_i (x_i - mean)^2: the last does not depend on the model."""
    sigma, x, n = 0.3, data("grey"), (8 // r) ** 2
    model = make(Normal(IMAGE, scale=sigma))
    advance(model, step)
    trace = model(x, samples=3)
    mean, target = blocks(trace.px.mean, r)[..., 0], blocks(x, r).mean(-1)
    within = (blocks(x, r) - target[..., None]).square().sum((1, 2, 3, 4))
    constant = math.prod(IMAGE) * (math.log(sigma) + 0.5 * math.log(2 * math.pi))
    pooled = -(n * (target - mean).square().sum((2, 3, 4)) + within) / (2 * sigma**2) - constant
    torch.testing.assert_close(trace.log_px, pooled, rtol=1e-11, atol=1e-11)
    same_gradients(model, trace.log_px, -n * (target - mean).square().sum((2, 3, 4)) / (2 * sigma**2))


def same_gradients(model: VAE, first: Tensor, second: Tensor) -> None:
    parameters = list(model.parameters())
    ours = torch.autograd.grad(first.sum(), parameters, allow_unused=True, retain_graph=True)
    theirs = torch.autograd.grad(second.sum(), parameters, allow_unused=True)
    assert sum(gradient is not None for gradient in ours) >= 8
    for own, other in zip(ours, theirs, strict=True):
        assert (own is None) is (other is None)
        if own is not None:
            torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("step", [0, 8, 9, 10, 11, 12, 16, 17, 99])
def test_at_every_step_the_model_is_a_density_of_whole_images(step: int) -> None:
    """All 16 binary images of 2 x 2 pixels have probability 1 together, and the bound is below each one's: quadrature over z."""
    model = make(Bernoulli((1, 2, 2)), start=1, latent=1)
    advance(model, step)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).reshape(16, 1, 2, 2)
    z = torch.linspace(-9.0, 9.0, 2001)
    with torch.no_grad():
        log_px = model.decode(z[:, None]).log_prob(x[:, None].expand(16, 2001, 1, 2, 2))
        evidence = (log_px - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)).logsumexp(1) + math.log(z[1] - z[0])
        assert evidence.logsumexp(0).abs() < 1e-12
        log_w = model(x, samples=4000).log_w
    error = log_w.std(0) / 4000**0.5
    assert (log_w.mean(0) < evidence + 4 * error).all()  # 4 standard errors, 16 images: false alarm 5e-4


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("step", POINTS)
def test_closed_stages_get_no_gradient_and_open_ones_do(step: int) -> None:
    model = make(Bernoulli(IMAGE))
    advance(model, step)
    stage = min(step // 8, 2)
    (-model(data("binary")).log_w.mean()).backward()
    for name, parameter in model.named_parameters():
        part, _, number = name.rpartition(".")[0].removeprefix("encoder.").removeprefix("decoder.").partition(".")
        first = int(number or 0) + (part == "levels")  # the stage that opens it
        if first > stage:
            assert parameter.grad is None, name
        elif first == stage or part in ("base", "head"):
            assert parameter.grad is not None, name


@pytest.mark.usefixtures("float64")
def test_both_networks_follow_one_growth() -> None:
    model = copy.deepcopy(make(Bernoulli(IMAGE)))
    assert model.encoder.growth is model.decoder.growth
    assert not any("growth" in name for name in model.state_dict())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("step", POINTS)
def test_what_is_encoded_decoded_and_drawn(step: int) -> None:
    model, x = make(Bernoulli(IMAGE)).eval(), data("binary")
    advance(model, step)
    assert model.encode(x).shape == model.encode_scale(x).shape == (4, LATENT)
    torch.testing.assert_close(model.decode(model.encode(x)).mean[0], model.reconstruct(x))
    assert model.sample(5).shape == (5, *IMAGE)
    assert set(model.sample(5).unique().tolist()) == {0.0, 1.0}


class Fixed:
    """A session as far as `Validation` looks at it."""

    def __init__(self, model: VAE) -> None:
        self.players: list[Any] = []
        self.model, self.objective, self.considered, self.best = model, Objective({"kl": KL()}), [], self

    def consider(self, score: float, epoch: int, model: VAE) -> None:
        assert (model.encoder.growth.stage, model.encoder.growth.fading) == (2, False)
        self.considered.append(epoch)


@pytest.mark.parametrize(
    ("ratio", "epochs", "kept"),
    [
        (0.0, 6, [5, 6]),  # the fifth epoch is the first of the last stage
        (0.5, 6, [6]),  # the fade has ended with the fifth epoch's last step, and the sixth is the first without it
        (0.25, 8, [5, 6, 7, 8]),
        (0.5, 8, [6, 7, 8]),
    ],
)
def test_weights_are_kept_of_the_grown_model_only(ratio: float, epochs: int, kept: list[int]) -> None:
    """Three stages of two epochs of four steps: at no epoch is a model kept that the last step saw still growing."""
    growth = Growth(2, 8, epochs_per_stage=2, fadein_ratio=ratio, steps_per_epoch=4)
    model = make(Bernoulli(IMAGE))
    model.encoder.growth = model.decoder.growth = growth
    session: Any = Fixed(model)
    validation = Validation(session, lambda: ({}, 0.0))
    for epoch in range(1, epochs + 1):
        advance(model, 4 * epoch - 1)  # where the epoch's last step has left it
        validation.epoch(Progress(4 * epoch, 4 * epochs, 4, None), {})  # type: ignore[arg-type]
    assert session.considered == kept


SMALL = ("model=progressive", "final_res=8", "base_ch=8", "min_ch=4", "epochs_per_stage=1")


@pytest.mark.parametrize("likelihood", [(), ("likelihood=normal_learned", "data.binarisation=none")])
def test_a_whole_training(train: Any, likelihood: tuple[str, ...]) -> None:
    run = train("run", *SMALL, *likelihood)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert all(math.isfinite(value) for row in run.history for value in row.values())
    assert run.folder.environment()["best_epoch"] == 2
    model = runs.load(run.path)
    growth = model.encoder.growth
    assert (growth.stage, growth.resolution, growth.fading) == (1, 8, False)
    batch = run.dataset.test.batch(torch.arange(5))
    assert model.reconstruct(batch.x).shape == (5, 1, 8, 8)
    assert model.sample(3).shape == (3, 1, 8, 8)
    with use(PerExample(0, torch.arange(5))):
        assert model(batch.x).log_w.isfinite().all()
    assert math.isfinite(run.metrics["elbo"].value)


def test_the_numbers_of_a_growing_model_say_where_they_hold(train: Any) -> None:
    run = train("run", *SMALL)
    assert "8 x 8" in run.metrics["elbo"].estimator


@pytest.mark.parametrize(("ratio", "stops"), [(1.0, (2, 4, 5, 6, 7)), (0.5, (5,)), (0.0, (4, 5))])
def test_stopped_and_resumed_in_the_middle_of_a_fade(
    train: Any, same: Any, ratio: float, stops: tuple[int, ...]
) -> None:
    whole = train("whole", *SMALL, f"fadein_ratio={ratio}")
    same(whole, train("stopped", *SMALL, f"fadein_ratio={ratio}", stops=stops))
    assert whole.folder.environment()["best_epoch"] == 2


def test_more_epochs_prolong_the_last_stage(train: Any) -> None:
    run = train("run", *SMALL, "training.epochs=4", "fadein_ratio=0.25")
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    assert run.folder.environment()["best_epoch"] in (2, 3, 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("final_res=12",), r"start_res is 4 and final_res 12: final_res must be start_res times a power of two"),
        (("epochs_per_stage=0",), r"epochs_per_stage is 0, expected a whole number of 1 or more"),
        (("fadein_ratio=1.5",), r"fadein_ratio is 1.5, expected a share of the stage, from 0 to 1"),
        (("training.epochs=1", "fadein_ratio=0"), r"step 5, but the training ends at step 4"),
        (("base_ch=0",), r"base_ch is \[0\], expected widths of 1 or more"),
        (("network=mlp",), r"growth"),
    ],
)
def test_mistakes(train: Any, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train("run", *SMALL, *overrides)


def test_keys_of_the_growth_belong_to_the_models_that_grow(train: Any) -> None:
    with pytest.raises(ConfigError, match=r"final_res belongs to model=progressive and model=residual_progressive"):
        train("run", "final_res=16")
