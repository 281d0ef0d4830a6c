"""Normalisation layers that take any batch, also one of a single example."""

# N rows: the samples and examples of a batch, folded; F features or channels

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["none", "batch", "layer"]


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of features, (N, F), or of the channels of images, (N, F, H, W).

    While training, each batch is normalised with its own mean and variance, taken over all rows: K samples of B examples are
    K B of them. One row alone has no variance: it is normalised with the running averages, as in evaluation, and
    leaves them as they are. So the last batch of an epoch may be of any size.

    References:
        | Batch Normalization (Ioffe and Szegedy, 2015), algorithms 1 and 2, https://arxiv.org/abs/1502.03167
    """

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, F) or (N, F, H, W), kept."""
        if self.training and len(x) < 2:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""


def of_features(norm: Norm, width: int) -> list[nn.Module]:
    """What normalises rows of `width` features, (N, width): no layer or one."""
    return _chosen(norm, width, nn.LayerNorm)


def of_channels(norm: Norm, channels: int) -> list[nn.Module]:
    """What normalises images, (N, channels, H, W): no layer or one. "layer" takes all values of an image together."""
    return _chosen(norm, channels, lambda channels: nn.GroupNorm(1, channels))


def _chosen(norm: Norm, width: int, layer: Callable[[int], nn.Module]) -> list[nn.Module]:
    makers: dict[str, Callable[[int], nn.Module]] = {"batch": BatchNorm, "layer": layer}
    if norm != "none" and norm not in makers:
        raise ValueError(f"norm is {norm!r}, expected none, batch or layer.")
    return [makers[norm](width)] if norm in makers else []
