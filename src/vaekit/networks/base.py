"""The interface of networks: tensor to tensor, with shapes known when they are built."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaekit.networks.tanh import Tanh

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": Tanh,
}


class Network(nn.Module, ABC):
    """A function of tensors without probability.

    Any number of leading dimensions is carried through: (*, *in_shape) -> (*, *out_shape). The last layer is linear, so the
    output is free to mean anything.

    Attributes:
        in_shape: Shape of one input.
        out_shape: Shape of one output.
        conditional: Whether it needs to be told what the examples are conditioned on.
    """

    conditional: ClassVar[bool] = False

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        super().__init__()
        self.in_shape, self.out_shape = torch.Size(in_shape), torch.Size(out_shape)

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, *in_shape) to (*, *out_shape). `context`, what the examples are conditioned on, most networks leave aside."""

    def begin_at(self, output: Tensor) -> None:
        """Let the untrained network put out nearly `output`, (*out_shape), for any input; one that cannot stays as it is."""


# what begins near a fixed output keeps this share of its dependence on the input, so that there is something to learn from
BEGINNING_SHARE = 0.1


@torch.no_grad()
def begin_convolution(convolution: nn.Module, output: Tensor) -> None:
    """Set the bias of a last convolution to the mean of each channel of `output`, (C, H, W), and shrink its weights."""
    assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
    assert convolution.bias is not None
    convolution.bias.copy_(output.mean((1, 2)))
    convolution.weight.mul_(BEGINNING_SHARE)


def activation(name: str) -> nn.Module:
    """The activation called `name`."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}, expected one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]()


def check_image_shape(shape: Sequence[int], role: str) -> None:
    """Raise unless `shape` is (channels, height, width)."""
    if len(shape) != 3:
        raise ValueError(
            f"A convolutional network needs {role} of shape (channels, height, width), received {tuple(shape)}. "
            "Use network=mlp for data that are not images."
        )


def check_widths(**widths: Sequence[int]) -> None:
    """Raise unless every width is 1 or more."""
    for name, given in widths.items():
        if any(width < 1 for width in given):
            raise ValueError(f"{name} is {list(given)}, expected widths of 1 or more.")


def size(shape: Sequence[int]) -> int:
    """Number of elements of one event of `shape`."""
    return math.prod(shape)
