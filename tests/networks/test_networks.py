"""Networks: what is particular to each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vaekit.networks import MLP, ConvDecoder, ConvEncoder, Network
from vaekit.networks.base import ACTIVATIONS
from vaekit.networks.conv import Doubling, pyramid
from vaekit.networks.fold import folded

pytestmark = pytest.mark.usefixtures("float64")

MAKERS = {
    "mlp": lambda **kw: MLP((1, 8, 8), (4,), **kw),
    "encoder": lambda **kw: ConvEncoder((1, 8, 8), (4,), **kw),
    "decoder": lambda **kw: ConvDecoder((4,), (1, 8, 8), **kw),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_an_unknown_activation_is_refused_with_the_list(make: Callable[..., Network]) -> None:
    with pytest.raises(ValueError, match=r"'relux'.*relu.*leaky_relu.*tanh"):
        make(activation="relux")


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_every_activation_works_and_is_used(make: Callable[..., Network], name: str) -> None:
    net = make(activation=name)
    kind = type(ACTIVATIONS[name]())
    assert any(type(module) is kind for module in net.modules())
    x = torch.randn(3, *net.in_shape)
    assert not torch.allclose(net(2.0 * x) - net(x), net(x) - net(0.0 * x))  # it is no linear map


@pytest.mark.parametrize("widths", [(0,), (4, -1)])
def test_widths_below_one_are_refused(widths: Sequence[int]) -> None:
    with pytest.raises(ValueError, match="hidden_dims") as caught:
        MLP((2,), (2,), hidden_dims=widths)
    assert str(list(widths)) in str(caught.value)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2.0, float("nan")])
def test_dropout_outside_its_range_is_refused(dropout: float) -> None:
    with pytest.raises(ValueError, match=r"dropout is .*\[0, 1\)"):
        MLP((2,), (2,), dropout=dropout)


def test_dropout_zeroes_its_share_in_training_only() -> None:
    net = MLP((50,), (1,), hidden_dims=(1000,), dropout=0.3)
    x = torch.randn(1, 50)
    assert torch.equal(net.eval()(x), net(x))
    assert not torch.equal(net.train()(x), net(x))
    (dropout,) = [m for m in net.modules() if isinstance(m, nn.Dropout)]
    share = (dropout(torch.ones(100_000)) == 0).double().mean().item()
    assert abs(share - 0.3) < 6 * (0.21 / 100_000) ** 0.5  # 6 standard errors: false alarm 2e-9


def test_an_mlp_is_affine_maps_and_activations() -> None:
    net = MLP((2, 3), (4,), hidden_dims=(7, 5), activation="tanh")
    (a, b, c) = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert [tuple(m.weight.shape) for m in (a, b, c)] == [(7, 6), (5, 7), (4, 5)]
    x = torch.randn(2, 3)
    hidden = torch.tanh(b.weight @ torch.tanh(a.weight @ x.flatten() + a.bias) + b.bias)
    torch.testing.assert_close(net(x), c.weight @ hidden + c.bias, rtol=1e-12, atol=1e-12)


@given(height=st.integers(1, 100), width=st.integers(1, 100), channels=st.lists(st.integers(1, 9), max_size=5))
def test_the_pyramid_halves_rounding_up(height: int, width: int, channels: list[int]) -> None:
    shapes = pyramid((3, height, width), channels)
    assert shapes[0] == (3, height, width)
    assert [shape[0] for shape in shapes[1:]] == channels
    for (_, h, w), (_, h2, w2) in pairwise(shapes):
        assert 2 * h2 - h in {0, 1}
        assert 2 * w2 - w in {0, 1}


@pytest.mark.parametrize("sides", [(1, 1), (3, 4), (4, 3), (7, 7), (8, 8)])
def test_the_encoder_makes_the_pyramid_and_the_decoder_retraces_it(sides: tuple[int, int]) -> None:
    seen: dict[str, list[tuple[int, ...]]] = {"down": [], "up": []}

    def watch(net: nn.Module, kinds: tuple[type, ...], name: str) -> None:
        for module in net.modules():
            if isinstance(module, kinds):
                module.register_forward_hook(lambda m, i, o: seen[name].append(tuple(o.shape[1:])))

    encoder, decoder = ConvEncoder((3, *sides), (2,), channels=(4, 5)), ConvDecoder((2,), (3, *sides), channels=(5, 4))
    watch(encoder, (nn.Conv2d,), "down")
    watch(decoder, (Doubling, nn.Unflatten), "up")
    decoder(encoder(torch.randn(2, 3, *sides)))
    shapes = pyramid((3, *sides), (4, 5))
    assert seen["down"] == shapes[1:]
    assert seen["up"] == shapes[::-1]


def test_the_encoder_shows_a_shift_of_the_image() -> None:
    """Convolutions before the first fully connected layer: moving the image by a stride moves the features."""
    encoder = ConvEncoder((1, 16, 16), (4,), channels=(3,))
    (conv,) = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    x = torch.zeros(1, 1, 16, 16)
    x[..., 6:9, 6:9] = torch.randn(3, 3)
    torch.testing.assert_close(conv(x.roll(2, -1)).roll(-1, -1)[..., 2:6, 2:6], conv(x)[..., 2:6, 2:6])


@given(lead=st.lists(st.integers(0, 3), max_size=3))
def test_folding_is_a_loop_over_the_leading_dimensions(lead: list[int]) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        assert x.dim() == 3
        return x.sum(-1) ** 2

    x = torch.randn(*lead, 2, 3)
    torch.testing.assert_close(folded(function, x, 2), x.sum(-1) ** 2)


def test_networks_are_abstract() -> None:
    with pytest.raises(TypeError):
        Network((1,), (1,))  # type: ignore[abstract]


def test_shapes_may_come_as_lists() -> None:
    made: list[Any] = [MLP([2], [3]), ConvEncoder([1, 4, 4], [3]), ConvDecoder([3], [1, 4, 4])]
    assert [type(shape) for net in made for shape in (net.in_shape, net.out_shape)] == [torch.Size] * 6
