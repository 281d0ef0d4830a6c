"""Rewrites of traced operations after which the same numbers come out, with fewer of them.

No rule here replaces an operation by one that rounds differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils._pytree import tree_flatten

from vaekit.training.graph import UNSAFE_VIEW, Memory, arguments, aten, has_effect, is_view, shown, tensor_of

Rule = Callable[[fx.Graph, fx.Node, Memory], fx.Node | None]

_FILLED: dict[Any, int] = {
    aten.ones_like.default: 1, aten.zeros_like.default: 0, aten.new_zeros.default: 0, aten.new_ones.default: 1,
}  # fmt: skip
# a number as an operand is made a tensor of the other operand's type at every call
_WITH_NUMBER: dict[Any, Any] = {
    aten.add.Tensor: aten.add.Tensor,
    aten.sub.Tensor: aten.sub.Tensor,
    aten.mul.Tensor: aten.mul.Tensor,
    aten.mul.Scalar: aten.mul.Tensor,
    aten.div.Tensor: aten.div.Tensor,
    aten.div.Scalar: aten.div.Tensor,
}


def simplify(graph: fx.Graph) -> None:
    """Apply all rules, in place.

    Arguments:
        graph: As `make_fx` traces it, with the tensors of the tracing as `meta["val"]`.
    """
    _apply([_filled], graph)
    _apply(_RULES, graph)
    _drop_unread(graph)
    _share(graph)
    _drop_unread(graph)


def _apply(rules: Sequence[Rule], graph: fx.Graph) -> None:
    memory = Memory(graph)  # of tensors that a rule puts in the place of others it knows nothing
    for node in filter(_known, list(graph.nodes)):
        for rule in rules:
            other = rule(graph, node, memory)
            if other is not None:
                node.replace_all_uses_with(other)
                break


def _known(node: fx.Node) -> bool:
    """Whether a node is an operation from tensors to a tensor, whose shapes are known."""
    if not isinstance(node.target, OpOverload) or not node.args or has_effect(node):
        return False
    return all(tensor_of(each) is not None for each in (node, *node.all_input_nodes))


def _filled(graph: fx.Graph, node: fx.Node, memory: Memory) -> fx.Node | None:
    """A tensor of one number needs nothing but a shape."""
    value = shown(node)
    if node.target not in _FILLED or not value.is_contiguous():
        return None
    return _full(graph, node, list(value.shape), _FILLED[node.target], value)


def _full(graph: fx.Graph, before: fx.Node, shape: list[int], number: float, like: Tensor) -> fx.Node:
    with graph.inserting_before(before):
        given: dict[str, Any] = {"dtype": like.dtype, "device": like.device, "pin_memory": False}
        made = graph.call_function(aten.full.default, (shape, number), given)
    made.meta = {**before.meta, "val": like.new_empty(shape)}
    return made


def _same_place(graph: fx.Graph, node: fx.Node, memory: Memory) -> fx.Node | None:
    """Of views of views, the first that looks as the last does."""
    found, base = None, node
    while _looks_at_its_first(base):
        base = arguments(base)[0]
        if _looks(base) == _looks(node):
            found = base
    return found


def _looks_at_its_first(node: fx.Node) -> bool:
    if not _known(node):
        return False
    return is_view(node) or node.target in (aten.detach.default, UNSAFE_VIEW)


def _looks(node: fx.Node) -> tuple[Any, ...]:
    value = shown(node)
    return value.shape, value.stride(), value.storage_offset(), value.dtype


def _itself(graph: fx.Graph, node: fx.Node, memory: Memory) -> fx.Node | None:
    """A number to the power of one, and the negative of the negative."""
    given, *others = arguments(node)
    if node.target is aten.pow.Tensor_Scalar and others[0] == 1 and shown(given).dtype == shown(node).dtype:
        return given if memory.untouched([node, given]) else None
    if node.target is aten.neg.default:
        before = _origin(given)
        if before.target is aten.neg.default and memory.untouched([node, before, arguments(before)[0]]):
            return _viewed(graph, node, arguments(before)[0])
    return None


def _one_number(graph: fx.Graph, node: fx.Node, memory: Memory) -> fx.Node | None:
    """The sum or mean of one number is the number, and a stack of one tensor is that tensor.

    But for -0, of which torch's sum is 0.
    """
    given, *others = arguments(node)
    if node.target is aten.stack.default and len(given) == 1:
        (given,) = given
    elif node.target not in (aten.sum.dim_IntList, aten.mean.dim) or node.kwargs or not others[0]:
        return None
    value, result = shown(given), shown(node)
    alike = value.numel() == result.numel() and value.dtype == result.dtype and value.is_contiguous()
    return _viewed(graph, node, given) if alike and memory.untouched([node, given]) else None


def _view_of_origin(graph: fx.Graph, node: fx.Node, memory: Memory) -> fx.Node | None:
    """A view of a view that leaves the order of the numbers, as a view of what that one looks at; so with their sum."""
    if node.target in (aten.view.default, aten.mean.default, aten.sum.default):
        given, *others = arguments(node)
        node.args = (_origin(given), *others)
    return None


def _without_ones(graph: fx.Graph, node: fx.Node, memory: Memory) -> fx.Node | None:
    """A sum that keeps its dimensions, and a view that drops them."""
    kept = arguments(node)[0]
    if node.target is not aten.view.default or kept.target is not aten.sum.dim_IntList:
        return None
    if kept.kwargs or len(kept.users) != 1 or len(kept.args) != 3:
        return None
    given, places, _ = arguments(kept)
    lengths = shown(given).shape
    if not places or not lengths:
        return None
    summed = {place % len(lengths) for place in places}
    left = [length for place, length in enumerate(lengths) if place not in summed]
    if list(shown(node).shape) != left or not memory.untouched([node, kept, given]):
        return None
    return _put(graph, node, aten.sum.dim_IntList, (given, places))


def _sum_of_two(graph: fx.Graph, node: fx.Node, memory: Memory) -> fx.Node | None:
    """Two numbers that are put side by side and summed; of more, the order of the sum would be torch's."""
    pair = arguments(node)[0]
    if node.target is not aten.sum.default or node.kwargs or pair.target is not aten.stack.default:
        return None
    if len(arguments(pair)[0]) != 2:
        return None
    one, other = arguments(pair)[0]
    alike = shown(one).dim() == 0 and shown(one).dtype == shown(other).dtype == shown(node).dtype
    return _put(graph, node, aten.add.Tensor, (one, other)) if alike and memory.untouched([pair, one, other]) else None


def _kept_number(graph: fx.Graph, node: fx.Node, memory: Memory) -> fx.Node | None:
    """A number beside a tensor, as a tensor that is made once."""
    if node.target not in _WITH_NUMBER or node.kwargs or len(node.args) != 2:
        return None
    given, number = arguments(node)
    if type(number) not in (int, float) or shown(given).dtype not in (torch.float32, torch.float64):
        return None
    kept = _full(graph, node, [], number, shown(given).new_empty((), device="cpu"))
    node.target, node.args = _WITH_NUMBER[node.target], (given, kept)
    return None


_RULES: tuple[Rule, ...] = (
    _same_place, _itself, _one_number, _view_of_origin, _without_ones, _sum_of_two, _kept_number,
)  # fmt: skip


def _put(graph: fx.Graph, node: fx.Node, target: Any, given: tuple[Any, ...]) -> fx.Node:
    """An operation before `node`, with the same result."""
    with graph.inserting_before(node):
        made = graph.call_function(target, given)
    made.meta = dict(node.meta)
    return made


def _viewed(graph: fx.Graph, node: fx.Node, origin: fx.Node) -> fx.Node:
    """The numbers of `origin` in the shape of `node`."""
    origin, shape = _origin(origin), list(shown(node).shape)
    return origin if list(shown(origin).shape) == shape else _put(graph, node, aten.view.default, (origin, shape))


def _origin(node: fx.Node) -> fx.Node:
    """What a view looks at, through others, as long as all of them have the same numbers in the same order."""
    while _looks_at_its_first(node):
        (base, *_), size = arguments(node), shown(node).numel()
        if not shown(base).is_contiguous() or not shown(node).is_contiguous() or shown(base).numel() != size:
            break
        if shown(base).dtype != shown(node).dtype:
            break
        node = base
    return node


def _drop_unread(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users and not has_effect(node):
            graph.erase_node(node)


def _share(graph: fx.Graph) -> None:
    """What is computed twice from the same values, once."""
    memory = Memory(graph)
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or has_effect(node):
            continue
        if not memory.untouched([node, *node.all_input_nodes]):
            continue
        arguments, tree = tree_flatten((node.args, node.kwargs))
        # 0.0 and -0.0 are equal, and not the same
        named = tuple(value if isinstance(value, fx.Node) else (type(value), repr(value)) for value in arguments)
        key = (node.target, str(tree), named)
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)
