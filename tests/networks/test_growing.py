"""The growing networks against a reference written out in plain torch, and the clock that opens their resolutions."""

# S stages, r resolution of a stage, (C, H, W) image, alpha share of the newest path

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from vaekit.networks import GrowingDecoder, GrowingEncoder, Growth, Network
from vaekit.networks.growing import Grown, area_pooled, doubled, enlarged
from vaekit.networks.residual import ImagePyramid, RefiningDecoder
from vaekit.schedules import advance, last_end

pytestmark = pytest.mark.usefixtures("float64")

# three stages, 2 x 2 to 8 x 8, of eight steps each; the first four of a stage blend it in
STEPS, FADE, STAGES = 8, 4, 3
IMAGE, LATENT = (2, 8, 8), (3,)
POINTS = [0, 7, 8, 9, 11, 12, 15, 16, 18, 20, 99]  # steps: ends of stages and of fades, and some between


def make_growth(ratio: float = FADE / STEPS) -> Growth:
    return Growth(2, 8, epochs_per_stage=2, fadein_ratio=ratio, steps_per_epoch=STEPS // 2)


def encoder() -> GrowingEncoder:
    return GrowingEncoder(IMAGE, (5,), make_growth(), base_ch=8, min_ch=3)


def decoder() -> GrowingDecoder:
    return GrowingDecoder(LATENT, IMAGE, make_growth(), base_ch=8, min_ch=3)


def at(network: Network, step: int) -> Network:
    advance(network, step)
    return network


def alpha_of(growth: Growth) -> float:
    return float(growth.blend(torch.ones(()), torch.zeros(())))


def place(step: int) -> tuple[int, float]:
    """Stage and alpha at one of the steps of this file, counted by hand."""
    stage = min(step // 8, 2)
    done = step - 8 * stage
    return stage, 1.0 if stage == 0 or done >= 4 else done / 4


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def pixelwise(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """A 1x1 convolution is a matrix at each pixel."""
    return (
        torch.einsum("oi,nihw->nohw", weights[f"{name}.weight"][..., 0, 0], x) + weights[f"{name}.bias"][:, None, None]
    )


def convolved(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)


def halved(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def twice(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def reference_encoder(weights: dict[str, Tensor], x: Tensor, stage: int, alpha: float) -> Tensor:
    images = [x]  # from the finest
    for _ in range(STAGES - 1):
        images.append(halved(images[-1]))
    images = images[::-1]
    h = leaky(pixelwise(images[stage], weights, f"take_in.{stage}"))
    if stage > 0:
        new = halved(leaky(convolved(h, weights, f"levels.{stage - 1}")))
        old = leaky(pixelwise(images[stage - 1], weights, f"take_in.{stage - 1}"))
        h = alpha * new + (1 - alpha) * old
    for level in range(stage - 1, 0, -1):
        h = halved(leaky(convolved(h, weights, f"levels.{level - 1}")))
    h = leaky(convolved(h, weights, "base"))
    return h.flatten(1) @ weights["head.weight"].T + weights["head.bias"]


def reference_decoder(weights: dict[str, Tensor], z: Tensor, stage: int, alpha: float) -> Tensor:
    h = leaky(z @ weights["head.weight"].T + weights["head.bias"]).reshape(len(z), -1, 2, 2)
    features = [leaky(convolved(h, weights, "base"))]
    for level in range(stage):
        features.append(leaky(convolved(twice(features[-1]), weights, f"levels.{level}")))
    pixels = pixelwise(features[stage], weights, f"put_out.{stage}")
    if stage > 0:
        pixels = alpha * pixels + (1 - alpha) * twice(pixelwise(features[stage - 1], weights, f"put_out.{stage - 1}"))
    for _ in range(STAGES - 1 - stage):
        pixels = twice(pixels)
    return pixels


@pytest.mark.parametrize(
    ("ratio", "alphas"),
    [
        (0.0, [1.0] * 5 + [1.0] * 5 + [1.0] * 5),
        (0.6, [1.0] * 5 + [0.0, 1 / 3, 2 / 3, 1.0, 1.0] * 2),
        (1.0, [1.0] * 5 + [0.0, 1 / 5, 2 / 5, 3 / 5, 4 / 5] * 2),
        (0.05, [1.0] * 15),  # a fade of less than a step is none
    ],
)
def test_alpha_moves_by_step_also_in_stages_of_one_epoch(ratio: float, alphas: list[float]) -> None:
    growth = Growth(4, 16, epochs_per_stage=1, fadein_ratio=ratio, steps_per_epoch=5)
    seen = []
    for step in range(15):
        advance(growth, step)
        assert growth.stage == step // 5
        assert growth.resolution == (4, 8, 16)[growth.stage]
        seen.append(alpha_of(growth))
        assert growth.fading is (seen[-1] < 1.0)
    assert seen == pytest.approx(alphas, abs=1e-15)
    for step in (15, 16, 10_000):
        advance(growth, step)
        assert (growth.stage, alpha_of(growth), growth.fading) == (2, 1.0, False)


def test_stages_of_several_epochs_and_steps_in_any_order() -> None:
    growth = make_growth()
    for step in (9, 0, 99, 16, 7, 8, 20, 18, 11, 12):
        advance(growth, step)
        assert (growth.stage, alpha_of(growth)) == place(step)


@pytest.mark.parametrize(
    ("ratio", "end"),
    # without a fade the end is one step after the last stage has opened: a training that stops before has never trained it
    [(0.0, 17), (0.5, 20), (1.0, 24)],
)
def test_the_end_is_when_the_last_stage_stands_and_has_been_trained(ratio: float, end: int) -> None:
    growth = make_growth(ratio)
    assert last_end(growth) == end
    advance(growth, end)
    assert (growth.stage, growth.fading) == (2, False)
    assert last_end(Growth(8, 8, epochs_per_stage=3, fadein_ratio=1.0, steps_per_epoch=7)) == 0


def test_a_single_stage_is_open_from_the_first_step() -> None:
    growth = Growth(8, 8, epochs_per_stage=1, fadein_ratio=1.0, steps_per_epoch=7)
    for step in (0, 3, 7, 100):
        advance(growth, step)
        assert (growth.stage, growth.resolution, growth.fading) == (0, 8, False)


@pytest.mark.parametrize("step", POINTS)
def test_the_networks_are_the_reference(step: int) -> None:
    x, z = torch.randn(4, *IMAGE), torch.randn(4, *LATENT)
    net = at(encoder(), step)
    torch.testing.assert_close(net(x), reference_encoder(net.state_dict(), x, *place(step)), rtol=1e-12, atol=1e-12)
    net = at(decoder(), step)
    torch.testing.assert_close(net(z), reference_decoder(net.state_dict(), z, *place(step)), rtol=1e-12, atol=1e-12)


def test_what_has_grown_is_the_last_stage() -> None:
    """And `Grown`, which the residual model's networks stand on, is that for good."""
    x, z, over = torch.randn(4, *IMAGE), torch.randn(4, *LATENT), Grown([2, 4, 8])
    for net, data in ((encoder(), x), (decoder(), z)):
        grown = type(net)(net.in_shape, net.out_shape, over, base_ch=8, min_ch=3)
        grown.load_state_dict(net.state_dict())
        assert torch.equal(grown(data), at(net, 10**6)(data))


@pytest.mark.parametrize("step", [8, 16])
def test_a_new_stage_begins_as_the_old_one(step: int) -> None:
    """The decoder bit for bit; the encoder but for rounding: a mean of four means is not the same sum as one of sixteen."""
    net, z = decoder(), torch.randn(4, *LATENT)
    before = at(net, step - 1)(z)
    assert torch.equal(at(net, step)(z), before)
    assert not torch.allclose(at(net, step + 1)(z), before)
    net, x = encoder(), torch.randn(4, *IMAGE)
    before = at(net, step - 1)(x)
    torch.testing.assert_close(at(net, step)(x), before, rtol=1e-13, atol=1e-14)
    assert not torch.allclose(at(net, step + 1)(x), before)


@pytest.mark.parametrize("step", POINTS)
def test_what_is_closed_or_faded_out_is_never_evaluated(step: int) -> None:
    """Its weights may be NaN: what comes out is the same, and no gradient reaches them. All others get one."""
    stage, alpha = place(step)
    for net, data, ends in (
        (encoder(), torch.randn(4, *IMAGE), "take_in"), (decoder(), torch.randn(4, *LATENT), "put_out"),
    ):  # fmt: skip
        out = at(net, step)(data)
        used = {"head", "base", f"{ends}.{stage}", *(f"levels.{level}" for level in range(stage))}
        if alpha < 1.0:
            used.add(f"{ends}.{stage - 1}")
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name.rpartition(".")[0] not in used:
                    parameter.fill_(math.nan)
        again = net(data)
        assert torch.equal(again, out)
        (again * torch.randn_like(again)).sum().backward()
        for name, parameter in net.named_parameters():
            if name.rpartition(".")[0] not in used:
                assert parameter.grad is None, name
            elif alpha == 0.0 and name.rpartition(".")[0] in (f"{ends}.{stage}", f"levels.{stage - 1}"):
                assert (parameter.grad == 0).all(), name  # the new path is there, and weighs nothing yet
            else:
                assert parameter.grad.abs().max() > 0, name


def test_the_blend_is_straight_between_the_old_output_and_the_new() -> None:
    net, z = decoder(), torch.randn(4, *LATENT)
    old, new = at(net, 8)(z), at(net, 15)(z)
    for step, alpha in ((9, 0.25), (10, 0.5), (11, 0.75)):
        torch.testing.assert_close(at(net, step)(z), alpha * new + (1 - alpha) * old, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("step", POINTS)
def test_an_image_comes_in_blocks_of_the_present_resolution(step: int) -> None:
    stage, _ = place(step)
    out = at(decoder(), step)(torch.randn(2, 3, *LATENT))
    assert out.shape == (2, 3, *IMAGE)
    r = (2, 4, 8)[stage]
    torch.testing.assert_close(enlarged(area_pooled(out, r), 8), out, rtol=1e-13, atol=1e-13)
    if r > 2:
        assert not torch.allclose(enlarged(area_pooled(out, r // 2), 8), out) or place(step)[1] == 0.0
    x = torch.randn(2, 3, *IMAGE)  # and the encoder sees no more than that of an image
    net = at(encoder(), step)
    torch.testing.assert_close(net(enlarged(area_pooled(x, r), 8)), net(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("base_ch", "min_ch", "widths"), [(16, 4, [16, 8, 4, 4]), (6, 1, [6, 3, 1, 1]), (4, 8, [8, 8, 8, 8])]
)
def test_channels_are_halved_from_level_to_level_down_to_the_fewest(
    base_ch: int, min_ch: int, widths: list[int]
) -> None:
    growth = Growth(4, 32, epochs_per_stage=1, fadein_ratio=0.5, steps_per_epoch=1)
    net = GrowingEncoder((3, 32, 32), (2,), growth, base_ch, min_ch)
    assert [layer.weight.shape for layer in net.take_in] == [(width, 3, 1, 1) for width in widths]
    assert [layer.weight.shape for layer in net.levels] == [(low, high, 3, 3) for low, high in pairwise(widths)]
    assert net.base.weight.shape == (widths[0], widths[0], 3, 3)
    assert net.head.weight.shape == (2, widths[0] * 16)
    net = GrowingDecoder((2,), (3, 32, 32), growth, base_ch, min_ch)
    assert [layer.weight.shape for layer in net.put_out] == [(3, width, 1, 1) for width in widths]
    assert [layer.weight.shape for layer in net.levels] == [(high, low, 3, 3) for low, high in pairwise(widths)]
    assert net.base.weight.shape == (widths[0], widths[0], 3, 3)


@pytest.mark.parametrize(
    ("start", "final", "sides"),
    [(4, 32, [4, 8, 16, 32]), (3, 24, [3, 6, 12, 24]), (1, 4, [1, 2, 4]), (5, 10, [5, 10]), (7, 7, [7])],
)
def test_any_power_of_two_will_do(start: int, final: int, sides: list[int]) -> None:
    growth = Growth(start, final, epochs_per_stage=1, fadein_ratio=0.5, steps_per_epoch=2)
    assert growth.resolutions == sides
    image = (1, final, final)
    take, put = GrowingEncoder(image, (2,), growth, 4, 2), GrowingDecoder((2,), image, growth, 4, 2)
    for step in range(2 * len(sides)):
        advance(growth, step)
        assert put(take(torch.randn(3, *image))).shape == (3, *image)


@pytest.mark.parametrize(("start", "final"), [(4, 24), (4, 30), (4, 33), (8, 4), (0, 8), (-4, 8), (3, 32), (4, 0)])
def test_other_ratios_are_refused(start: int, final: int) -> None:
    with pytest.raises(ValueError, match=rf"start_res is {start} and final_res {final}.*power of two.*4 and 32"):
        Growth(start, final, epochs_per_stage=1, fadein_ratio=0.5, steps_per_epoch=2)


@pytest.mark.parametrize("ratio", [-0.1, 1.01, math.nan, math.inf])
def test_fades_that_are_no_share_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"fadein_ratio is .*from 0 to 1"):
        make_growth(ratio)


@pytest.mark.parametrize("epochs", [0, -1])
def test_stages_without_an_epoch_are_refused(epochs: int) -> None:
    with pytest.raises(ValueError, match=rf"epochs_per_stage is {epochs}, expected 1 or more"):
        Growth(4, 8, epochs_per_stage=epochs, fadein_ratio=0.5, steps_per_epoch=2)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 4), (1, 4, 8), (2, 16, 16)])
def test_images_of_another_size_are_refused_with_a_remedy(shape: tuple[int, ...]) -> None:
    for make in (
        lambda: GrowingEncoder(shape, (2,), make_growth()),
        lambda: GrowingDecoder((2,), shape, make_growth()),
    ):
        with pytest.raises(ValueError, match=rf"8 x 8.*received {shape[1]} x {shape[2]}.*data\.resolution=8"):
            make()


@pytest.mark.parametrize("shape", [(), (8,), (8, 8), (1, 1, 8, 8)])
def test_shapes_that_are_no_images_are_refused(shape: tuple[int, ...]) -> None:
    for make in (
        lambda: GrowingEncoder(shape, (2,), make_growth()),
        lambda: GrowingDecoder((2,), shape, make_growth()),
    ):
        with pytest.raises(ValueError, match=r"\(channels, height, width\)"):
            make()


@pytest.mark.parametrize("widths", [{"base_ch": 0}, {"min_ch": 0}, {"base_ch": -3}])
def test_channels_below_one_are_refused(widths: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected widths of 1 or more"):
        GrowingEncoder(IMAGE, (2,), make_growth(), **widths)


@pytest.mark.parametrize("step", [0, 10, 99])
def test_a_decoder_begins_at_an_output_at_every_stage(step: int) -> None:
    net, z = at(decoder(), step), torch.randn(6, *LATENT)
    with torch.no_grad():
        for layer in net.put_out:
            layer.bias.zero_()
    before = net(z)
    mean = torch.tensor([0.3, -1.2])[:, None, None].expand(IMAGE)
    net.begin_at(mean)
    torch.testing.assert_close(net(z), mean + 0.1 * before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("step", [0, 10, 99])
@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 0), (2, 1, 3)])
def test_leading_dimensions_are_carried_and_each_example_is_treated_alone(step: int, lead: tuple[int, ...]) -> None:
    for net in (at(encoder(), step), at(decoder(), step)):
        x = torch.randn(*lead, *net.in_shape)
        out = net(x)
        assert out.shape == (*lead, *net.out_shape)
        dims = len(net.in_shape)
        for one, own in zip(x.reshape(-1, *x.shape[-dims:]), out.reshape(-1, *net.out_shape), strict=True):
            torch.testing.assert_close(net(one), own, rtol=1e-12, atol=1e-12)
        if lead == (4,):  # as in a trace: one example behind all samples without a copy, or strides of any kind
            torch.testing.assert_close(net(x.expand(2, *x.shape)), out.expand(2, *out.shape), rtol=1e-12, atol=1e-12)
            strided = x.transpose(0, 1).contiguous().transpose(0, 1)
            torch.testing.assert_close(net(strided), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("step", [0, 10, 99])
def test_gradients_are_those_of_finite_differences(step: int) -> None:
    for net in (at(encoder(), step), at(decoder(), step)):
        x = torch.randn(1, *net.in_shape, requires_grad=True)
        assert torch.autograd.gradcheck(net, (x,), atol=1e-6, rtol=1e-5)


def test_the_state_is_the_weights_alone() -> None:
    """Where a growth stands is a function of the step: a checkpoint holds nothing of it."""
    net, other = decoder(), decoder()
    assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}
    at(net, 10)
    other.load_state_dict(net.state_dict())
    z = torch.randn(3, *LATENT)
    assert not torch.equal(other(z), net(z))
    assert torch.equal(at(other, 10)(z), net(z))
    clone = copy.deepcopy(net)
    assert torch.equal(at(clone, 99)(z), at(decoder_like(net), 99)(z))
    assert net.growth.stage == 1


def decoder_like(net: nn.Module) -> GrowingDecoder:
    made = decoder()
    made.load_state_dict(net.state_dict())
    return made


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 0)])
def test_areas_are_means_and_blocks_are_copies(lead: tuple[int, ...]) -> None:
    x = torch.randn(*lead, 2, 12, 12)
    expected = x.reshape(*lead, 2, 3, 4, 3, 4).mean((-3, -1))
    small = area_pooled(x, 3)
    torch.testing.assert_close(small, expected, rtol=1e-13, atol=1e-13)
    blocks = expected.repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert torch.equal(enlarged(expected, 12), blocks)
    torch.testing.assert_close(area_pooled(blocks, 3), expected, rtol=1e-13, atol=1e-13)
    assert area_pooled(x, 12) is x
    assert enlarged(x, 12) is x
    if len(lead) == 1:
        assert torch.equal(doubled(expected), expected.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_the_network_of_residuals_sees_the_image_at_every_level() -> None:
    """Against the reference, with the image, downsampled, beside the features of each level and before the last layer."""
    pyramid = ImagePyramid(2, [2, 4, 8])
    net = RefiningDecoder(LATENT, pyramid, 2, base_ch=8, min_ch=3)
    z, image = torch.randn(3, 4, *LATENT), torch.randn(3, 4, *IMAGE)
    w, flat = net.state_dict(), image.flatten(0, 1)
    seen = [halved(halved(flat)), halved(flat), flat]
    h = leaky(z.flatten(0, 1) @ w["head.weight"].T + w["head.bias"]).reshape(12, -1, 2, 2)
    for level in range(3):
        h = leaky(convolved(torch.cat([h if level == 0 else twice(h), seen[level]], 1), w, f"levels.{level}"))
    expected = pixelwise(torch.cat([h, flat], 1), w, "put_out").reshape(3, 4, *IMAGE)
    torch.testing.assert_close(net(z, image), expected, rtol=1e-12, atol=1e-12)
    first = RefiningDecoder(LATENT, pyramid, 0, base_ch=8, min_ch=3)
    w = first.state_dict()
    h = leaky(z.flatten(0, 1) @ w["head.weight"].T + w["head.bias"]).reshape(12, -1, 2, 2)
    expected = pixelwise(leaky(convolved(h, w, "levels.0")), w, "put_out").reshape(3, 4, 2, 2, 2)
    torch.testing.assert_close(first(z), expected, rtol=1e-12, atol=1e-12)
