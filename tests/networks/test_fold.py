"""How images lie in memory between layers: channels side by side, on the way there and back, and the numbers are torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vaekit.networks import ConvDecoder, ConvEncoder
from vaekit.networks.fold import Flatten, Unflatten, convolved


def lies_pixelwise(images: Tensor) -> bool:
    return images.stride(1) == 1 and images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_convolution_is_given_channels_side_by_side(channels: int) -> None:
    """Of a single channel, too, which lies both ways: its strides decide how the convolution is done and what comes out."""
    seen: list[bool] = []
    convolution = nn.Conv2d(channels, 4, 3, stride=2, padding=1)
    convolution.register_forward_hook(lambda module, given, out: seen.extend(map(lies_pixelwise, (given[0], out))))
    x = torch.rand(2, 5, channels, 8, 8)
    found = convolved(nn.Sequential(convolution), x)
    assert seen == [True, True]
    torch.testing.assert_close(found.flatten(0, 1), convolution(x.flatten(0, 1)), rtol=1e-5, atol=1e-6)


def test_rows_are_those_of_torch_and_so_are_the_derivatives() -> None:
    x = torch.rand(3, 4, 5, 2, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.equal(Flatten()(x), x.flatten(1))
    assert torch.autograd.gradcheck(lambda images: Flatten()(images).sin(), x)
    assert torch.autograd.gradgradcheck(lambda images: Flatten()(images).sin(), x)
    rows = torch.rand(3, 40)
    assert torch.equal(Unflatten(1, (4, 5, 2))(rows), rows.view(3, 4, 5, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_so_it_is_through_a_whole_network_and_back(channels: int) -> None:
    """No operation meets two operands that lie differently: torch then takes twenty times as long."""
    encoder = ConvEncoder((channels, 8, 8), (6,), channels=(4, 8), hidden_dim=7)
    decoder = ConvDecoder((6,), (channels, 8, 8), channels=(8, 4), hidden_dim=7)
    met: list[bool] = []

    def watch(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        if out.dim() == 4:
            out.register_hook(lambda gradient: met.append(gradient.stride() == out.stride() == given[0].stride()))

    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(watch)
    decoder(encoder(torch.rand(5, channels, 8, 8))).square().sum().backward()
    assert len(met) == 4
    assert all(met)


class Convolved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return convolved(self.layers, x)


def test_images_of_one_channel_are_exported_for_any_size_of_batch() -> None:
    network = Convolved()
    program = torch.export.export(network, (torch.rand(5, 1, 8, 8),), dynamic_shapes={"x": {0: torch.export.Dim("n")}})
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(program.module()(x), network(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (0, 3, 8, 8), (2, 1, 1, 1), (2, 3, 1, 5), (2, 1, 5, 1)], ids=str)
def test_images_without_size(shape: tuple[int, ...]) -> None:
    convolution = nn.Conv2d(shape[1], 4, 3, padding=1)
    x = torch.rand(shape, requires_grad=True)
    rows = nn.Sequential(convolution, nn.ReLU(), Flatten())
    found, expected = convolved(rows, x), nn.Sequential(convolution, nn.ReLU(), nn.Flatten())(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    one, other = (torch.autograd.grad(out.square().sum(), x)[0] for out in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
