"""Rules by which traced operations become fewer: each applies where it may, leaves the same bits, and keeps off where it must."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from vaekit.training.graph import aten
from vaekit.training.program import Program, State
from vaekit.training.simplify import simplify

Function = Callable[[Tensor, Tensor], Tensor]


def given(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, 4, 6, generator=generator, dtype=dtype)
    return x, y


def simplified(function: Function, dtype: torch.dtype = torch.float32) -> tuple[list[object], fx.GraphModule]:
    """The operations that are left, and what does them."""
    module = make_fx(function, tracing_mode="fake")(*given(dtype))
    simplify(module.graph)
    module.recompile()
    return [node.target for node in module.graph.nodes if node.op == "call_function"], module


def assert_same(function: Function, module: fx.GraphModule, dtype: torch.dtype = torch.float32) -> None:
    expected, found = function(*given(dtype)), module(*given(dtype))
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda x, y: x.flatten().view(4, 6).view(1, 4, 6).exp(), [aten.exp.default]),
        (lambda x, y: x[0].t().t().exp(), [aten.select.int, aten.exp.default]),
        (lambda x, y: x.view(24).view(6, 4), [aten.view.default]),
        (lambda x, y: x.neg().view(24).neg().view(4, 6) * y, [aten.view.default, aten.mul.Tensor]),
        (lambda x, y: x.pow(1.0) * y, [aten.mul.Tensor]),
        (lambda x, y: x.sum(0, keepdim=True) * y.mean(0), [aten.view.default, aten.mul.Tensor]),
        (lambda x, y: torch.stack([x]).sum(0) * y, [aten.mul.Tensor]),
        (lambda x, y: x.sum(1, keepdim=True).view(1, 6), [aten.sum.dim_IntList]),
        (lambda x, y: x.view(24).mean() * y, [aten.mean.default, aten.mul.Tensor]),
        (
            lambda x, y: torch.stack([x.sum(), y.sum()]).sum(),
            [aten.sum.default, aten.sum.default, aten.add.Tensor],
        ),
        (lambda x, y: torch.ones_like(x) * y, [aten.full.default, aten.mul.Tensor]),
        (lambda x, y: (2 * x + 1.5) / 3, [aten.full.default, aten.mul.Tensor, aten.full.default, aten.add.Tensor,
                                          aten.full.default, aten.div.Tensor]),
        (lambda x, y: (x * y).exp() + (x * y), [aten.mul.Tensor, aten.exp.default, aten.add.Tensor]),
    ],
    ids=[
        "views of views", "there and back", "two views", "negative of the negative", "power of one", "sum of one",
        "stack of one", "kept dimensions", "mean of a view", "sum of two", "ones", "numbers", "twice the same",
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_applies_and_changes_no_bit(function: Function, left: list[object], dtype: torch.dtype) -> None:
    found, module = simplified(function, dtype)
    assert found == left
    assert_same(function, module, dtype)


def written_between(x: Tensor, y: Tensor) -> Tensor:
    made = x * y
    before = made.neg()
    made.add_(1.0)
    return before.neg() + made


def stack_is_read(x: Tensor, y: Tensor) -> Tensor:
    both = torch.stack([x.sum(), y.sum()])
    return both * both.sum()


def written_before_the_view(x: Tensor, y: Tensor) -> Tensor:
    made = x * y
    summed = made.sum(1, keepdim=True)
    made.mul_(2.0)
    return summed.view(1, 6) + made.sum()


def stack_is_written_to(x: Tensor, y: Tensor) -> Tensor:
    both = torch.stack([x.sum(), y.sum()])
    both.view(2).mul_(2.0)
    return both.sum()


def zeros_are_written_to(x: Tensor, y: Tensor) -> Tensor:
    made = torch.zeros_like(x)
    before = made.pow(1.0)
    made.add_(y)
    return before * 2.0 + made


@pytest.mark.parametrize(
    "function",
    [
        written_between,
        stack_is_read,
        written_before_the_view,
        stack_is_written_to,
        zeros_are_written_to,
        lambda x, y: torch.stack([x.sum() > -1e9, y.sum() > -1e9]).sum(),
        lambda x, y: torch.stack([x.sum().int(), y.sum().int()]).sum(),
        lambda x, y: (x * 2).view(torch.int32).view(-1),
        lambda x, y: (x * 2).view(torch.int32).view(-1).sum(),
        lambda x, y: x.int().pow(1.0),
        lambda x, y: x.sum(dim=None, keepdim=True).view(1),
        lambda x, y: torch.stack([x.sum(), y.sum(), x.mean()]).sum(),
        lambda x, y: torch.stack([x, y]).sum(),
        lambda x, y: x.transpose(1, 2).neg().reshape(24).neg(),
        lambda x, y: x.transpose(1, 2).sum(0) + y[0].t(),
        lambda x, y: x.sum(0, dtype=torch.float64),
        lambda x, y: x.sum() + y.sum((0, 1)),
        lambda x, y: x.add(2.0, alpha=3),
        lambda x, y: (x > 0) * 2 + y.to(torch.int64) * 3,
        lambda x, y: x.to(torch.bfloat16) * 0.3,
        lambda x, y: x.sum(1, keepdim=True).view(6, 1),
        lambda x, y: x.expand(3, 4, 6).sum(0) * 0.1,
    ],
    ids=[
        "what is written to", "a stack with readers", "written before the view", "a stack that is written to",
        "zeros that are written to", "truth values", "small integers", "bits", "a sum of bits", "an integer's power",
        "all dimensions", "three", "two tensors", "another order", "another order of one",
        "another type", "no dimension", "with a factor", "integers", "half", "another shape", "expanded",
    ],
)  # fmt: skip
def test_where_a_rule_may_not_apply_the_numbers_stay(function: Function) -> None:
    _, module = simplified(function)
    assert_same(function, module)


@pytest.mark.parametrize("number", [0.1, 3, -0.0, 1e-45, float("inf")])
def test_a_number_is_rounded_as_torch_does(number: float) -> None:
    for function in (
        lambda x, y: x * number + y,
        lambda x, y: x - number,
        lambda x, y: x / number if number else x + number,
    ):
        _, module = simplified(function)
        assert_same(function, module)


def test_numbers_are_made_once() -> None:
    """As long as no buffer moves, what hangs on nothing is not computed again."""
    x, y = given()
    program = Program(lambda ps, bs, xs: [xs[0] * 2.0 + xs[1] / 3.0], State([], []), [x, y])
    names = {node.target for node in program._main.__self__.graph.nodes}  # type: ignore[attr-defined]
    assert names >= {"mul", "div", "add_"}
    assert aten.full.default not in names
    for _ in range(2):
        assert torch.equal(program([x, y])[0], x * 2.0 + y / 3.0)
