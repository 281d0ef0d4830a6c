"""Facts about a list of traced operations: whose memory a value lies in, what is written to, which operations have an effect."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

aten = torch.ops.aten
# a view by what it does, though not by its name
UNSAFE_VIEW: Any = aten._unsafe_view.default


class Memory:
    """Whose memory each node's value lies in, and which of these are written to after they were made."""

    def __init__(self, graph: fx.Graph) -> None:
        self._home: dict[fx.Node, fx.Node] = {}
        self.written: set[fx.Node] = set()
        for node in graph.nodes:
            if isinstance(node.target, OpOverload):
                self.written |= {self.home(written) for written in written_by(node)}

    def home(self, node: fx.Node) -> fx.Node:
        """The node that made the memory."""
        if node not in self._home:
            self._home[node] = self._of(node)
        return self._home[node]

    def untouched(self, nodes: Iterable[fx.Node]) -> bool:
        """Whether none of these is ever written to."""
        return all(self.home(node) not in self.written for node in nodes)

    def _of(self, node: fx.Node) -> fx.Node:
        base = node.args[0] if node.args else None
        if not isinstance(base, fx.Node):
            return node
        target = node.target
        if target is operator.getitem:
            return self.home(base)
        if isinstance(target, OpOverload) and (
            target.is_view
            or target is UNSAFE_VIEW
            or any(value.alias_info is not None for value in target._schema.returns)
        ):
            return self.home(base)
        return node


def written_by(node: fx.Node) -> list[fx.Node]:
    """The arguments that an operation writes to."""
    assert isinstance(node.target, OpOverload)
    found: list[Any] = []
    for place, argument in enumerate(node.target._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = node.kwargs.get(argument.name) if place >= len(node.args) else node.args[place]
            found += given if isinstance(given, (list, tuple)) else [given]
    return [value for value in found if isinstance(value, fx.Node)]


def has_effect(node: fx.Node) -> bool:
    """Whether a node writes somewhere, or moves a random generator."""
    target = node.target
    if not isinstance(target, OpOverload):
        return False
    return target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags


def is_view(node: fx.Node) -> bool:
    """Whether a node gives a view of its first argument, or one of several."""
    return node.target is operator.getitem or (isinstance(node.target, OpOverload) and node.target.is_view)


def tensor_of(value: Any) -> Tensor | None:
    """What a node stood for in the tracing; None of anything else."""
    found = value.meta.get("val") if isinstance(value, fx.Node) else None
    return found if isinstance(found, Tensor) else None


def shown(node: fx.Node) -> Tensor:
    """What a node that gives a tensor stood for in the tracing."""
    value = tensor_of(node)
    assert value is not None
    return value


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """What an operation is given by place."""
    return node.args
