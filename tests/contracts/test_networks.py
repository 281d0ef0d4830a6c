"""What is true of every network."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

pytestmark = pytest.mark.usefixtures("float64")

IMAGES = [(1, 28, 20), (1, 8, 8), (1, 1, 1), (7, 5, 3), (3, 33, 2)]
LEADS = [(), (4,), (2, 3), (2, 0), (2, 1, 3)]
SIDES = st.integers(1, 33)


def outputs(net: torch.nn.Module, lead: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    x = torch.randn(*lead, *net.in_shape)
    return x, net(x)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("lead", LEADS)
def test_leading_dimensions_are_carried(network: Any, image: tuple[int, ...], lead: tuple[int, ...]) -> None:
    in_shape, out_shape = network.shapes(image, (2, 3))
    net = network.make(in_shape, out_shape)
    assert net.in_shape == in_shape
    assert net.out_shape == out_shape
    x, out = outputs(net, lead)
    assert out.shape == (*lead, *out_shape)
    folded = net(x.reshape(math.prod(lead), *in_shape))
    torch.testing.assert_close(out, folded.reshape(out.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("image", IMAGES)
def test_each_example_is_treated_alone(network: Any, image: tuple[int, ...]) -> None:
    net = network.make(*network.shapes(image, (4,)))
    x, out = outputs(net, (2, 3))
    for k in range(2):
        for b in range(3):
            torch.testing.assert_close(net(x[k, b]), out[k, b], rtol=1e-12, atol=1e-12)


def test_expanded_and_strided_inputs_are_welcome(network: Any) -> None:
    """As in a trace, where the features of one example stand behind K samples without a copy."""
    net = network.make(*network.shapes((2, 5, 3), (4, 2)))
    x = torch.randn(3, *net.in_shape)
    out = net(x.expand(2, *x.shape))
    torch.testing.assert_close(out, net(x)[None].expand_as(out), rtol=1e-12, atol=1e-12)
    turned = torch.randn(*reversed(net.in_shape), 3).permute(*reversed(range(len(net.in_shape) + 1)))
    torch.testing.assert_close(net(turned), net(turned.contiguous()), rtol=1e-12, atol=1e-12)


@settings(max_examples=25)
@given(channels=st.integers(1, 9), height=SIDES, width=SIDES, other=st.lists(st.integers(1, 5), min_size=1, max_size=3))
@example(channels=1, height=28, width=20, other=[40])
@example(channels=33, height=33, width=33, other=[1])
def test_any_image_size(network: Any, channels: int, height: int, width: int, other: list[int]) -> None:
    in_shape, out_shape = network.shapes((channels, height, width), tuple(other))
    _, out = outputs(network.make(in_shape, out_shape), (2, 1))
    assert out.shape == (2, 1, *out_shape)
    assert out.isfinite().all()


@pytest.mark.parametrize("image", IMAGES)
def test_every_parameter_and_every_input_matters(network: Any, image: tuple[int, ...]) -> None:
    net = network.make(*network.shapes(image, (4,)))
    x = torch.randn(3, *net.in_shape, requires_grad=True)
    (net(x) * torch.randn(3, *net.out_shape)).sum().backward()
    assert list(net.parameters())
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert (x.grad != 0).all()  # no pixel is dropped by a stride


@pytest.mark.parametrize("image", IMAGES)
def test_the_last_layer_is_linear_and_reaches_every_output(network: Any, image: tuple[int, ...]) -> None:
    """Scaling the parameters of the last layer scales the output, and every output has its own value."""
    net = network.make(*network.shapes(image, (4,)))
    x, out = outputs(net, (3,))
    last = [m for m in net.modules() if not list(m.children()) and list(m.parameters())][-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(-2.0)
    torch.testing.assert_close(net(x), -2.0 * out, rtol=1e-11, atol=1e-12)
    assert out.flatten().unique().numel() == out.numel()


def test_state_dict_round_trip(network: Any) -> None:
    net = network.make(*network.shapes((2, 5, 3), (4,)))
    other = network.make(*network.shapes((2, 5, 3), (4,)))
    x, out = outputs(net, (3,))
    assert not torch.equal(other(x), out)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), out)


def test_gradients_are_those_of_finite_differences(network: Any) -> None:
    net = network.make(*network.shapes((1, 3, 2), (2,)))
    x = torch.randn(1, *net.in_shape, requires_grad=True)
    assert torch.autograd.gradcheck(net, (x,), atol=1e-6, rtol=1e-5)


def test_a_deep_copy_is_independent(network: Any) -> None:
    net = network.make(*network.shapes((2, 5, 3), (4,)))
    other = copy.deepcopy(net)
    x, out = outputs(net, (3,))
    assert torch.equal(other(x), out)
    next(other.parameters()).data.add_(1.0)
    assert torch.equal(net(x), out)


@pytest.mark.parametrize("shape", [(), (4,), (4, 4), (1, 1, 4, 4)])
def test_shapes_that_are_no_images_are_refused(network: Any, shape: tuple[int, ...]) -> None:
    if not (network.image_in or network.image_out):
        return
    with pytest.raises(ValueError, match=r"\(channels, height, width\).*network=mlp") as caught:
        network.make(*network.shapes(shape, (4,)))
    assert str(shape) in str(caught.value)
