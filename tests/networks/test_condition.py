"""What a network sees of a condition, and what is said of a condition that does not fit."""

# K samples, B batch, E width of a condition

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.networks import MLP, Conditioned, ConvDecoder, ConvEncoder, Embedding, Network, OneHot, Values

pytestmark = pytest.mark.usefixtures("float64")

LABELS = torch.tensor([2, 0, 3, 3])


def mlp(in_shape: Sequence[int], out_shape: Sequence[int]) -> MLP:
    return MLP(in_shape, out_shape, hidden_dims=(5,))


def conv(in_shape: Sequence[int], out_shape: Sequence[int]) -> ConvEncoder:
    return ConvEncoder(in_shape, out_shape, channels=(3,), hidden_dim=4)


def deconv(in_shape: Sequence[int], out_shape: Sequence[int]) -> ConvDecoder:
    return ConvDecoder(in_shape, out_shape, channels=(3,), hidden_dim=4)


NETWORKS = {
    "flat": lambda condition: Conditioned((3,), (2,), mlp, condition),
    "image": lambda condition: Conditioned((2, 4, 6), (5,), mlp, condition),
    "convolutions": lambda condition: Conditioned((2, 4, 6), (5,), conv, condition),
    "to an image": lambda condition: Conditioned((3,), (2, 4, 6), deconv, condition),
}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS.keys())
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_class_labels_are_unit_vectors() -> None:
    one_hot = OneHot(4)
    assert one_hot.width == 4
    assert torch.equal(one_hot(LABELS), torch.eye(4)[LABELS])
    assert torch.equal(one_hot(LABELS.int()), torch.eye(4)[LABELS])
    assert one_hot(LABELS).dtype == torch.get_default_dtype()


def test_class_labels_are_learned_vectors() -> None:
    embedding = Embedding(4, width=3)
    out = embedding(LABELS)
    assert torch.equal(out, embedding.weight[LABELS])
    out.sum().backward()
    assert torch.equal(embedding.weight.grad, torch.tensor([1.0, 0.0, 1.0, 2.0])[:, None].expand(4, 3))


def test_values_are_as_they_are() -> None:
    c = torch.randn(4, 2)
    assert Values(2)(c) is c


def test_the_condition_stands_beside_the_input() -> None:
    """Appended to a flat input; constant channels of an image."""
    flat, c = NETWORKS["flat"](OneHot(4)), torch.eye(4)[LABELS]
    x = torch.randn(4, 3)
    torch.testing.assert_close(flat(x, LABELS), flat.network(torch.cat([x, c], -1)), rtol=1e-13, atol=1e-13)
    image = NETWORKS["convolutions"](Values(2))
    x, c = torch.randn(4, 2, 4, 6), torch.randn(4, 2)
    beside = torch.cat([x, torch.einsum("bc,hw->bchw", c, torch.ones(4, 6))], 1)
    torch.testing.assert_close(image(x, c), image.network(beside), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("samples", [1, 3])
def test_every_example_has_its_own_row_for_all_of_its_samples(make: Any, samples: int) -> None:
    net = make(Embedding(4, width=2))
    x = torch.randn(samples, 4, *net.in_shape)
    out = net(x, LABELS)
    assert out.shape == (samples, 4, *net.out_shape)
    for b in range(4):
        torch.testing.assert_close(net(x[:, b : b + 1], LABELS[b : b + 1]), out[:, b : b + 1], rtol=1e-12, atol=1e-12)
    other = LABELS.clone()
    other[1] = 1
    changed = (net(x, other) != out).flatten(2).any(-1)
    assert changed[:, 1].all()
    assert not changed[:, [0, 2, 3]].any()


def test_everything_gets_a_gradient(make: Any) -> None:
    net = make(Embedding(3, width=2))
    x = torch.randn(6, *net.in_shape, requires_grad=True)
    (net(x, torch.arange(6) % 3) * torch.randn(6, *net.out_shape)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert x.grad.abs().max() > 0


def test_a_condition_takes_the_precision_of_the_input() -> None:
    net = NETWORKS["flat"](Values(1)).float()
    assert net(torch.randn(4, 3).float(), torch.randn(4, 1)).dtype == torch.float32
    assert NETWORKS["flat"](OneHot(4)).float()(torch.randn(4, 3).float(), LABELS).dtype == torch.float32


def test_shapes_are_those_without_the_condition(make: Any) -> None:
    net = make(OneHot(4))
    assert isinstance(net, Network)
    assert net.network.in_shape == (net.in_shape[0] + 4, *net.in_shape[1:])
    assert net.network.out_shape == net.out_shape


def test_begin_at_is_that_of_the_network() -> None:
    net = NETWORKS["to an image"](OneHot(4))
    mean = torch.full((2, 4, 6), 7.0)
    net.begin_at(mean)
    assert (net(torch.randn(4, 3), LABELS) - mean).abs().max() < 1.0


def test_no_context(make: Any) -> None:
    net = make(OneHot(4))
    with pytest.raises(ValueError, match=r"model is conditional.*model\.sample\(n, context=labels\)"):
        net(torch.randn(4, *net.in_shape))


CONTEXTS: dict[str, tuple[Any, Tensor, str]] = {
    "too few rows": (OneHot(4), LABELS[:3], r"int64 and shape \(3,\) for 4 examples: give one row for each"),
    "too many rows": (Values(2), torch.randn(5, 2), r"shape \(5, 2\) for 4 examples: give one row for each"),
    "no rows": (OneHot(4), torch.tensor(2), r"shape \(\) for 4 examples: give one row for each"),
    "numbers for classes": (
        OneHot(4),
        torch.randn(4),
        r"one of 4 class labels.*float32 and shape \(4,\).*networks\.Values",
    ),
    "columns for classes": (Embedding(4), LABELS[:, None], r"one of 4 class labels.*int64 and shape \(4, 1\)"),
    "a class too high": (OneHot(4), LABELS + 1, r"classes 0 to 3, received labels from 1 to 4"),
    "a class below 0": (OneHot(4), LABELS - 1, r"classes 0 to 3, received labels from -1 to 2"),
    "an embedding of a class too high": (Embedding(3), LABELS, r"classes 0 to 2, received labels from 0 to 3"),
    "classes for numbers": (
        Values(1),
        LABELS,
        r"1 values for each.*int64 and shape \(4,\).*condition\.kind=networks\.OneHot",
    ),
    "another number of values": (Values(2), torch.randn(4, 3), r"on 2 values for each example.*shape \(4, 3\)"),
    "values without columns": (Values(4), torch.randn(4), r"on 4 values for each example.*shape \(4,\)"),
}


@pytest.mark.parametrize(("condition", "context", "message"), CONTEXTS.values(), ids=CONTEXTS.keys())
def test_contexts_that_do_not_fit(make: Any, condition: Any, context: Tensor, message: str) -> None:
    net = make(condition)
    with pytest.raises(ValueError, match=message):
        net(torch.randn(2, 4, *net.in_shape), context)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: OneHot(0), "no labels to condition on.*data.conditions=KEY"),
        (lambda: Embedding(0), "no labels to condition on"),
        (lambda: Embedding(3, width=0), "width is 0, expected 1 or more"),
        (lambda: Values(0), "count is 0.*data.conditions names them"),
    ],
)
def test_conditions_of_no_width(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
