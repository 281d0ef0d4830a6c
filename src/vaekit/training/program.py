"""A step's forward and backward pass as one straight list of tensor operations, without the Python and the graph that led to them.

Small models are bound by overhead: of a step of a 784-400-20 perceptron a third goes into modules, distributions and autograd's
bookkeeping, which do the same at every step. Here a pass is traced once, and what is left are the very operations that it was
made of, in the same order, so the numbers are the same to the last bit. No operation is replaced by another one that rounds
differently; all that is done to the list:

* views that change nothing go, operations whose result nobody reads, and sums of one number (`simplify.py`);
* what is computed twice from the same values is computed once;
* what hangs on nothing but annealed values and constants is computed again only when one of these has moved, and views of the
  parameters once;
* a result goes to the memory of an operand that nobody reads any more.

A program that is compiled is given to torch's compiler before the last of these, and its numbers are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import softplus

from vaekit.training.compiled import compiled
from vaekit.training.graph import Memory, aten, has_effect, is_view, tensor_of
from vaekit.training.simplify import simplify

# of these the same number comes out wherever it is put
_IN_PLACE: dict[Any, Any] = {
    aten.relu.default: aten.relu_.default,
    aten.exp.default: aten.exp_.default,
    aten.log.default: aten.log_.default,
    aten.neg.default: aten.neg_.default,
    aten.tanh.default: aten.tanh_.default,
    aten.sigmoid.default: aten.sigmoid_.default,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.mul.Scalar: aten.mul_.Scalar,
    aten.add.Tensor: aten.add_.Tensor,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.div.Tensor: aten.div_.Tensor,
    aten.div.Scalar: aten.div_.Scalar,
    aten.pow.Tensor_Scalar: aten.pow_.Scalar,
    aten.clamp.default: aten.clamp_.default,
}
# and of these, given the memory as `grad_input`
_INTO_GRADIENT: dict[Any, Any] = {
    aten.threshold_backward.default: aten.threshold_backward.grad_input,
    aten.tanh_backward.default: aten.tanh_backward.grad_input,
    aten.silu_backward.default: aten.silu_backward.grad_input,
    aten.gelu_backward.default: aten.gelu_backward.grad_input,
    aten.leaky_relu_backward.default: aten.leaky_relu_backward.grad_input,
    aten.elu_backward.default: aten.elu_backward.grad_input,
    aten.sigmoid_backward.default: aten.sigmoid_backward.grad_input,
}
_METHODS: dict[Any, str] = {
    operation: operation._schema.name.removeprefix("aten::")
    for operation in (
        *_IN_PLACE, *_IN_PLACE.values(),
        aten.abs.default, aten.addcmul.default, aten.addcmul_.default, aten.addmm.default, aten.clone.default,
        aten.eq.Tensor, aten.expand.default, aten.ge.Scalar, aten.gt.Scalar, aten.index_select.default, aten.le.Scalar,
        aten.log1p.default, aten.logical_and_.default, aten.logsumexp.default, aten.lt.Scalar, aten.mean.default,
        aten.mean.dim, aten.mm.default, aten.ne.Scalar, aten.permute.default, aten.select.int,
        aten.sqrt.default, aten.squeeze.dim, aten.sum.default, aten.sum.dim_IntList, aten.t.default,
        aten.transpose.int, aten.unsqueeze.default, aten.view.default,
    )
}  # fmt: skip
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    aten.cat.default: torch.cat, aten.randn.default: torch.randn, aten.softplus.default: softplus,
    aten.stack.default: torch.stack, aten.where.self: torch.where,
}  # fmt: skip


@dataclass(frozen=True)
class State:
    """What a pass reads beside the batch.

    Attributes:
        parameters: Change in place between two passes.
        buffers: Of the modules, annealed values and running averages among them.
    """

    parameters: Sequence[Tensor]
    buffers: Sequence[Tensor]


class Program:
    """A traced function of (parameters, buffers, inputs), bound to parameters and buffers that stay where they are.

    Arguments:
        function: From lists of parameters, buffers and inputs to a list of tensors. It may write to buffers.
        state: What it is bound to.
        inputs: Of the first call; later ones must have the same shapes and types.
        compiles: Whether torch's compiler makes other operations of them, which round differently.

    Raises:
        Exception: Of any kind, where the function cannot be traced: because it decides by a tensor's value, for example.
    """

    def __init__(
        self,
        function: Callable[[list[Tensor], list[Tensor], list[Tensor]], list[Any]],
        state: State,
        inputs: Sequence[Tensor],
        compiles: bool = False,
    ) -> None:
        parameters = [parameter.detach() for parameter in state.parameters]
        self._buffers = list(state.buffers)
        self._fixed = [*parameters, *self._buffers]
        lists = [parameters, self._buffers, list(inputs)]

        # a method would be asked for its `self` as well
        graph = make_fx(lambda *given: function(*given), tracing_mode="fake", _allow_non_fake_inputs=True)(*lists).graph
        places = list(graph.find_nodes(op="placeholder"))
        of_parameters, of_buffers = places[: len(parameters)], places[len(parameters) : len(self._fixed)]
        simplify(graph)
        once = _settled(graph, of_parameters, of_buffers)
        _own_results(graph, [*places, *once])
        if not compiles:
            _reuse_memory(graph, [*places, *once])
        prelude, main = _split(graph, places[: len(self._fixed)], once)
        if not compiles:
            _call_directly(main.graph)
            main.recompile()
        self._prelude: Callable[..., Any] = prelude.forward
        self._main: Callable[..., Any] = compiled(main) if compiles else main.forward
        self._versions: list[int] | None = None
        self._settled: Sequence[Any] = ()
        self._homes = [parameter.data_ptr() for parameter in state.parameters]
        self._state = state

    @property
    def bound(self) -> bool:
        """Whether parameters and buffers still are where they were."""
        return self._homes == [parameter.data_ptr() for parameter in self._state.parameters]

    def __call__(self, inputs: Sequence[Tensor]) -> list[Any]:
        """What the function gives, as a flat list and without a graph behind it."""
        with torch.no_grad():
            versions = [buffer._version for buffer in self._buffers]
            if versions != self._versions:
                self._settled = self._prelude(*self._fixed)
            values: list[Any] = self._main(*self._fixed, *inputs, *self._settled)
            # those that the pass itself has moved are no reason to compute the rest again
            self._versions = [buffer._version for buffer in self._buffers]
        return values


def _settled(graph: fx.Graph, parameters: Sequence[fx.Node], buffers: Sequence[fx.Node]) -> list[fx.Node]:
    """Nodes that need not be computed in each pass: views of parameters, and anything of constants and of buffers that stay."""
    memory = Memory(graph)
    views: set[fx.Node] = set(parameters)
    values = {node for node in buffers if memory.home(node) not in memory.written}
    once = []
    for node in graph.nodes:
        if node.op not in ("call_function", "get_attr") or has_effect(node):
            continue
        if isinstance(node.target, OpOverload) and not memory.untouched([node]):
            continue
        inputs = node.all_input_nodes
        if all(each in values for each in inputs):
            values.add(node)
        elif all(each in views or each in values for each in inputs) and is_view(node):
            views.add(node)
        else:
            continue
        once.append(node)
    return once


def _own_results(graph: fx.Graph, kept: Sequence[fx.Node]) -> None:
    """Give each result memory of its own: who receives two gradients may write to one of them, and nobody to what is kept."""
    memory, (output,) = Memory(graph), graph.find_nodes(op="output")
    taken = {memory.home(node) for node in kept}
    results = []
    for result in output.args[0]:
        if isinstance(result, fx.Node) and (memory.home(result) in taken or result.op == "get_attr"):
            with graph.inserting_before(output):
                copy = graph.call_function(aten.clone.default, (result,))
            copy.meta = dict(result.meta)
            result = copy
        elif isinstance(result, fx.Node):
            taken.add(memory.home(result))
        results.append(result)
    output.args = (results,)


def _reuse_memory(graph: fx.Graph, kept: Sequence[fx.Node]) -> None:
    """Let results go to the memory of operands that are read for the last time."""
    memory = Memory(graph)
    order = {node: place for place, node in enumerate(graph.nodes)}
    fixed = {memory.home(node) for node in kept}
    (output,) = graph.find_nodes(op="output")
    fixed |= {memory.home(node) for node in output.all_input_nodes}
    last: dict[fx.Node, int] = {}
    for node in graph.nodes:
        for used in (node, *node.all_input_nodes):
            last[memory.home(used)] = order[node]
    taken: dict[fx.Node, fx.Node] = {}  # whose memory has become whose

    def owner(node: fx.Node) -> fx.Node:
        home = memory.home(node)
        while home in taken:
            home = taken[home]
        return home

    for node in graph.nodes:
        free = [
            given
            for given in node.args[:2]
            if isinstance(given, fx.Node)
            and owner(given) not in fixed
            and last[owner(given)] == order[node]
            and _same_layout(node, given)
            and not any(given is not other and owner(other) is owner(given) for other in node.all_input_nodes)
        ]
        if not free or node not in order or memory.home(node) is not node:
            continue
        if node.target in _IN_PLACE:
            if node.args[0] is not free[0]:
                if node.target not in (aten.mul.Tensor, aten.add.Tensor) or node.kwargs or len(node.args) != 2:
                    continue
                node.args = (node.args[1], node.args[0])
            node.target = _IN_PLACE[node.target]
        elif node.target in _INTO_GRADIENT and node.args[0] is free[0]:
            node.target = _INTO_GRADIENT[node.target]
            node.kwargs = {**node.kwargs, "grad_input": free[0]}
        else:
            continue
        home = owner(free[0])
        taken[node] = home
        last[home] = max(last[home], last[node])


def _same_layout(node: fx.Node, other: fx.Node) -> bool:
    one, two = tensor_of(node), tensor_of(other)
    if one is None or two is None:
        return False
    alike = (one.shape, one.stride(), one.dtype, one.device) == (two.shape, two.stride(), two.dtype, two.device)
    return alike and _gapless(two)


def _gapless(value: Tensor) -> bool:
    """Whether each place in the tensor's memory holds one of its values, in whatever order they lie."""
    expected = 1
    for stride, length in sorted(zip(value.stride(), value.shape, strict=True)):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True


def _split(
    graph: fx.Graph, places: Sequence[fx.Node], once: Sequence[fx.Node]
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """What need not be computed in each pass, and the rest."""
    constants, prelude = graph.owning_module, fx.Graph()
    assert constants is not None
    known: dict[fx.Node, fx.Node] = {node: prelude.node_copy(node) for node in places}
    early = set(once)
    for node in once:
        known[node] = prelude.node_copy(node, known.__getitem__)
    read = [node for node in once if any(user not in early for user in node.users)]
    prelude.output(tuple(known[node] for node in read))
    main = fx.Graph()
    late: dict[fx.Node, fx.Node] = {}
    for node in graph.find_nodes(op="placeholder"):
        late[node] = main.node_copy(node)
    for number, node in enumerate(read):
        late[node] = main.placeholder(f"settled_{number}")
    for node in graph.nodes:
        if node.op != "placeholder" and node not in early:
            late[node] = main.node_copy(node, late.__getitem__)
    return fx.GraphModule(constants, prelude), fx.GraphModule(constants, main)


def _call_directly(graph: fx.Graph) -> None:
    """Call a tensor's own methods where it has them: they are found sooner than an operation by its full name."""
    for node in graph.nodes:
        if node.target in _METHODS and isinstance(node.args[0], fx.Node):
            node.op, node.target = "call_method", _METHODS[node.target]
        elif node.target in _FUNCTIONS:
            node.target = _FUNCTIONS[node.target]
