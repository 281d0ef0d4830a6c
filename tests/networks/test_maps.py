"""Networks from an image to a map of features and back."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vaekit.networks import MapDecoder, MapEncoder
from vaekit.networks.base import BEGINNING_SHARE
from vaekit.networks.conv import Doubling
from vaekit.networks.maps import Halving, ResidualBlock, halvings

pytestmark = pytest.mark.usefixtures("float64")

SMALL = {"hidden_channels": 3, "residual_blocks": 1}


@given(height=st.integers(1, 300), width=st.integers(1, 300), times=st.integers(0, 9))
def test_the_number_of_halvings_is_the_smallest_that_leads_there(height: int, width: int, times: int) -> None:
    def sides(n: int) -> tuple[int, int]:
        return -(-height // 2**n), -(-width // 2**n)

    count = halvings((3, height, width), (7, *sides(times)))
    assert count <= times
    assert sides(count) == sides(times)
    assert count == 0 or sides(count - 1) != sides(times)


@pytest.mark.parametrize(
    ("sides", "small"), [((8, 8), (3, 3)), ((8, 8), (2, 4)), ((28, 20), (14, 5)), ((4, 4), (8, 8))]
)
def test_a_map_that_halving_does_not_reach_is_refused_with_those_it_does(
    sides: tuple[int, int], small: tuple[int, int]
) -> None:
    for make in (lambda: MapEncoder((1, *sides), (2, *small)), lambda: MapDecoder((2, *small), (1, *sides))):
        with pytest.raises(ValueError, match=f"{small[0]} x {small[1]} cannot be reached") as caught:
            make()
        assert f"{-(-sides[0] // 2)} x {-(-sides[1] // 2)}" in str(caught.value)


@pytest.mark.parametrize(("side", "small", "levels"), [(28, 7, 2), (33, 5, 3), (7, 7, 0), (8, 1, 3)])
def test_layers_are_those_of_the_paper(side: int, small: int, levels: int) -> None:
    """Section 4.1: 4x4 windows at stride 2, and residual blocks of a 3x3 and a 1x1 convolution."""
    encoder = MapEncoder((3, side, side), (5, small, small), hidden_channels=6, residual_blocks=2)
    decoder = MapDecoder((5, small, small), (3, side, side), hidden_channels=6, residual_blocks=2)
    for net, kind in ((encoder, Halving), (decoder, Doubling)):
        resampling = [m for m in net.modules() if isinstance(m, kind)]
        assert len(resampling) == levels
        assert all(m.conv.kernel_size == (4, 4) and m.conv.stride == (2, 2) for m in resampling)
        blocks = [m for m in net.modules() if isinstance(m, ResidualBlock)]
        assert [[c.kernel_size[0] for c in b.modules() if isinstance(c, nn.Conv2d)] for b in blocks] == [[3, 1]] * 2


def test_a_residual_block_adds_to_its_input() -> None:
    block, x = ResidualBlock(3, "relu"), torch.randn(2, 3, 4, 5)
    _, wide, _, narrow = block.branch
    torch.testing.assert_close(block(x) - x, narrow(wide(x.relu()).relu()))
    nn.init.zeros_(narrow.weight), nn.init.zeros_(narrow.bias)
    assert torch.equal(block(x), x)


def test_no_two_activations_follow_each_other() -> None:
    """The blocks begin with one, so none may end the strided convolutions."""
    for net in (MapEncoder((1, 8, 8), (2, 2, 2), **SMALL), MapDecoder((2, 2, 2), (1, 8, 8), **SMALL)):
        flat = [type(m) for m in net.layers.modules() if not list(m.children())]
        assert all(not (a is b is nn.ReLU) for a, b in pairwise(flat))


def test_a_map_keeps_places() -> None:
    """A change of one corner of the image changes that corner of the map and leaves the opposite one."""
    encoder = MapEncoder((1, 64, 64), (2, 16, 16), **SMALL)
    x = torch.randn(1, 64, 64)
    y = x.clone()
    y[:, :2, :2] += 1.0
    changed = (encoder(y) - encoder(x)).abs().sum(0) > 0
    assert changed[0, 0]
    assert not changed[8:, :].any()
    assert not changed[:, 8:].any()


@pytest.mark.parametrize("side", [4, 8])
def test_the_decoder_begins_at_an_output(side: int) -> None:
    network = MapDecoder((3, 4, 4), (2, side, side), **SMALL)
    z = torch.randn(50, 3, 4, 4)
    before = network(z).std(0).mean().item()
    output = torch.tensor([0.2, 0.7])[:, None, None].expand(2, side, side)
    network.begin_at(output)
    after = network(z)
    assert after.std(0).mean().item() == pytest.approx(BEGINNING_SHARE * before, rel=1e-4)
    assert (after.mean(0) - output).abs().max() < 0.1


@pytest.mark.parametrize(
    "make", [lambda **kw: MapEncoder((1, 4, 4), (2, 2, 2), **kw), lambda **kw: MapDecoder((2, 2, 2), (1, 4, 4), **kw)]
)
def test_impossible_sizes_are_refused(make) -> None:
    with pytest.raises(ValueError, match="hidden_channels is"):
        make(hidden_channels=0)
    with pytest.raises(ValueError, match="residual_blocks is -1"):
        make(residual_blocks=-1)
    with pytest.raises(ValueError, match="'relux'"):
        make(activation="relux")
