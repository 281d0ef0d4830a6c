"""A decoder that is told where to begin puts out nearly that, for any input, and can still learn from it."""

import pytest
import torch

from vaekit.networks import MLP, ConvDecoder
from vaekit.networks.base import BEGINNING_SHARE


@pytest.mark.parametrize("make", [MLP, ConvDecoder], ids=["mlp", "conv"])
def test_a_network_begins_at_an_output(make) -> None:
    torch.manual_seed(0)
    network = make(in_shape=(3,), out_shape=(2, 5, 7))
    z = torch.randn(50, 3)
    before = network(z).std(0).mean().item()
    output = torch.tensor([0.2, 0.7])[:, None, None].expand(2, 5, 7)
    network.begin_at(output)
    after = network(z)
    assert after.std(0).mean().item() == pytest.approx(BEGINNING_SHARE * before, rel=1e-4)
    assert (after.mean(0) - output).abs().max() < 0.1
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("make", [MLP, ConvDecoder], ids=["mlp", "conv"])
def test_widths_below_one_are_refused(make) -> None:
    widths = {"hidden_dims": (0,)} if make is MLP else {"hidden_dim": 0}
    with pytest.raises(ValueError, match="expected widths of 1 or more"):
        make(in_shape=(3,), out_shape=(1, 4, 4), **widths)
