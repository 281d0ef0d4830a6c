"""Residual convolutional encoder and decoder for images of any height, width and number of channels."""

# (C, H, W) image; each level halves H and W, rounding up, and the decoder retraces the same sizes

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate

from vaekit.networks.base import Network, begin_convolution, check_image_shape, check_widths, size
from vaekit.networks.base import activation as act
from vaekit.networks.conv import pyramid
from vaekit.networks.fold import Flatten, Unflatten, convolved, folded
from vaekit.networks.linear import Linear
from vaekit.networks.norm import Norm, of_channels, of_features


class ResidualEncoder(Network):
    """A 3x3 convolution, levels of pre-activation residual blocks, the first of each at stride 2, and two linear layers.

    Arguments:
        in_shape: (C, H, W), any sizes from 1.
        out_shape: Shape of one output.
        channels: Channels after each halving, from the image inwards.
        blocks: Residual blocks at each level.
        hidden_dim: Width of the fully connected layer after the blocks.
        activation: As for `MLP`, except swiglu.
        norm: As for `MLP`: before each activation. The paper has batch.

    References:
        | Identity Mappings in Deep Residual Networks (He, Zhang, Ren and Sun, 2016), figure 1(b) and section 4.1
        | https://arxiv.org/abs/1603.05027
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        blocks: int = 1,
        hidden_dim: int = 400,
        activation: str = "relu",
        norm: Norm = "none",
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_image_shape(in_shape, "an input")
        _check_sizes(channels, blocks, hidden_dim)
        shapes = pyramid((channels[0], *in_shape[1:]), channels)
        layers: list[nn.Module] = [nn.Conv2d(in_shape[0], channels[0], kernel_size=3, padding=1)]
        for (before, _, _), (after, _, _) in pairwise(shapes):
            layers.append(PreActivation(before, after, activation, norm, stride=2))
            layers += [PreActivation(after, after, activation, norm) for _ in range(blocks - 1)]
        layers += [
            *of_channels(norm, channels[-1]),
            act(activation),
            Flatten(),
            Linear(size(shapes[-1]), hidden_dim),
        ]
        layers += [*of_features(norm, hidden_dim), act(activation), Linear(hidden_dim, size(out_shape))]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, C, H, W) to (*, *out_shape)."""
        return convolved(self.layers, x).view(*x.shape[:-3], *self.out_shape)


class ResidualDecoder(Network):
    """The mirror of `ResidualEncoder`: two linear layers, levels of blocks after nearest upsampling, and a 3x3 convolution.

    A side that was odd on the way down is cropped by one on the way up, so every image size is met exactly.

    Arguments:
        in_shape: Shape of one latent; flattened first.
        out_shape: (C, H, W) of the output, any sizes from 1.
        channels: Channels from the smallest image outwards.
        blocks: Residual blocks at each level.
        hidden_dim: Width of the first fully connected layer.
        activation: As for `MLP`, except swiglu.
        norm: As for `MLP`: before each activation.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (64, 32),
        blocks: int = 1,
        hidden_dim: int = 400,
        activation: str = "relu",
        norm: Norm = "none",
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_image_shape(out_shape, "an output")
        _check_sizes(channels, blocks, hidden_dim)
        shapes = pyramid((channels[-1], *out_shape[1:]), channels[::-1])[::-1]
        layers: list[nn.Module] = [nn.Flatten(), Linear(size(in_shape), hidden_dim), *of_features(norm, hidden_dim)]
        layers += [act(activation), Linear(hidden_dim, size(shapes[0])), Unflatten(1, shapes[0])]
        for (before, _, _), (after, height, width) in pairwise(shapes):
            layers += [Enlarge(height, width), PreActivation(before, after, activation, norm)]
            layers += [PreActivation(after, after, activation, norm) for _ in range(blocks - 1)]
        layers += [*of_channels(norm, channels[-1]), act(activation)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], out_shape[0], kernel_size=3, padding=1))

    def begin_at(self, output: Tensor) -> None:
        """Set the last layer's bias to the mean of each channel of `output`, and shrink its weights."""
        begin_convolution(self.layers[-1], output)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, *in_shape) to (*, C, H, W)."""
        return folded(self.layers, x, len(self.in_shape))


class PreActivation(nn.Module):
    """A residual block whose normalisation and activation stand before its two 3x3 convolutions, so that the sum is left alone.

    Where it changes the number of channels or the sides, a 1x1 convolution of the activated input takes the identity's place.
    """

    def __init__(self, before: int, after: int, activation: str, norm: Norm, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(*of_channels(norm, before), act(activation))
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1),
            *of_channels(norm, after),
            act(activation),
            nn.Conv2d(after, after, kernel_size=3, padding=1),
        )
        changes = before != after or stride != 1
        self.shortcut = nn.Conv2d(before, after, kernel_size=1, stride=stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """From (N, before, H, W) to (N, after, ceil(H/stride), ceil(W/stride))."""
        activated = self.first(x)
        out: Tensor = (x if self.shortcut is None else self.shortcut(activated)) + self.branch(activated)
        return out


class Enlarge(nn.Module):
    """Each pixel four times, cropped to (height, width)."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        """From (N, C, h, w) to (N, C, height, width), with height in {2h - 1, 2h}."""
        return interpolate(x, scale_factor=2, mode="nearest")[..., : self.height, : self.width]


def _check_sizes(channels: Sequence[int], blocks: int, hidden_dim: int) -> None:
    check_widths(channels=channels, hidden_dim=[hidden_dim])
    if not channels:
        raise ValueError("channels is [], expected the channels of at least one level, for example [32, 64].")
    if blocks < 1:
        raise ValueError(f"blocks is {blocks}, expected 1 or more.")
