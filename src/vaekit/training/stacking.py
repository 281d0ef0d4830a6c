"""A function of one model's tensors as a program for many models: what `training.program` is for one.

What a training step does is written down once, for one model, as the list of tensor operations that it is made of, forward and
backward. Each of them is then replaced by one over N models, by `torch.func.vmap` or by one that is faster for matrices, and the
list of these is what is played. So the cost of Python, of modules, distributions and autograd, which is several times that of the
arithmetic of a small model, is not paid at all, and that of starting an operation is paid once for all models.

Random numbers are taken out of the list: they become inputs, so that whoever plays it draws those of each model from the model's
own generator, in the order in which the model alone would draw them.
"""

# N models, B batch, I inputs, O outputs

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from vaekit.training.passes import said, unchecked
from vaekit.training.program import Program, State
from vaekit.training.stacking_rules import Values

# fills a tensor with random numbers from a generator
Fill = Callable[[Tensor, torch.Generator], object]


class CannotStack(Exception):  # noqa: N818
    """Models that cannot be trained as one program; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Drawn:
    """Random numbers that the program of one model asks for.

    Attributes:
        shape: For one model.
        dtype: Of the numbers.
        device: Whose generator gives them.
        fill: Draws them.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    fill: Fill

    def empty(self, count: int) -> Tensor:
        """Room for those of `count` models."""
        return torch.empty((count, *self.shape), dtype=self.dtype, device=self.device)


class Stacked:
    """A function of one model's tensors, for N models.

    Arguments:
        function: From parameters and buffers, in one list, and inputs to tensors. What else it reads is taken for the same in all
            models. It may write to buffers.
        state: Parameters and buffers of all models, each (N, *), that stay where they are.
        inputs: Examples of its inputs, each (N, *).

    Attributes:
        draws: The random numbers, in the order in which one model draws them.

    Raises:
        CannotStack: If what it does hangs on the values of its arguments, or an operation knows no other way.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]], state: State, inputs: Sequence[Tensor]) -> None:
        held = [*state.parameters, *state.buffers]
        count = len(inputs[0])
        recording = _recorded(function, [stack[0] for stack in (*held, *inputs)])
        self.draws = tuple(_without_draws(recording))
        player = _Player(recording, count)

        def whole(parameters: list[Tensor], buffers: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
            return player.run(*parameters, *buffers, *inputs)

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operations that are done model by model
            try:
                self._program = Program(whole, state, [*inputs, *(draw.empty(count) for draw in self.draws)])
            except Exception as error:
                raise CannotStack(f"one of their operations cannot be stacked ({said(error)})") from error

    def __call__(self, inputs: Sequence[Tensor], noise: Sequence[Tensor]) -> Sequence[Tensor]:
        """The outputs, each (N, *), for inputs and random numbers (N, *)."""
        found: Sequence[Tensor] = self._program([*inputs, *noise])
        return found


def _recorded(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> fx.GraphModule:
    try:
        with unchecked(), _Written():
            recording: fx.GraphModule = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(
                *[tensor.detach().clone() for tensor in inputs]
            )
    except Exception as error:
        raise CannotStack(f"what they do hangs on the values of their data ({said(error)})") from error
    recording.graph.eliminate_dead_code(lambda node: _is_random(node) or node.is_impure())
    return recording


class _Written(TorchFunctionMode):
    """Within this context functions of torch that look at values, or hide what they write to, are done by others that do not."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function itself, or another."""
        other = {functional.batch_norm: _batch_norm, functional.one_hot: _one_hot}.get(function, function)
        return other(*args, **(kwargs or {}))


def _one_hot(index: Tensor, num_classes: int) -> Tensor:
    return (index[..., None] == torch.arange(num_classes, device=index.device)).to(torch.int64)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Shape (N, C, *). It moves the running averages in place, which torch's own operation does not say of itself."""
    shape = [1, -1, *[1] * (x.dim() - 2)]
    mean, variance = running_mean, running_var
    if training:
        dims = [0, *range(2, x.dim())]
        variance, mean = torch.var_mean(x, dims, correction=0)
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)
    scale = weight * (variance + eps).rsqrt()
    return (x - mean.view(shape)) * scale.view(shape) + bias.view(shape)


def _without_draws(recording: fx.GraphModule) -> Iterator[Drawn]:
    """Turn each random operation into an input, behind the others; gives what is to be drawn for it."""
    graph = recording.graph
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for node in list(graph.nodes):
        if not _is_random(node):
            continue
        value = node.meta["val"]
        yield Drawn(value.shape, value.dtype, value.device, _fill(node))
        with graph.inserting_after(last):
            last = graph.placeholder(f"noise_{node.name}")
        last.meta = dict(node.meta)
        node.replace_all_uses_with(last)
        graph.erase_node(node)
    graph.eliminate_dead_code()


def _is_random(node: fx.Node) -> bool:
    return isinstance(node.target, OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags


def _fill(node: Any) -> Fill:
    """How the numbers of a random operation are drawn into a tensor that is there, number for number as the operation would."""
    name, arguments = str(node.target.overloadpacket).removeprefix("aten."), node.args
    if name in ("rand", "rand_like"):
        return lambda to, generator: to.uniform_(generator=generator)
    if name in ("randn", "randn_like"):
        return lambda to, generator: to.normal_(generator=generator)
    given = [argument for argument in arguments[1:] if not isinstance(argument, fx.Node)]
    of_new = isinstance(arguments[0], fx.Node) and "empty" in str(arguments[0].target)
    if name in ("bernoulli_", "uniform_", "normal_", "exponential_") and of_new and len(given) == len(arguments) - 1:
        return lambda to, generator: getattr(to, name)(*given, generator=generator)
    raise CannotStack(f"they draw random numbers by {name}, whose order for one model alone cannot be kept")


class _Player:
    """Plays the recording of one model on the tensors of N, operation by operation: what `Program` then writes down.

    Arguments:
        recording: Of one model.
        count: N.
    """

    def __init__(self, recording: fx.GraphModule, count: int) -> None:
        self.recording, self.count = recording, count

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """From inputs (N, *) to outputs (N, *)."""
        values, waiting = Values(self.count), iter(inputs)
        for node in self.recording.graph.nodes:
            if node.op == "placeholder":
                values.put(node, next(waiting), stacks=True)
            elif node.op == "get_attr":
                values.put(node, getattr(self.recording, str(node.target)), stacks=False)
            elif node.op == "output":
                return [values.stack(result) for result in node.args[0]]
            else:
                values.do(node)
        raise AssertionError("a recording ends with its output")
