"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vaekit.networks.base import BEGINNING_SHARE, Network, check_widths, size
from vaekit.networks.base import activation as act
from vaekit.networks.linear import Linear


class MLP(Network):
    """Fully connected layers with an activation after each but the last.

    Arguments:
        in_shape: Shape of one input; flattened first.
        out_shape: Shape of one output.
        hidden_dims: Widths of the hidden layers, from the input to the output.
        activation: relu, leaky_relu, elu, gelu, silu or tanh.
        dropout: Share of hidden units that are zeroed in training, in [0, 1).
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        hidden_dims: Sequence[int] = (400, 400),
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_widths(hidden_dims=hidden_dims)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout is {dropout}, expected a share in [0, 1).")
        layers: list[nn.Module] = []
        for before, after in pairwise([size(in_shape), *hidden_dims]):
            layers += [Linear(before, after), act(activation)]
            if dropout > 0.0:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, Linear([size(in_shape), *hidden_dims][-1], size(out_shape)))

    @torch.no_grad()
    def begin_at(self, output: Tensor) -> None:
        """Set the last layer's bias to `output`, and shrink its weights."""
        last = self.layers[-1]
        assert isinstance(last, Linear)
        last.bias.copy_(output.flatten())
        last.weight.mul_(BEGINNING_SHARE)

    def forward(self, x: Tensor) -> Tensor:
        """From (*, *in_shape) to (*, *out_shape)."""
        lead = x.shape[: x.dim() - len(self.in_shape)]
        out: Tensor = self.layers(x.reshape(*lead, size(self.in_shape)))
        return out.view(*lead, *self.out_shape)
