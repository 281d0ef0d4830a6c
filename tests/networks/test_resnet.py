"""Residual networks: what is particular to them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vaekit.networks import ResidualDecoder, ResidualEncoder
from vaekit.networks.base import BEGINNING_SHARE
from vaekit.networks.resnet import PreActivation

pytestmark = pytest.mark.usefixtures("float64")


def test_a_block_is_that_of_the_paper() -> None:
    """Figure 1(b): norm, activation, convolution, twice, and the input added with nothing after."""
    block = PreActivation(3, 3, "relu", "batch").eval()
    assert [type(m).__name__ for m in (*block.first, *block.branch)] == [
        "BatchNorm", "ReLU", "Conv2d", "BatchNorm", "ReLU", "Conv2d"
    ]  # fmt: skip
    x = torch.randn(2, 3, 5, 4)
    norm, _ = block.first
    a, second, _, b = block.branch
    torch.testing.assert_close(block(x) - x, b(second(a(norm(x).relu())).relu()), rtol=1e-12, atol=1e-12)
    nn.init.zeros_(b.weight), nn.init.zeros_(b.bias)
    assert torch.equal(block(x), x)


def test_a_block_that_changes_shape_projects_the_activated_input() -> None:
    block, x = PreActivation(3, 5, "relu", "none", stride=2), torch.randn(2, 3, 5, 4)
    assert block(x).shape == (2, 5, 3, 2)
    nn.init.zeros_(block.branch[-1].weight), nn.init.zeros_(block.branch[-1].bias)
    weight = block.shortcut.weight[:, :, 0, 0]
    expected = torch.einsum("oc,nchw->nohw", weight, x.relu()[..., ::2, ::2]) + block.shortcut.bias[:, None, None]
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("blocks", [1, 3])
def test_levels_and_blocks(blocks: int) -> None:
    encoder = ResidualEncoder((3, 9, 6), (4,), channels=(2, 5), blocks=blocks, hidden_dim=7)
    decoder = ResidualDecoder((4,), (3, 9, 6), channels=(5, 2), blocks=blocks, hidden_dim=7)
    seen: list[list[tuple[int, ...]]] = [[], []]
    for net, shapes in zip((encoder, decoder), seen, strict=True):
        for module in net.modules():
            if isinstance(module, PreActivation):
                module.register_forward_hook(lambda m, i, o, shapes=shapes: shapes.append(tuple(o.shape[1:])))
    assert decoder(encoder(torch.randn(1, 3, 9, 6))).shape == (1, 3, 9, 6)
    assert seen[0] == [(2, 5, 3)] * blocks + [(5, 3, 2)] * blocks
    assert seen[1] == [(2, 5, 3)] * blocks + [(2, 9, 6)] * blocks


def test_the_decoder_begins_at_an_output() -> None:
    network = ResidualDecoder((3,), (2, 5, 7))
    z = torch.randn(50, 3)
    before = network(z).std(0).mean().item()
    output = torch.tensor([0.2, 0.7])[:, None, None].expand(2, 5, 7)
    network.begin_at(output)
    after = network(z)
    assert after.std(0).mean().item() == pytest.approx(BEGINNING_SHARE * before, rel=1e-4)
    assert (after.mean(0) - output).abs().max() < 0.1


@pytest.mark.parametrize(
    "make",
    [lambda **kw: ResidualEncoder((1, 4, 4), (2,), **kw), lambda **kw: ResidualDecoder((2,), (1, 4, 4), **kw)],
    ids=["encoder", "decoder"],
)
def test_impossible_sizes_are_refused(make) -> None:
    for wrong, said in [
        ({"channels": ()}, "channels is"),
        ({"channels": (3, 0)}, r"channels is \[3, 0\]"),
        ({"blocks": 0}, "blocks is 0"),
        ({"hidden_dim": 0}, "hidden_dim is"),
        ({"activation": "swiglu"}, "activation is 'swiglu'"),
    ]:
        with pytest.raises(ValueError, match=said):
            make(**wrong)
