"""Encoder and decoder between an image and a map of features, without any fully connected layer: what a grid of codes needs."""

# (C, H, W) image, (D, h, w) map; each of n levels halves both sides, rounding up, and the decoder retraces the same sizes

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import pad

from vaekit.networks.base import Network, begin_convolution, check_image_shape, check_widths
from vaekit.networks.base import activation as act
from vaekit.networks.conv import Doubling, pyramid
from vaekit.networks.fold import convolved


class MapEncoder(Network):
    """Strided 4x4 convolutions, residual blocks, and a 1x1 convolution to the channels of the map.

    Without a halving, a 3x3 convolution stands in the place of the strided ones.

    Arguments:
        in_shape: (C, H, W), any sizes from 1.
        out_shape: (D, h, w), where h and w are H and W, halved the same number of times and rounded up.
        hidden_channels: Channels of all layers but the first input and the last output.
        residual_blocks: How many follow the strided convolutions.
        activation: As for `MLP`, except swiglu.

    Raises:
        ValueError: If no number of halvings leads from one shape to the other.

    References:
        | Neural Discrete Representation Learning (van den Oord, Vinyals and Kavukcuoglu, 2017), section 4.1
        | https://arxiv.org/abs/1711.00937
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        hidden_channels: int = 64,
        residual_blocks: int = 2,
        activation: str = "relu",
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_image_shape(in_shape, "an input")
        check_image_shape(out_shape, "an output")
        _check_sizes(hidden_channels, residual_blocks)
        first, hidden = in_shape[0], hidden_channels
        layers: list[nn.Module] = []
        for level in range(halvings(in_shape, out_shape)):
            layers += [Halving(first if level == 0 else hidden, hidden), act(activation)]
        # the blocks begin with their own activation
        layers = layers[:-1] or [nn.Conv2d(first, hidden, kernel_size=3, padding=1)]
        layers += [ResidualBlock(hidden, activation) for _ in range(residual_blocks)]
        self.layers = nn.Sequential(*layers, act(activation), nn.Conv2d(hidden, out_shape[0], kernel_size=1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, C, H, W) to (*, D, h, w)."""
        return convolved(self.layers, x)


class MapDecoder(Network):
    """The mirror of `MapEncoder`: a 3x3 convolution, residual blocks, then transposed 4x4 convolutions that double each side.

    A side that was odd on the way down is cropped by one on the way up, so every image size is met exactly. Without a
    doubling, a 3x3 convolution stands in the place of the transposed ones.

    Arguments:
        in_shape: (D, h, w), where h and w are H and W, halved the same number of times and rounded up.
        out_shape: (C, H, W), any sizes from 1.
        hidden_channels: Channels of all layers but the first input and the last output.
        residual_blocks: How many precede the transposed convolutions.
        activation: As for `MLP`, except swiglu.

    Raises:
        ValueError: If no number of halvings leads from one shape to the other.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        hidden_channels: int = 64,
        residual_blocks: int = 2,
        activation: str = "relu",
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_image_shape(out_shape, "an output")
        check_image_shape(in_shape, "an input")
        _check_sizes(hidden_channels, residual_blocks)
        levels, hidden = halvings(out_shape, in_shape), hidden_channels
        layers: list[nn.Module] = [nn.Conv2d(in_shape[0], hidden, kernel_size=3, padding=1)]
        layers += [ResidualBlock(hidden, activation) for _ in range(residual_blocks)]
        for before, after in pairwise(pyramid(out_shape, [hidden] * levels)[::-1]):
            layers += [act(activation), Doubling(before[0], after)]
        if levels == 0:
            layers += [act(activation), nn.Conv2d(hidden, out_shape[0], kernel_size=3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def begin_at(self, output: Tensor) -> None:
        """Set the last layer's bias to the mean of each channel of `output`, and shrink its weights."""
        last = self.layers[-1]
        begin_convolution(last.conv if isinstance(last, Doubling) else last, output)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, D, h, w) to (*, C, H, W)."""
        return convolved(self.layers, x)


class Halving(nn.Module):
    """A 4x4 convolution at stride 2 that halves both sides, rounding up: an odd side is padded by one row or column of zeros."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """From (N, before, H, W) to (N, after, ceil(H/2), ceil(W/2))."""
        odd_height, odd_width = x.shape[-2] % 2, x.shape[-1] % 2
        out: Tensor = self.conv(pad(x, (0, odd_width, 0, odd_height)) if odd_height or odd_width else x)
        return out


class ResidualBlock(nn.Module):
    r""":math:`x + f(x)`, where f is activation, 3x3 convolution, activation, 1x1 convolution (section 4.1 of the paper)."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            act(activation),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            act(activation),
            nn.Conv2d(channels, channels, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w), kept."""
        out: Tensor = x + self.branch(x)
        return out


def halvings(image: Sequence[int], small: Sequence[int]) -> int:
    """How often the sides of `image`, (*, H, W), are halved and rounded up until they are those of `small`, (*, h, w).

    Raises:
        ValueError: If they never are.
    """
    sides, count = tuple(image[1:]), 0
    reached = [sides]
    while sides != tuple(small[1:]):
        if max(sides) == 1:
            raise ValueError(
                f"A map of {small[1]} x {small[2]} cannot be reached from an image of {image[1]} x {image[2]} by halving "
                f"both sides: choose one of {', '.join(f'{h} x {w}' for h, w in reached)}."
            )
        sides, count = (-(-sides[0] // 2), -(-sides[1] // 2)), count + 1
        reached.append(sides)
    return count


def _check_sizes(hidden_channels: int, residual_blocks: int) -> None:
    check_widths(hidden_channels=[hidden_channels])
    if residual_blocks < 0:
        raise ValueError(f"residual_blocks is {residual_blocks}, expected 0 or more.")
