"""Convolutional encoder and decoder for images of any height, width and number of channels."""

# (C, H, W) image; each level halves H and W, rounding up, and the decoder retraces the same sizes

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from vaekit.networks.base import Network, begin_convolution, check_image_shape, check_widths, size
from vaekit.networks.base import activation as act
from vaekit.networks.fold import Flatten, Unflatten, convolved, folded
from vaekit.networks.linear import Linear
from vaekit.networks.norm import Norm, of_channels, of_features
from vaekit.networks.phases import transposed


class ConvEncoder(Network):
    """Strided 3x3 convolutions, then one hidden layer, then a linear layer.

    Arguments:
        in_shape: (C, H, W), any sizes from 1.
        out_shape: Shape of one output.
        channels: Channels after each halving, from the image inwards.
        hidden_dim: Width of the fully connected layer after the convolutions.
        activation: As for `MLP`, except swiglu.
        norm: As for `MLP`: before each activation. "layer" normalises all values of an image together.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        hidden_dim: int = 400,
        activation: str = "relu",
        norm: Norm = "none",
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_image_shape(in_shape, "an input")
        check_widths(channels=channels, hidden_dim=[hidden_dim])
        shapes = pyramid(in_shape, channels)
        layers: list[nn.Module] = []
        for (before, _, _), (after, _, _) in pairwise(shapes):
            convolution = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1)
            layers += [convolution, *of_channels(norm, after), act(activation)]
        layers += [Flatten(), Linear(size(shapes[-1]), hidden_dim), *of_features(norm, hidden_dim), act(activation)]
        self.layers = nn.Sequential(*layers, Linear(hidden_dim, size(out_shape)))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, C, H, W) to (*, *out_shape)."""
        return convolved(self.layers, x).view(*x.shape[:-3], *self.out_shape)


class ConvDecoder(Network):
    """The mirror of `ConvEncoder`: two fully connected layers, then transposed 4x4 convolutions that double each side.

    A side that was odd on the way down is cropped by one on the way up, so every image size is met exactly.

    Arguments:
        in_shape: Shape of one latent; flattened first.
        out_shape: (C, H, W) of the output, any sizes from 1.
        channels: Channels from the smallest image outwards.
        hidden_dim: Width of the first fully connected layer.
        activation: As for `MLP`, except swiglu.
        norm: As for `MLP`: before each activation. "layer" normalises all values of an image together.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (64, 32),
        hidden_dim: int = 400,
        activation: str = "relu",
        norm: Norm = "none",
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_image_shape(out_shape, "an output")
        check_widths(channels=channels, hidden_dim=[hidden_dim])
        shapes = pyramid(out_shape, channels[::-1])[::-1]
        layers: list[nn.Module] = [
            nn.Flatten(),
            Linear(size(in_shape), hidden_dim),
            *of_features(norm, hidden_dim),
            act(activation),
            Linear(hidden_dim, size(shapes[0])),
            Unflatten(1, shapes[0]),
        ]
        for before, after in pairwise(shapes):
            layers += [*of_channels(norm, before[0]), act(activation), Doubling(before[0], after)]
        self.layers = nn.Sequential(*layers)

    def begin_at(self, output: Tensor) -> None:
        """Set the last layer's bias to the mean of each channel of `output`, and shrink its weights."""
        last = self.layers[-1]
        assert isinstance(last, Doubling)
        begin_convolution(last.conv, output)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, *in_shape) to (*, C, H, W)."""
        return folded(self.layers, x, len(self.in_shape))


class Doubling(nn.Module):
    """A transposed convolution that doubles the sides of an image, cropped to the wanted shape (C, H, W)."""

    def __init__(self, channels: int, out_shape: Sequence[int]) -> None:
        super().__init__()
        self.height, self.width = out_shape[1:]
        # kernel 4 at stride 2: every output pixel sees the same number of inputs, so no checkerboard
        self.conv = nn.ConvTranspose2d(channels, out_shape[0], kernel_size=4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """From (N, channels, h, w) to (N, C, H, W), with H in {2h - 1, 2h}."""
        out = transposed(self.conv, x)
        return out[..., : self.height, : self.width]


def pyramid(shape: Sequence[int], channels: Sequence[int]) -> list[tuple[int, int, int]]:
    """Shapes of the image and of what each halving leaves of it, sides rounded up."""
    first, height, width = shape
    shapes = [(first, height, width)]
    for channel in channels:
        height, width = -(-height // 2), -(-width // 2)
        shapes.append((channel, height, width))
    return shapes
