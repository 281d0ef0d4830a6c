"""EfficientNet-lite0: the network whose pooled features generated and real images are compared in."""

# B batch, (3, H, W) image

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, relu6

# the weights were trained with this; torch's own default is 1e-5
_EPS = 1e-3


class Stage(NamedTuple):
    """Blocks in a row, of which only the first changes the resolution and the number of channels."""

    expansion: int
    kernel: int
    stride: int
    blocks: int
    channels: int


# table 1 of the paper, stages 2 to 8; lite0 scales neither width nor depth
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(6, 3, 2, 2, 24),
    Stage(6, 5, 2, 2, 40),
    Stage(6, 3, 2, 3, 80),
    Stage(6, 5, 1, 3, 112),
    Stage(6, 5, 2, 4, 192),
    Stage(6, 3, 1, 1, 320),
)
_STEM = 32


class EfficientNetLite0(nn.Module):
    """EfficientNet-B0 for mobile devices: without squeeze-and-excitation, ReLU6 in place of swish, 4.65 million weights.

    Its names are those of the published weights, so that these load as they are.

    References:
        | EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019), table 1
        | https://arxiv.org/abs/1905.11946
        | MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., 2018), table 1, for the block
        | https://arxiv.org/abs/1801.04381
    """

    features = 1280
    classes = 1000

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = Same(3, _STEM, 3, 2)
        self._bn0 = _norm(_STEM)
        blocks, width = [], _STEM
        for stage in STAGES:
            for number in range(stage.blocks):
                blocks.append(Block(width, stage, stage.stride if number == 0 else 1))
                width = stage.channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = Same(width, self.features, 1, 1)
        self._bn1 = _norm(self.features)
        self._fc = nn.Linear(self.features, self.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Features of images: (B, 3, H, W), values from about -1 to 1, to (B, 1280), the mean over the last feature maps."""
        x = relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Scores of the ImageNet classes from features: (B, 1280) to (B, 1000)."""
        scores: Tensor = self._fc(features)
        return scores


class Block(nn.Module):
    """Inverted residual: widen, filter each channel, narrow; added to its input where the shapes allow.

    Arguments:
        width: Channels of the input.
        stage: Kernel, expansion and channels of the output.
        stride: Of the filters.
    """

    def __init__(self, width: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = width * stage.expansion
        self.residual = stride == 1 and width == stage.channels
        if stage.expansion > 1:
            self._expand_conv, self._bn0 = Same(width, inner, 1, 1), _norm(inner)
        self._depthwise_conv, self._bn1 = Same(inner, inner, stage.kernel, stride, groups=inner), _norm(inner)
        self._project_conv, self._bn2 = Same(inner, stage.channels, 1, 1), _norm(stage.channels)
        self.expands = stage.expansion > 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, channels, H / stride, W / stride)."""
        h: Tensor = relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        h = relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.residual else h


class Same(nn.Conv2d):
    """A convolution whose output is as large as its input divided by the stride, rounded up.

    Where the padding is odd, the additional row and column stand below and to the right, as they did when the weights were
    trained; torch would pad both sides alike and see each image shifted.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        (top, bottom), (left, right) = (self._sides(length) for length in x.shape[-2:])
        padded = pad(x, (left, right, top, bottom))
        out: Tensor = conv2d(padded, self.weight, None, self.stride, groups=self.groups)
        return out

    def _sides(self, length: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        return total // 2, total - total // 2


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS)


def with_weights(weights: dict[str, Tensor]) -> EfficientNetLite0:
    """The network with these weights, in evaluation mode; nothing is drawn on the way.

    Arguments:
        weights: All of them by name, and no others.

    Raises:
        RuntimeError: If a name or a shape differs.
    """
    with torch.device("meta"):
        network = EfficientNetLite0()
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)
