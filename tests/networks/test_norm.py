"""Normalisation, and the layers of an MLP that has it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vaekit.networks import MLP, ConvDecoder, ConvEncoder, ResidualDecoder, ResidualEncoder
from vaekit.networks.mlp import SwiGLU
from vaekit.networks.norm import BatchNorm, of_channels, of_features

pytestmark = pytest.mark.usefixtures("float64")

MAKERS = {
    "mlp": lambda norm: MLP((1, 8, 8), (4,), hidden_dims=(6, 5), norm=norm),
    "conv encoder": lambda norm: ConvEncoder((1, 8, 8), (4,), channels=(2, 3), hidden_dim=5, norm=norm),
    "conv decoder": lambda norm: ConvDecoder((4,), (1, 8, 8), channels=(3, 2), hidden_dim=5, norm=norm),
    "residual encoder": lambda norm: ResidualEncoder((1, 8, 8), (4,), channels=(2, 3), hidden_dim=5, norm=norm),
    "residual decoder": lambda norm: ResidualDecoder((4,), (1, 8, 8), channels=(3, 2), hidden_dim=5, norm=norm),
}


@pytest.fixture(params=MAKERS.values(), ids=MAKERS.keys())
def make(request):
    return request.param


def kinds(net: nn.Module) -> list[str]:
    return [type(m).__name__ for m in net.layers]


def test_the_order_is_linear_norm_activation_dropout() -> None:
    net = MLP((3,), (2,), hidden_dims=(4, 5), activation="silu", norm="batch", dropout=0.1)
    hidden = ["Linear", "BatchNorm", "SiLU", "Dropout"]
    assert kinds(net) == [*hidden, *hidden, "Linear"]
    assert kinds(MLP((3,), (2,), hidden_dims=(4,), norm="layer")) == ["Linear", "LayerNorm", "ReLU", "Linear"]
    assert kinds(MLP((3,), (2,), hidden_dims=(4,))) == ["Linear", "ReLU", "Linear"]


def test_swiglu_is_the_formula_with_a_layer_norm() -> None:
    r""":math:`\mathrm{Swish}_1(a) \odot b`, where (a, b) is the normalised W x + c."""
    net = MLP((3,), (2,), hidden_dims=(4,), activation="swiglu", dropout=0.2).eval()
    assert kinds(net) == ["Linear", "LayerNorm", "SwiGLU", "Dropout", "Linear"]
    first, norm, last = net.layers[0], net.layers[1], net.layers[4]
    assert tuple(first.weight.shape) == (8, 3)
    assert tuple(last.weight.shape) == (2, 4)
    with torch.no_grad():
        norm.weight.normal_(), norm.bias.normal_()
    x = torch.randn(7, 3)
    h = x @ first.weight.T + first.bias
    h = (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    a, b = (h * norm.weight + norm.bias).split(4, 1)
    torch.testing.assert_close(net(x), (a / (1 + (-a).exp()) * b) @ last.weight.T + last.bias, rtol=1e-12, atol=1e-12)


def test_swiglu_of_layers_and_its_contradiction() -> None:
    assert sum(isinstance(m, SwiGLU) for m in MLP((3,), (2,), (4, 4, 4), activation="swiglu", norm="layer").layers) == 3
    with pytest.raises(ValueError, match="write norm=layer"):
        MLP((3,), (2,), activation="swiglu", norm="batch")
    with pytest.raises(ValueError, match=r"'swigloo'.*relu.*swiglu"):
        MLP((3,), (2,), activation="swigloo")


def test_an_unknown_norm_is_refused(make) -> None:
    with pytest.raises(ValueError, match="norm is 'group', expected none, batch or layer"):
        make("group")


def test_batch_norm_folds_samples_into_the_batch(make) -> None:
    """K samples of B examples are K B rows, in training too, and their statistics those of all rows."""
    net = make("batch").train()
    other = copy.deepcopy(net)
    x = torch.randn(3, 4, *net.in_shape)
    out = net(x)
    torch.testing.assert_close(out, other(x.flatten(0, 1)).view_as(out), rtol=1e-12, atol=1e-12)
    assert out.shape == (3, 4, *net.out_shape)
    for a, b in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_statistics_are_of_a_batch_in_training_and_running_averages_in_evaluation() -> None:
    layer, x = BatchNorm(3), 2.0 + 3.0 * torch.randn(50, 3)
    out = layer(x)
    torch.testing.assert_close(out.mean(0), torch.zeros(3), rtol=0, atol=1e-12)
    torch.testing.assert_close(out.var(0, unbiased=False), torch.ones(3), rtol=1e-5, atol=0)
    torch.testing.assert_close(layer.running_mean, 0.1 * x.mean(0))
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * x.var(0))
    expected = (x - layer.running_mean) / (layer.running_var + 1e-5).sqrt()
    torch.testing.assert_close(layer.eval()(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lead", [(1,), (1, 1), ()])
def test_a_batch_of_one_is_normalised_with_the_running_averages(make, lead) -> None:
    """The last batch of an epoch may be one example: no crash, no division by its own variance, and a gradient."""
    net = make("batch").train()
    for _ in range(3):
        net(torch.randn(20, *net.in_shape))
    before = {name: value.clone() for name, value in net.named_buffers()}
    x = torch.randn(*lead, *net.in_shape, requires_grad=True)
    out = net(x)
    out.sum().backward()
    assert torch.equal(out, net.eval()(x))
    assert x.grad.abs().sum() > 0
    assert all(torch.equal(before[name], value) for name, value in net.named_buffers())


def test_two_rows_are_normalised_with_their_own_statistics(make) -> None:
    net = make("batch").train()
    x = torch.randn(2, *net.in_shape)
    assert not torch.allclose(net(x), copy.deepcopy(net).eval()(x))


def test_layer_norm_knows_no_batch(make) -> None:
    net = make("layer").train()
    x = torch.randn(2, 3, *net.in_shape)
    torch.testing.assert_close(net(x)[1, 2], net(x[1, 2]), rtol=1e-12, atol=1e-12)
    assert not list(net.buffers())


def test_every_hidden_layer_is_normalised(make) -> None:
    def count(net: nn.Module, *wanted: type) -> int:
        return sum(isinstance(m, wanted) for m in net.modules())

    activations = count(make("none"), nn.ReLU)
    assert count(make("batch"), BatchNorm) == count(make("layer"), nn.LayerNorm, nn.GroupNorm) == activations
    assert count(make("none"), BatchNorm, nn.LayerNorm, nn.GroupNorm) == 0


def test_layer_norm_of_images_takes_all_values_together() -> None:
    (layer,) = of_channels("layer", 3)
    out = layer(5.0 + 2.0 * torch.randn(4, 3, 6, 5))
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.zeros(4), rtol=0, atol=1e-12)
    torch.testing.assert_close(out.var((1, 2, 3), unbiased=False), torch.ones(4), rtol=1e-4, atol=0)
    assert of_features("none", 3) == of_channels("none", 3) == []
