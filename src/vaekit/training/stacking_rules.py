"""What an operation of one model is over N models: torch's own rule for it, or one that is faster or that torch lacks."""

# N models, B batch, I inputs, O outputs

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.func import vmap

aten = torch.ops.aten


class Values:
    """The values of the operations of a recording, while it is played for N models.

    Arguments:
        count: N.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._held: dict[fx.Node, Any] = {}
        self._stacks: set[fx.Node] = set()

    def __getitem__(self, node: fx.Node) -> Any:
        """As it lies: (N, *), or that of all models alike."""
        return self._held[node]

    def stacks(self, node: fx.Node) -> bool:
        """Whether it is (N, *), and not that of all models alike."""
        return node in self._stacks

    def stack(self, node: fx.Node) -> Tensor:
        """As (N, *)."""
        value: Tensor = self._held[node]
        return value if self.stacks(node) else value.expand(self.count, *value.shape)

    def put(self, node: fx.Node, value: Any, *, stacks: bool) -> None:
        """Take in the value of a node."""
        self._held[node] = value
        if stacks:
            self._stacks.add(node)

    def do(self, node: Any) -> None:
        """Do the operation of a node, once for what is alike in all models and else for all of them."""
        given = fx.map_arg((node.args, node.kwargs), self._held.__getitem__)
        if not any(map(self.stacks, node.all_input_nodes)):
            self.put(node, node.target(*given[0], **given[1]), stacks=False)
            return
        if node.target is operator.getitem:
            self.put(node, given[0][0][given[0][1]], stacks=True)
            return
        target = node.args[0]
        if _writes(node) and isinstance(target, fx.Node) and not self.stacks(target):
            self.put(target, self.stack(target).clone(), stacks=True)  # what was alike is now each model's own
        rule = _RULES.get(node.target)
        result = None if rule is None else rule(self, node)
        self.put(node, self._mapped(node) if result is None else result, stacks=True)

    def _mapped(self, node: Any) -> Any:
        """By torch's own rule."""
        inputs = [given for given in node.all_input_nodes if self.stacks(given)]
        there: list[bool] = []  # of an operation with several results

        def one(*tensors: Any) -> Any:
            own = {**self._held, **dict(zip(inputs, tensors, strict=True))}
            arguments, named = fx.map_arg((node.args, node.kwargs), own.__getitem__)
            result = node.target(*arguments, **named)
            if isinstance(result, Tensor):
                return result
            there[:] = [each is not None for each in result]
            return tuple(each for each in result if each is not None)

        result = vmap(one)(*(self._held[given] for given in inputs))
        if not there:
            return result
        found = iter(result)
        return [next(found) if each else None for each in there]


def _mm(values: Values, node: Any) -> Tensor:
    return torch.bmm(*map(values.stack, node.args[:2]))


def _addmm(values: Values, node: Any) -> Tensor | None:
    """The bias in the same pass as the product."""
    if node.kwargs:
        return None
    bias, a, b = map(values.stack, node.args)
    return torch.baddbmm(bias.unsqueeze(1) if bias.dim() == 2 else bias, a, b)


def _onednn(values: Values, node: Any) -> Tensor:
    """x W^T + b of the other library for matrices, (B, I), (O, I), (O): it has no product of stacks, and is for large ones.

    Model by model, so that the sums are those of a model alone to the last digit; what starting it costs is nothing beside it.
    """
    stacks = [None if given is None else values.stack(given) for given in node.args[:3]]
    rows = ([None if stack is None else stack[row] for stack in stacks] for row in range(values.count))
    return torch.stack([node.target(*given, *node.args[3:]) for given in rows])


def _index_select(values: Values, node: Any) -> Tensor | None:
    """One gather for all models, of what they share."""
    shared, dim, index = node.args
    if values.stacks(shared) or dim != 0:
        return None
    rows: Tensor = values[index]
    gathered: Tensor = values[shared].index_select(0, rows.reshape(-1))
    return gathered.view(*rows.shape, *gathered.shape[1:])


def _copied(values: Values, node: Any) -> Tensor:
    """Whatever the layout in memory that one model asks for."""
    kept = {name: given for name, given in node.kwargs.items() if name != "memory_format"}
    result: Tensor = node.target(values.stack(node.args[0]), **kept)
    return result.contiguous()


def _pointwise(values: Values, node: Any) -> Tensor:
    """The operation itself on tensors that broadcast as those of one model do."""
    dims = node.meta["val"].dim()

    def aligned(given: fx.Node) -> Tensor:
        value: Tensor = values[given]
        if not values.stacks(given):
            return value
        return value.view(values.count, *[1] * (dims + 1 - value.dim()), *value.shape[1:])

    arguments, named = fx.map_arg((node.args, node.kwargs), aligned)
    result: Tensor = node.target(*arguments, **named)
    return result


def _masked(values: Values, node: Any) -> Tensor | None:
    """One number where a mask says so, which torch writes as an index of unknown length."""
    target, places, number = node.args[:3]
    if len(node.args) > 3 or len(places) != 1 or values.stacks(number) or values[number].numel() != 1:
        return None
    mask, before = places[0], target.meta["val"]
    if mask.meta["val"].dtype != torch.bool or mask.meta["val"].shape != before.shape:
        return None
    fill = Tensor.masked_fill_ if _writes(node) else Tensor.masked_fill
    return fill(values.stack(target), values.stack(mask), values[number].reshape(()))


def _writes(node: Any) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


_RULES: dict[Any, Callable[[Values, Any], Tensor | None]] = {
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.index_select.default: _index_select,
    aten.index_put.default: _masked,
    aten.index_put_.default: _masked,
    aten.clone.default: _copied,
    aten._to_copy.default: _copied,
    aten.addcmul.default: _pointwise,
    aten.addcmul_.default: _pointwise,
}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    _RULES[torch.ops.mkldnn._linear_pointwise.default] = _onednn
