"""Networks that grow: every resolution is there from the start, and a gate that follows the training step opens them in turn."""

# S stages, r resolution of a stage, (C, H, W) image, alpha share of the newest path

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from vaekit.networks.base import Network, begin_convolution, check_image_shape, check_widths, size
from vaekit.networks.fold import folded
from vaekit.networks.linear import Linear
from vaekit.networks.phases import doubled, of_doubled
from vaekit.schedules import Annealed

SLOPE = 0.2  # of the leaky rectifier, as in the paper


class Growth(nn.Module):
    r"""Where a growing model stands: its stage, and how far the newest resolution is blended in.

    Stage i works at resolution :math:`r_i = \text{start} \cdot 2^i`. During the first `fadein_ratio` of the steps of each stage but
    the first, alpha goes from 0 to 1 in a straight line, by step and not by epoch.

    Arguments:
        start_res: Side of the image at stage 0.
        final_res: Side at the last stage: `start_res` times a power of two.
        epochs_per_stage: Length of a stage; the last one lasts as long as the training does.
        fadein_ratio: Share of a stage in which its path is blended in, in [0, 1].
        steps_per_epoch: Steps in an epoch.

    Raises:
        ValueError: If the resolutions do not fit, or a number is out of its range.

    References:
        | Progressive Growing of GANs (Karras, Aila, Laine and Lehtinen, 2018), section 2 and figure 2
        | https://arxiv.org/abs/1710.10196
    """

    def __init__(
        self, start_res: int, final_res: int, epochs_per_stage: int, fadein_ratio: float, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self.resolutions = resolutions(start_res, final_res)
        if epochs_per_stage < 1:
            raise ValueError(f"epochs_per_stage is {epochs_per_stage}, expected 1 or more.")
        if not 0.0 <= fadein_ratio <= 1.0:
            raise ValueError(f"fadein_ratio is {fadein_ratio}, expected a share of the stage, from 0 to 1.")
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch is {steps_per_epoch}, expected 1 or more.")
        steps = epochs_per_stage * steps_per_epoch
        self.epochs_per_stage = epochs_per_stage
        self._stage = Annealed(StageOf(len(self.resolutions), steps))
        self._alpha = Annealed(FadeIn(len(self.resolutions), steps, round(fadein_ratio * steps)))

    @property
    def stage(self) -> int:
        """The newest open stage, from 0."""
        return int(self._stage.number)

    @property
    def resolution(self) -> int:
        """Side of the images at the present stage."""
        return self.resolutions[self.stage]

    @property
    def fading(self) -> bool:
        """Whether the newest path is only partly blended in."""
        return self._alpha.number < 1.0

    def blend(self, new: Tensor, old: Tensor) -> Tensor:
        """alpha * new + (1 - alpha) * old."""
        return torch.lerp(old, new, self._alpha().to(new.dtype))


class Grown(nn.Module):
    """A growth that is over: all of its resolutions are open.

    Arguments:
        resolutions: From the lowest, each twice the one before.
    """

    fading = False

    def __init__(self, resolutions: Sequence[int]) -> None:
        super().__init__()
        self.resolutions = list(resolutions)

    @property
    def stage(self) -> int:
        """The last."""
        return len(self.resolutions) - 1

    @property
    def resolution(self) -> int:
        """The highest."""
        return self.resolutions[-1]

    def blend(self, new: Tensor, old: Tensor) -> Tensor:
        """`new`."""
        return new


class StageOf:
    """The stage at a step: `steps` steps each, the last without end.

    Arguments:
        stages: How many.
        steps: In a stage.
    """

    def __init__(self, stages: int, steps: int) -> None:
        self.stages, self.steps = stages, steps

    @property
    def end(self) -> int:
        """The first step of the last stage."""
        return (self.stages - 1) * self.steps

    def __call__(self, step: int) -> float:
        """0, 1, ..., `stages` - 1."""
        return float(min(step // self.steps, self.stages - 1))


class FadeIn:
    """The share of the newest path at a step: 1 throughout the first stage, from 0 to 1 over `fade` steps of every other.

    Arguments:
        stages: How many.
        steps: In a stage.
        fade: Steps of the ramp; 0 opens a stage at once.
    """

    def __init__(self, stages: int, steps: int, fade: int) -> None:
        self.stage_of, self.steps, self.fade = StageOf(stages, steps), steps, fade

    @property
    def end(self) -> int:
        """The end of the last ramp, and not before the last stage has had a step: a shorter training would leave it untrained."""
        return self.stage_of.end + (max(self.fade, 1) if self.stage_of.stages > 1 else 0)

    def __call__(self, step: int) -> float:
        """alpha, in [0, 1]."""
        stage = int(self.stage_of(step))
        done = step - stage * self.steps
        return 1.0 if stage == 0 or done >= self.fade else done / self.fade


class GrowingEncoder(Network):
    """From an image, through as many resolutions as are open, to features.

    At each resolution a 1x1 convolution takes the image in; every level then is a 3x3 convolution, a leaky rectifier and 2x average
    pooling; below the lowest stands one more 3x3 convolution. While a resolution is new, its features are blended with those
    that the next lower one takes from the image directly.

    Arguments:
        in_shape: (C, R, R), with R the last resolution of `growth`.
        out_shape: Shape of one output.
        growth: Which resolutions are open.
        base_ch: Channels at the lowest resolution; each level above has half as many.
        min_ch: But never fewer than this.

    References:
        | Progressive Growing of GANs (Karras, Aila, Laine and Lehtinen, 2018), figure 2
        | https://arxiv.org/abs/1710.10196
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        growth: Growth | Grown,
        base_ch: int = 128,
        min_ch: int = 16,
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_growing(in_shape, growth)
        self.growth = growth
        widths = channels(growth, base_ch, min_ch)
        self.take_in = nn.ModuleList(nn.Conv2d(in_shape[0], width, kernel_size=1) for width in widths)
        self.levels = nn.ModuleList(
            nn.Conv2d(above, below, kernel_size=3, padding=1) for below, above in pairwise(widths)
        )
        self.base = nn.Conv2d(widths[0], widths[0], kernel_size=3, padding=1)
        self.head = Linear(widths[0] * growth.resolutions[0] ** 2, size(out_shape))
        self.act = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, C, R, R) to (*, *out_shape)."""
        return folded(self._features, x, 3).view(*x.shape[:-3], *self.out_shape)

    def _features(self, x: Tensor) -> Tensor:
        stage = self.growth.stage
        image = area_pooled(x, self.growth.resolution)
        h = self.act(self.take_in[stage](image)).contiguous(memory_format=torch.channels_last)
        for level in range(stage, 0, -1):
            h = avg_pool2d(self.act(self.levels[level - 1](h)), 2)
            if level == stage and self.growth.fading:
                h = self.growth.blend(h, self.act(self.take_in[level - 1](avg_pool2d(image, 2))))
        out: Tensor = self.head(self.act(self.base(h)).flatten(1))
        return out


class GrowingDecoder(Network):
    """The mirror of `GrowingEncoder`: nearest upsampling and a 3x3 convolution at each level, and a 1x1 convolution to pixels.

    While a resolution is new, its pixels are blended with the upsampled ones of the next lower.

    Arguments:
        in_shape: Shape of one latent; flattened first.
        out_shape: (C, R, R); while the model grows, all pixels are alike within the blocks of its present resolution.
        growth: Which resolutions are open.
        base_ch: Channels at the lowest resolution.
        min_ch: Fewest channels.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        growth: Growth | Grown,
        base_ch: int = 128,
        min_ch: int = 16,
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_growing(out_shape, growth)
        self.growth = growth
        widths = channels(growth, base_ch, min_ch)
        self.low = (widths[0], growth.resolutions[0], growth.resolutions[0])
        self.head = Linear(size(in_shape), size(self.low))
        self.base = nn.Conv2d(widths[0], widths[0], kernel_size=3, padding=1)
        self.levels = nn.ModuleList(
            nn.Conv2d(below, above, kernel_size=3, padding=1) for below, above in pairwise(widths)
        )
        self.put_out = nn.ModuleList(nn.Conv2d(width, out_shape[0], kernel_size=1) for width in widths)
        self.act = nn.LeakyReLU(SLOPE)

    def begin_at(self, output: Tensor) -> None:
        """Set the biases of all 1x1 convolutions to the mean of each channel of `output`, and shrink their weights."""
        for convolution in self.put_out:
            begin_convolution(convolution, output)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, *in_shape) to (*, C, R, R)."""
        return enlarged(folded(self._pixels, x, len(self.in_shape)), self.out_shape[-1])

    def _pixels(self, z: Tensor) -> Tensor:
        stage = self.growth.stage
        h = self.act(self.head(z.flatten(1))).view(-1, *self.low).contiguous(memory_format=torch.channels_last)
        h = self.act(self.base(h))
        below = h
        for level in range(1, stage + 1):
            below = h
            h = self.act(of_doubled(self.levels[level - 1], h))
        pixels: Tensor = self.put_out[stage](h)
        if stage > 0 and self.growth.fading:
            pixels = self.growth.blend(pixels, doubled(self.put_out[stage - 1](below)))
        return pixels


def resolutions(start: int, final: int) -> list[int]:
    """start, 2 start, ..., final.

    Raises:
        ValueError: If their ratio is no power of two.
    """
    ratio = final // start if start >= 1 else 0
    if ratio < 1 or final % start or ratio & (ratio - 1):
        raise ValueError(
            f"start_res is {start} and final_res {final}: final_res must be start_res times a power of two, for example 4 and 32."
        )
    return [start << stage for stage in range(ratio.bit_length())]


def channels(growth: Growth | Grown, base_ch: int, min_ch: int) -> list[int]:
    """Channels at each resolution, from the lowest: half as many from one to the next, but at least `min_ch`."""
    check_widths(base_ch=[base_ch], min_ch=[min_ch])
    return [max(base_ch >> stage, min_ch) for stage in range(len(growth.resolutions))]


def check_growing(shape: Sequence[int], growth: Growth | Grown) -> None:
    """Raise unless `shape` is (C, R, R) with R the last resolution of `growth`."""
    check_image_shape(shape, "images")
    final = growth.resolutions[-1]
    if tuple(shape[1:]) != (final, final):
        raise ValueError(
            f"A model that grows to {final} x {final} needs images of that size, received {shape[1]} x {shape[2]}: write "
            f"data.resolution={final}, which pads or resizes them, or another final_res."
        )


def area_pooled(x: Tensor, resolution: int) -> Tensor:
    """Each pixel the mean of the area that it covers: (*, C, H, W) to (*, C, r, r), with H = W a multiple of r."""
    factor = x.shape[-1] // resolution
    return x if factor == 1 else folded(lambda image: avg_pool2d(image, factor), x, 3)


def enlarged(x: Tensor, resolution: int) -> Tensor:
    """Each pixel as often as it takes: (*, C, r, r) to (*, C, R, R)."""
    if x.shape[-1] == resolution:
        return x
    return folded(lambda image: interpolate(image, size=(resolution, resolution), mode="nearest"), x, 3)
