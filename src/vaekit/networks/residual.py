"""Networks of the residual progressive VAE: each works at one resolution, beside the image that the stages below have made."""

# s stage, (C, r, r) image at its resolution, n values of all images below it side by side

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from vaekit.networks.base import Network, begin_convolution, size
from vaekit.networks.fold import folded
from vaekit.networks.growing import SLOPE, GrowingEncoder, Grown, Growth, area_pooled, channels
from vaekit.networks.linear import Linear
from vaekit.networks.phases import doubled, of_doubled

_whole = ContextVar("whole gradient", default=False)


@contextmanager
def whole_gradient() -> Iterator[None]:
    """Within this context gradients pass through the images below too: for who moves the latents of all stages at once."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


class ImagePyramid:
    """How a hierarchy's state holds the images that its open stages have made: flattened, side by side, coarsest first.

    The first is held as logits, as its Bernoulli likelihood wants it, the others as means.

    Arguments:
        channels: C.
        resolutions: Of the stages.
    """

    def __init__(self, channels: int, resolutions: Sequence[int]) -> None:
        self.channels, self.resolutions = channels, tuple(resolutions)

    def made(self, state: Tensor, stage: int) -> Tensor:
        """The image that stage `stage` has made, the last in a state (K, B, n): (K, B, C, r, r). No gradient passes in training."""
        r = self.resolutions[stage]
        image = state[..., -self.channels * r * r :].reshape(*state.shape[:2], self.channels, r, r)
        image = image if _whole.get() else image.detach()
        return image.sigmoid() if stage == 0 else image

    def below(self, state: Tensor, stage: int) -> Tensor:
        """The image that the stages below `stage` have made, enlarged to its resolution: (K, B, n) to (K, B, C, r, r).

        No gradient passes in training: a stage is not moved for the sake of those above it.
        """
        return folded(doubled, self.made(state, stage - 1), 3)


class ResidualFeatures(nn.Module):
    """Join: from the data, and what the stages below have made of them, to the context of this stage's posterior.

    The stage sees the residual between the image at its resolution and the enlarged image below, and that image itself.

    Arguments:
        stage: From 0; stage 0 sees the image alone.
        pyramid: How the state holds images.
        out_shape: Of the context.
        base_ch: As for `GrowingEncoder`.
        min_ch: Likewise.
    """

    def __init__(self, stage: int, pyramid: ImagePyramid, out_shape: Sequence[int], base_ch: int, min_ch: int) -> None:
        super().__init__()
        self.stage, self.pyramid = stage, pyramid
        inputs = pyramid.channels * (1 if stage == 0 else 2)
        growth = Grown(pyramid.resolutions[: stage + 1])
        side = pyramid.resolutions[stage]
        self.network = GrowingEncoder((inputs, side, side), out_shape, growth, base_ch, min_ch)

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        """Images (K, B, C, R, R) and state (K, B, n) to (K, B, *out_shape)."""
        image = area_pooled(features, self.pyramid.resolutions[self.stage])
        if self.stage > 0:
            below = self.pyramid.below(state, self.stage)
            image = torch.cat([image - below, below], -3)
        out: Tensor = self.network(image)
        return out


class ImageBelow(nn.Module):
    """Inform: from what the stages below have made to the context of this stage's prior.

    Arguments:
        stage: From 1.
        pyramid: How the state holds images.
        out_shape: Of the context.
        base_ch: As for `GrowingEncoder`.
        min_ch: Likewise.
    """

    def __init__(self, stage: int, pyramid: ImagePyramid, out_shape: Sequence[int], base_ch: int, min_ch: int) -> None:
        super().__init__()
        self.stage, self.pyramid = stage, pyramid
        resolutions = pyramid.resolutions[:stage]
        in_shape = (pyramid.channels, resolutions[-1], resolutions[-1])
        self.network = GrowingEncoder(in_shape, out_shape, Grown(resolutions), base_ch, min_ch)

    def forward(self, state: Tensor) -> Tensor:
        """State (K, B, n) to (K, B, *out_shape)."""
        out: Tensor = self.network(self.pyramid.made(state, self.stage - 1))
        return out


class ResidualImage(nn.Module):
    """Merge: this stage's latent adds to the image below what the image lacks, and lays the sum beside the others.

    Arguments:
        stage: From 0; stage 0 makes the first image from nothing.
        pyramid: How the state holds images.
        growth: Blends the newest stage in.
        in_shape: Of the latent.
        base_ch: As for `GrowingDecoder`.
        min_ch: Likewise.
    """

    def __init__(
        self, stage: int, pyramid: ImagePyramid, growth: Growth, in_shape: Sequence[int], base_ch: int, min_ch: int
    ) -> None:
        super().__init__()
        self.stage, self.pyramid, self.growth = stage, pyramid, growth
        self.network = RefiningDecoder(in_shape, pyramid, stage, base_ch, min_ch)
        if stage > 0:
            self.network.begin_at(torch.zeros(self.network.out_shape))  # the image below is the first guess

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        """State (K, B, n) and latent (K, B, *z) to the next state, (K, B, n + C r r)."""
        if self.stage == 0:
            first: Tensor = self.network(z)
            return first.flatten(2)
        below = self.pyramid.below(state, self.stage)
        lacking = self.network(z, below)
        if self.stage == self.growth.stage and self.growth.fading:
            lacking = self.growth.blend(lacking, torch.zeros_like(lacking))
        return torch.cat([state, (below + lacking).flatten(2)], -1)


class RefiningDecoder(Network):
    """From a latent, and an image that it is to complete, to what the image lacks.

    As `GrowingDecoder` when it has grown, except that each level sees the image as well, downsampled to its resolution.

    Arguments:
        in_shape: Of the latent; flattened first.
        pyramid: Channels and resolutions.
        stage: The resolution of the image and of the output; at stage 0 there is no image.
        base_ch: Channels at the lowest resolution.
        min_ch: Fewest channels.
    """

    def __init__(self, in_shape: Sequence[int], pyramid: ImagePyramid, stage: int, base_ch: int, min_ch: int) -> None:
        side = pyramid.resolutions[stage]
        super().__init__(in_shape, (pyramid.channels, side, side))
        self.resolutions = pyramid.resolutions[: stage + 1]
        widths = channels(Grown(self.resolutions), base_ch, min_ch)
        seen = 0 if stage == 0 else pyramid.channels
        self.low = (widths[0], self.resolutions[0], self.resolutions[0])
        self.head = Linear(size(in_shape), size(self.low))
        self.levels = nn.ModuleList(
            nn.Conv2d(before + seen, after, kernel_size=3, padding=1)
            for before, after in zip([widths[0], *widths], widths, strict=False)
        )
        self.put_out = nn.Conv2d(widths[-1] + seen, pyramid.channels, kernel_size=1)
        self.act = nn.LeakyReLU(SLOPE)

    def begin_at(self, output: Tensor) -> None:
        """Set the biases of the last convolution to the mean of each channel of `output`, and shrink its weights."""
        begin_convolution(self.put_out, output)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Latent (K, B, *in_shape), and the image (K, B, C, r, r) as context, to (K, B, C, r, r)."""
        image = None if context is None else context.flatten(0, -4)
        h = self.act(self.head(x.reshape(-1, size(self.in_shape)))).view(-1, *self.low)
        h = h.contiguous(memory_format=torch.channels_last)
        for number, (level, resolution) in enumerate(zip(self.levels, self.resolutions, strict=True)):
            seen = None if image is None else area_pooled(image, resolution)
            h = self.act(level(_beside(h, seen)) if number == 0 else of_doubled(level, h, seen))
        out: Tensor = self.put_out(_beside(h, image))
        return out.view(*x.shape[: x.dim() - len(self.in_shape)], *self.out_shape)


def _beside(h: Tensor, image: Tensor | None) -> Tensor:
    return h if image is None else torch.cat([h, image], 1)
