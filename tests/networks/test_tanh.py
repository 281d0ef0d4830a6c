"""The activation against torch's tanh: values, both derivatives, and what is not float32."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vaekit.networks.base import activation
from vaekit.networks.mlp import MLP
from vaekit.networks.tanh import Tanh

# every size from denormal numbers to where it is 1, of both signs
VALUES = torch.cat(
    [sign * torch.logspace(-44, 3, 4001, dtype=torch.float64) for sign in (1.0, -1.0)] + [torch.zeros(1)]
)


def test_it_is_within_what_it_says() -> None:
    x = VALUES.float()
    error = (Tanh()(x).double() - x.double().tanh()).abs()
    assert float(error.max()) <= 2e-7
    assert float(Tanh()(x).abs().max()) <= 1.0


def test_at_the_ends() -> None:
    found = Tanh()(torch.tensor([math.inf, -math.inf, 0.0, math.nan]))
    assert found[:3].tolist() == [1.0, -1.0, 0.0]
    assert found[3].isnan()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_those_of_torch(dtype: torch.dtype) -> None:
    x = VALUES.to(dtype)
    assert torch.equal(Tanh()(x), torch.tanh(x))


def test_its_derivatives() -> None:
    """The first, 1 - t^2, and the second, -2 t (1 - t^2), to the rounding of float32."""
    x = torch.linspace(-4.0, 4.0, 201, requires_grad=True)
    (first,) = torch.autograd.grad(Tanh()(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    t = x.detach().double().tanh()
    torch.testing.assert_close(first.detach().double(), 1.0 - t.square(), rtol=0, atol=5e-7)
    torch.testing.assert_close(second.double(), -2.0 * t * (1.0 - t.square()), rtol=0, atol=1e-6)


def test_what_it_is_given_stays_as_it_is() -> None:
    x = torch.linspace(-1.0, 1.0, 11)
    before = x.clone()
    Tanh()(x)
    assert torch.equal(x, before)


def test_a_network_with_it_is_the_one_with_torchs() -> None:
    assert isinstance(activation("tanh"), Tanh)
    torch.manual_seed(0)
    network = MLP((30,), (7,), hidden_dims=(50, 50), activation="tanh")
    x = torch.randn(64, 30)
    found = network(x)
    for name, module in list(network.named_modules()):
        if isinstance(module, Tanh):
            owner, _, last = name.rpartition(".")
            setattr(network.get_submodule(owner), last, nn.Tanh())
    assert any(isinstance(module, nn.Tanh) for module in network.modules())
    torch.testing.assert_close(found, network(x), rtol=0, atol=1e-6)
