"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from vaekit.networks.base import ACTIVATIONS, BEGINNING_SHARE, Network, check_widths, size
from vaekit.networks.linear import Linear
from vaekit.networks.norm import Norm, of_features


class MLP(Network):
    r"""Fully connected layers, each hidden one made of: linear, normalisation, activation, dropout.

    With `activation="glu"` the linear layer of a hidden layer of width n puts out 2 n numbers, and the layer is
    :math:`a \odot \mathrm{sigmoid}(b)` of their two halves: a gated dense layer.

    With `activation="swiglu"` the linear layer of a hidden layer of width n puts out 2 n numbers, they are layer-normalised
    together, and the layer is :math:`\mathrm{silu}(a) \odot b` of their two halves a and b. Without the normalisation the products
    of one layer with the next grow fast, so it is there for `norm="none"` as well, and `norm="batch"` is refused.

    Arguments:
        in_shape: Shape of one input; flattened first.
        out_shape: Shape of one output.
        hidden_dims: Widths of the hidden layers, from the input to the output.
        activation: relu, leaky_relu, elu, gelu, silu, tanh, glu or swiglu.
        dropout: Share of hidden units that are zeroed in training, in [0, 1).
        norm: none, batch (`networks.norm.BatchNorm`: over all rows of a batch, and one row alone by the running averages) or
            layer (over the features of each row).

    References:
        | Language Modeling with Gated Convolutional Networks (Dauphin et al., 2017), equation 1, https://arxiv.org/abs/1612.08083
        | GLU Variants Improve Transformer (Shazeer, 2020), equation 5, https://arxiv.org/abs/2002.05202
        | Layer Normalization (Ba, Kiros and Hinton, 2016), https://arxiv.org/abs/1607.06450
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        hidden_dims: Sequence[int] = (400, 400),
        activation: str = "relu",
        dropout: float = 0.0,
        norm: Norm = "none",
    ) -> None:
        super().__init__(in_shape, out_shape)
        check_widths(hidden_dims=hidden_dims)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout is {dropout}, expected a share in [0, 1).")
        layers: list[nn.Module] = []
        for before, after in pairwise([size(in_shape), *hidden_dims]):
            layers += (
                _swiglu(before, after, norm) if activation == "swiglu" else _plain(before, after, activation, norm)
            )
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

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """From (*, *in_shape) to (*, *out_shape)."""
        lead = x.shape[: x.dim() - len(self.in_shape)]
        out: Tensor = self.layers(x.reshape(-1, size(self.in_shape)))
        return out.view(*lead, *self.out_shape)


class SwiGLU(nn.Module):
    """silu of the first half of the features, times the second half: (N, 2 F) to (N, F)."""

    def forward(self, x: Tensor) -> Tensor:
        """From (N, 2 F) to (N, F)."""
        gate, value = x.chunk(2, dim=-1)
        return silu(gate) * value


def _plain(before: int, after: int, activation: str, norm: Norm) -> list[nn.Module]:
    if activation == "glu":
        return [Linear(before, 2 * after), *of_features(norm, 2 * after), nn.GLU()]
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}, glu, swiglu.")
    return [Linear(before, after), *of_features(norm, after), ACTIVATIONS[activation]()]


def _swiglu(before: int, after: int, norm: Norm) -> list[nn.Module]:
    if norm == "batch":
        raise ValueError(
            "norm is 'batch', but activation=swiglu is layer-normalised: write norm=layer or leave norm out."
        )
    return [Linear(before, 2 * after), *of_features("layer", 2 * after), SwiGLU()]
