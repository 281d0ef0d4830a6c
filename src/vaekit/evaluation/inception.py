"""Inception-v3 as the Fréchet inception distance has it: the network of 2015, and images resized as they were for it."""

# B batch, (3, H, W) image

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu

# the weights were trained with this; torch's own default is 1e-5
_EPS = 1e-3
# counts the batches of a training. Evaluation reads no such number, and files of older versions of torch hold none
_COUNTER = ".num_batches_tracked"


class InceptionV3(nn.Module):
    """Inception-v3 with the layers of the TensorFlow graph of 2015-12-05, which published numbers named FID are made with.

    It is not the network of table 1 to the letter, nor that of torchvision: the graph has 1008 classes, no auxiliary
    classifier in use, averages over the pixels of the image alone at its edges, and a maximum in the place of the last
    block's average. Its names are those of the published weights, so that these load as they are.

    References:
        | Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2016), figures 5, 6, 7 and 10
        | https://arxiv.org/abs/1512.00567
        | The weights, converted from TensorFlow: https://github.com/mseitzer/pytorch-fid
    """

    features = 2048
    classes = 1008

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, 2, padding="valid")
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, padding="valid")
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = Convolution(64, 80)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, padding="valid")
        self.Mixed_5b = Small(192, 32)
        self.Mixed_5c = Small(256, 64)
        self.Mixed_5d = Small(288, 64)
        self.Mixed_6a = ToHalf(288)
        self.Mixed_6b = Long(128)
        self.Mixed_6c = Long(160)
        self.Mixed_6d = Long(160)
        self.Mixed_6e = Long(192)
        self.Mixed_7a = ToQuarter()
        self.Mixed_7b = Wide(1280, mean_around)
        self.Mixed_7c = Wide(2048, greatest_around)
        self.fc = nn.Linear(self.features, self.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Features of images: (B, 3, H, W), at least 75 pixels a side, to (B, 2048), the mean over the last feature maps."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))


class Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU.

    Arguments:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Height and width, or one number for both.
        stride: Of the filters; above 1 only without padding.
        padding: TensorFlow's names, of sizes for which torch pads alike: kernels are odd wherever it is "same".
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: Literal["same", "valid"] = "same",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W), or to what the windows inside the image leave."""
        return relu(self.bn(self.conv(x)))


def mean_around(x: Tensor) -> Tensor:
    """Mean over each pixel and its neighbours, (B, C, H, W); at the edges of those that there are, and not of zeros."""
    return avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def greatest_around(x: Tensor) -> Tensor:
    """Greatest value of each pixel and its neighbours, (B, C, H, W)."""
    return max_pool2d(x, 3, 1, 1)


class Small(nn.Module):
    """At 35 x 35: figure 5, whose two 3 x 3 filters stand beside one of 5 x 5.

    Arguments:
        width: Channels of the input.
        pooled: Channels of the branch behind the mean.
    """

    def __init__(self, width: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(width, 64)
        self.branch5x5_1 = Convolution(width, 48)
        self.branch5x5_2 = Convolution(48, 64, 5)
        self.branch3x3dbl_1 = Convolution(width, 64)
        self.branch3x3dbl_2 = Convolution(64, 96, 3)
        self.branch3x3dbl_3 = Convolution(96, 96, 3)
        self.branch_pool = Convolution(width, pooled)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to (B, 224 + pooled, H, W)."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(mean_around(x))], 1)


class ToHalf(nn.Module):
    """From 35 x 35 to 17 x 17: figure 10.

    Arguments:
        width: Channels of the input.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(width, 384, 3, 2, "valid")
        self.branch3x3dbl_1 = Convolution(width, 64)
        self.branch3x3dbl_2 = Convolution(64, 96, 3)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, 2, "valid")

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to (B, 480 + width, (H - 1) / 2, (W - 1) / 2)."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, max_pool2d(x, 3, 2)], 1)


class Long(nn.Module):
    """At 17 x 17: figure 6, whose filters are as long as 7 pixels and one pixel wide.

    Arguments:
        inner: Channels between the filters.
    """

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(768, 192)
        self.branch7x7_1 = Convolution(768, inner)
        self.branch7x7_2 = Convolution(inner, inner, (1, 7))
        self.branch7x7_3 = Convolution(inner, 192, (7, 1))
        self.branch7x7dbl_1 = Convolution(768, inner)
        self.branch7x7dbl_2 = Convolution(inner, inner, (7, 1))
        self.branch7x7dbl_3 = Convolution(inner, inner, (1, 7))
        self.branch7x7dbl_4 = Convolution(inner, inner, (7, 1))
        self.branch7x7dbl_5 = Convolution(inner, 192, (1, 7))
        self.branch_pool = Convolution(768, 192)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 768, H, W) to (B, 768, H, W)."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(mean_around(x))], 1)


class ToQuarter(nn.Module):
    """From 17 x 17 to 8 x 8: figure 10 again, with a 7 x 7 filter in one of its branches."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(768, 192)
        self.branch3x3_2 = Convolution(192, 320, 3, 2, "valid")
        self.branch7x7x3_1 = Convolution(768, 192)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1))
        self.branch7x7x3_4 = Convolution(192, 192, 3, 2, "valid")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 768, H, W) to (B, 1280, (H - 1) / 2, (W - 1) / 2)."""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), max_pool2d(x, 3, 2)], 1)


class Wide(nn.Module):
    """At 8 x 8: figure 7, whose branches end in a row and a column side by side.

    Arguments:
        width: Channels of the input.
        pool: Over each pixel and its neighbours, before the last branch.
    """

    def __init__(self, width: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = Convolution(width, 320)
        self.branch3x3_1 = Convolution(width, 384)
        self.branch3x3_2a = Convolution(384, 384, (1, 3))
        self.branch3x3_2b = Convolution(384, 384, (3, 1))
        self.branch3x3dbl_1 = Convolution(width, 448)
        self.branch3x3dbl_2 = Convolution(448, 384, 3)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1))
        self.branch_pool = Convolution(width, 192)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to (B, 2048, H, W)."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        forks = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        forks += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *forks, self.branch_pool(self.pool(x))], 1)


def with_weights(weights: dict[str, Tensor]) -> InceptionV3:
    """The network with these weights, in evaluation mode; nothing is drawn on the way.

    Arguments:
        weights: All of them by name, and no others; counters of training batches may be missing.

    Raises:
        RuntimeError: If a name or a shape differs.
    """
    with torch.device("meta"):
        network = InceptionV3()
    counters = {name: torch.tensor(0) for name in network.state_dict() if name.endswith(_COUNTER)}
    network.load_state_dict(counters | weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def resized(images: Tensor, side: int) -> Tensor:
    """Bilinear as TensorFlow 1 resized images for this network, (B, C, H, W) to (B, C, side, side).

    Pixel i of n stands at i H / n of the H given ones, without the halves that centre a pixel, and between its two neighbours;
    those of a shrunken image that lie between the places read are not seen (no antialiasing).
    """
    return _along(_along(images, side, -1), side, -2)


def _along(images: Tensor, side: int, dim: int) -> Tensor:
    length = images.shape[dim]
    place = torch.arange(side, device=images.device, dtype=torch.float64) * (length / side)
    low = place.long()
    near, far = images.index_select(dim, low), images.index_select(dim, (low + 1).clamp(max=length - 1))
    share = (place - low).to(images.dtype)
    return near + (far - near) * (share if dim == -1 else share[:, None])
