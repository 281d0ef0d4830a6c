"""Memory is used again when, and only when, nobody holds what is in it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from vaekit.compose import compose, data_node
from vaekit.networks import linear, reuse, sparse
from vaekit.networks.linear import Linear
from vaekit.networks.reuse import Reused
from vaekit.recipe import make_session, open_data, resolved
from vaekit.training import fit

LIKE = torch.empty(0)


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (linear, sparse):
        monkeypatch.setattr(module, "LARGE", 1)
    return


def test_it_is_used_again_once_it_is_free() -> None:
    memory = Reused()
    first = memory((20, 30), LIKE)
    place = first.data_ptr()
    assert memory((20, 30), LIKE).data_ptr() != place  # the first is held still
    second = memory((20, 30), LIKE)
    place = second.data_ptr()
    del first, second
    assert memory((20, 30), LIKE).data_ptr() == place
    assert memory((30, 20), LIKE).shape == (30, 20)
    assert memory((30, 20), LIKE).data_ptr() == place
    assert memory((20, 31), LIKE).shape == (20, 31)
    assert memory((20, 31), LIKE.double()).dtype == torch.float64


@pytest.mark.parametrize("hold", [lambda t: t.detach(), lambda t: t[3:, 2], lambda t: t.numpy(), lambda t: t.t()])
def test_whoever_looks_at_it_holds_it(hold) -> None:
    memory = Reused()
    tensor = memory((20, 30), LIKE).fill_(1.0)
    held = hold(tensor)
    del tensor
    memory((20, 30), LIKE).fill_(2.0)
    assert (held == 1.0).all()


def test_where_torch_does_not_count_it_is_always_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "_COUNT", None)
    memory = Reused()
    first = memory((20, 30), LIKE).fill_(1.0)
    memory((20, 30), LIKE).fill_(2.0)
    assert (first == 1.0).all()


def inputs(kind: str) -> torch.Tensor:
    x = torch.rand(100, 5000, generator=torch.Generator().manual_seed(0))
    return x if kind == "dense" else x * (torch.arange(5000) % 4 == 0)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_the_gradient_of_a_large_weight_stays_in_its_place(kind: str, all_large: None) -> None:
    layer, x = Linear(5000, 70), inputs(kind)
    places = set()
    for step in range(4):
        layer.zero_grad()
        layer(x * (step + 1)).square().sum().backward()
        assert layer.weight.grad is not None
        places.add(layer.weight.grad.data_ptr())
        weight = layer.weight.detach().clone().requires_grad_()
        functional.linear(x * (step + 1), weight, layer.bias).square().sum().backward()
        torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-4, atol=1e-2)
    assert len(places) == 1


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_gradients_that_are_kept_are_not_written_over(kind: str, all_large: None) -> None:
    layer, x = Linear(5000, 70), inputs(kind)
    (first,) = torch.autograd.grad(layer(x).sum(), layer.weight)
    before = first.clone()
    (second,) = torch.autograd.grad(layer(2 * x).sum(), layer.weight)
    assert torch.equal(first, before)
    torch.testing.assert_close(second, 2 * first)
    (layer(x).sum() + layer(2 * x).sum()).backward()  # twice in one graph
    torch.testing.assert_close(layer.weight.grad, 3 * first)
    layer(x).sum().backward()  # added to what is there
    torch.testing.assert_close(layer.weight.grad, 4 * first)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
def test_a_copy_of_a_layer_has_memory_of_its_own(again, all_large: None) -> None:
    layer, x = Linear(5000, 70), inputs("dense")
    layer(x).sum().backward()
    other = again(layer)
    assert other._memory is not layer._memory
    assert set(layer.state_dict()) == {"weight", "bias"}
    other.zero_grad()
    other(2 * x).sum().backward()
    torch.testing.assert_close(other.weight.grad, 2 * layer.weight.grad)
    assert other.weight.grad.data_ptr() != layer.weight.grad.data_ptr()


def test_a_session_that_is_released_keeps_no_memory_for_gradients(all_large: None) -> None:
    composed = compose(["data=digits", "hidden_dim=8", "latent_dim=2"])
    dataset = open_data(data_node(composed))
    session = make_session(resolved(composed, dataset), dataset, torch.device("cpu"))
    fit(session.model, session.objective, session.players, session.stream, steps=2, steps_per_epoch=2)
    layers = [module for module in session.model.modules() if isinstance(module, Linear)]
    held = [layer._memory._storage for layer in layers]
    assert held
    assert None not in held
    session.release()
    assert all(reuse._free(storage) for storage in held)  # by this list alone
    assert [layer._memory._storage for layer in layers] == [None] * len(layers)
