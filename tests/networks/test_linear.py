"""The linear layer: the same function by either library, also under second derivatives, and the same bits every time."""

import pytest
import torch
from torch.nn import functional

from vaekit.networks import linear as module
from vaekit.networks.linear import Linear

N, I, O = 128, 300, 400  # noqa: E741


@pytest.fixture(params=[True, False], ids=["whole width", "half width"])
def by_onednn(request, monkeypatch):
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        pytest.skip("this build of torch has no oneDNN matrix product")
    monkeypatch.setattr(module, "_faster_here", lambda: True)
    monkeypatch.setattr(module, "_whole_width", lambda: request.param)
    calls = []
    product = module._Product.apply
    monkeypatch.setattr(module._Product, "apply", lambda *args: calls.append(1) or product(*args))
    return calls


def draws(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    layer = Linear(I, O).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(O, I, generator=generator))
        layer.bias.copy_(torch.randn(O, generator=generator))
    return layer, torch.randn(2, N // 2, I, generator=generator).to(dtype).requires_grad_()


def test_value_and_gradients_are_those_of_torch(by_onednn) -> None:
    layer, x = draws()
    weighting = torch.randn(2, N // 2, O)
    ours = torch.autograd.grad((layer(x) * weighting).sum(), (x, layer.weight, layer.bias))
    reference = functional.linear(x.double(), layer.weight.double(), layer.bias.double())
    theirs = torch.autograd.grad((reference * weighting).sum(), (x, layer.weight, layer.bias))
    torch.testing.assert_close(layer(x).double(), reference, rtol=1e-4, atol=1e-4)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert by_onednn


def test_second_derivatives_are_those_of_torch(by_onednn) -> None:
    """The gradient of a gradient penalty, as RAE and critics need it."""
    layer, x = draws()

    def penalty(function):
        (gradient,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), (x, layer.weight))

    reference = penalty(lambda x: functional.linear(x, layer.weight, layer.bias))
    for a, b in zip(penalty(layer), reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())


def test_the_same_bits_every_time(by_onednn) -> None:
    layer, x = draws()
    first = [torch.autograd.grad(layer(x).square().sum(), (x, layer.weight, layer.bias)) for _ in range(5)]
    for other in first[1:]:
        assert all(torch.equal(a, b) for a, b in zip(first[0], other, strict=True))


def test_float64_and_small_products_are_left_to_torch(by_onednn) -> None:
    layer, x = draws(torch.float64)
    assert torch.equal(layer(x), functional.linear(x, layer.weight, layer.bias))
    small = Linear(3, 4)
    assert torch.equal(small(torch.ones(2, 3)), functional.linear(torch.ones(2, 3), small.weight, small.bias))
    assert not by_onednn


def test_initial_values_are_those_of_torch() -> None:
    torch.manual_seed(0)
    ours = Linear(5, 7)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(5, 7)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_its_operations_are_counted(by_onednn) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    layer, x = draws()
    with FlopCounterMode(display=False, custom_mapping=module.UNCOUNTED) as counter, torch.no_grad():
        layer(x)
    assert by_onednn
    assert counter.get_total_flops() == 2 * N * I * O
