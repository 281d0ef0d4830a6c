"""First weights by the rules of the literature, by their moments; and the gated layers and bounds that come with them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from vaekit.conditionals import BoundedNormal
from vaekit.likelihoods import BernoulliFromMeans, PixelLogistic
from vaekit.networks import MLP, Initialised


@pytest.mark.parametrize(
    ("rule", "variance"), [("glorot", lambda n, m: 2.0 / (n + m)), ("he", lambda n, m: 2.0 / n)], ids=["glorot", "he"]
)
def test_variances_of_the_first_weights(rule: str, variance: object) -> None:
    network = Initialised((200,), (300,), partial(MLP, hidden_dims=(400,)), rule)
    layers = [part for part in network.modules() if isinstance(part, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(400, 200), (300, 400)]
    for layer in layers:
        outputs, inputs = layer.weight.shape
        wanted = variance(inputs, outputs)
        # the variance of a sample variance is at most 2 / n of its square: 6 standard errors
        assert abs(layer.weight.var() / wanted - 1.0) < 6 * (2 / layer.weight.numel()) ** 0.5
        assert not layer.bias.any()
    if rule == "glorot":
        assert float(layers[0].weight.detach().abs().max()) <= (6 / 600) ** 0.5


def test_a_gated_layer_is_its_formula() -> None:
    network = MLP((3,), (2,), hidden_dims=(4,), activation="glu").double()
    x = torch.randn(5, 3, dtype=torch.float64)
    first, last = network.layers[0], network.layers[-1]
    a, b = first(x)[:, :4], first(x)[:, 4:]
    torch.testing.assert_close(network(x), last(a / (1.0 + torch.exp(-b))))


def test_a_decoder_begins_at_the_means_of_the_data() -> None:
    likelihood = BernoulliFromMeans((3,))
    mean = torch.tensor([0.0, 0.25, 1.0])
    output = likelihood.beginning(mean)
    torch.testing.assert_close(output.sigmoid(), torch.tensor([0.001, 0.25, 0.999]))
    network = Initialised((2,), (3,), partial(MLP, hidden_dims=(4,)))
    network.begin_at(output)
    torch.testing.assert_close(network.network.layers[-1].bias, output)


def test_pixels_begin_at_the_mean_and_within_the_range() -> None:
    start = PixelLogistic((2,), 256).beginning(torch.tensor([0.0, 0.3]))
    torch.testing.assert_close(start[:2].sigmoid(), torch.tensor([0.01, 0.3]))
    torch.testing.assert_close(start[2:].exp(), torch.full((2,), 0.1))
    held = PixelLogistic((1,), 256, low=-1.0).beginning(torch.tensor([0.5]))
    assert float(held[1]) == -1.0


@pytest.mark.parametrize("make", [partial(BoundedNormal, (2,)), partial(PixelLogistic, (2,), 256)])
def test_bounds_the_wrong_way_round_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="expected low < high"):
        make(low=1.0, high=1.0)
