"""What several models of one shape move in a training, side by side in memory, while each of them still holds its own part.

Parameter n of all models is one tensor (N, *shape), and that of model i a view of its row i: whoever looks at one model, to measure
it, to save it or to train it alone for a step, finds it as it always is. So it is with buffers and with the optimizer's averages.
"""

# N models

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vaekit.networks.reuse import LARGE
from vaekit.training import adam
from vaekit.training.players import Player, always, total
from vaekit.training.session import Session
from vaekit.training.stacking import CannotStack


class Stack:
    """Parameters and buffers of N models.

    Arguments:
        sessions: Of the models.

    Attributes:
        parts: Model and objective of each.
        names: Of the tensors, parameters first.
        tensors: By these names, each (N, *).
        moved: Names of the parameters that are trained.

    Raises:
        CannotStack: If the models are not of one shape, or not trained by one player.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.parts = [nn.ModuleDict({"model": one.model, "objective": one.objective}) for one in sessions]
        self.players = [_sole(session) for session in sessions]
        held = [_tensors(part) for part in self.parts]
        shapes = [{name: (tensor.shape, tensor.dtype, tensor.device) for name, tensor in one.items()} for one in held]
        if any(shape != shapes[0] for shape in shapes):
            raise CannotStack("their networks are not of one shape")
        if any(tensor.numel() >= LARGE for tensor in held[0].values()):
            raise CannotStack("their layers are so large that one of them fills the processor")
        trained = {id(parameter) for parameter in self.players[0].parameters}
        self.moved = [name for name, tensor in held[0].items() if id(tensor) in trained]
        self.names = list(held[0])
        self.parameters = {name: _rows([one[name] for one in held]) for name, _ in self.parts[0].named_parameters()}
        self.buffers = {name: self._buffer_rows(name) for name, _ in self.parts[0].named_buffers()}
        self.tensors = {**self.parameters, **self.buffers}

    def _buffer_rows(self, name: str) -> Tensor:
        # views that count their changes with the whole: a program computes again what hangs on a buffer that has moved
        stack = torch.stack([part.get_buffer(name) for part in self.parts])
        for row, part in enumerate(self.parts):
            _put(part, name, stack[row])
        return stack

    def release(self, row: int) -> None:
        """Give a model tensors of its own again."""
        for parameter in self.parts[row].parameters():
            parameter.data = parameter.data.clone()
        for name in self.buffers:
            _put(self.parts[row], name, self.parts[row].get_buffer(name).clone())
        for state in self.players[row].optimizer.state.values():
            for name, value in state.items():
                state[name] = value.clone() if isinstance(value, Tensor) else value


class Update:
    """The step of the optimizers of N models, in as few operations as their settings allow.

    Adam's averages are one tensor for all models, and models with one learning rate are one call. Other optimizers, and those that
    torch has no fused step for, are asked one after the other.

    Arguments:
        stack: The models.
        used: Names of the parameters that have a gradient; torch's optimizers leave the others alone.
    """

    def __init__(self, stack: Stack, used: Sequence[str]) -> None:
        self.stack, self.used = stack, used
        self.optimizers = [player.optimizer for player in stack.players]
        self.own = [[_tensors(part)[name] for name in used] for part in stack.parts]
        first = self.optimizers[0]
        self.fused = all(adam.ordinary(one) and _like(one, first) for one in self.optimizers)
        if self.fused:
            self._stack_averages()

    def __call__(self, gradients: Sequence[Tensor], rows: Sequence[int]) -> None:
        """Move the models of these rows by `gradients`, each (N, *), in the order of `used`."""
        if self.fused:
            for settings, like in self._alike(rows):
                self._adam(settings, gradients, like)
            return
        for row in rows:
            for parameter, gradient in zip(self.own[row], gradients, strict=True):
                parameter.grad = gradient[row]
            self.optimizers[row].step()

    def _alike(self, rows: Sequence[int]) -> Iterator[tuple[Mapping[str, Any], list[int]]]:
        """Rows by the settings of their optimizers; a model that has left out a step is at another one."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        done = self.steps[0].tolist()
        for row in rows:
            settings = self.optimizers[row].param_groups[0]
            key = (done[row], *(settings[name] for name in ("lr", "betas", "eps", "weight_decay")))
            groups.setdefault(key, []).append(row)
        for like in groups.values():
            yield self.optimizers[like[0]].param_groups[0], like

    def _adam(self, settings: Mapping[str, Any], gradients: Sequence[Tensor], rows: Sequence[int]) -> None:
        moved = [gradient.contiguous() for gradient in gradients]
        if len(rows) == len(self.optimizers):
            self.steps.add_(1)
            parameters, averages, squares, steps = self.whole
        else:
            self.steps[:, list(rows)] += 1
            parameters, averages, squares, steps = (self._of(rows, kind) for kind in self.views)
            moved = [gradient[row] for row in rows for gradient in moved]
        adam.apply(adam.kernel(self.optimizers[0]), settings, parameters, moved, averages, squares, steps)

    def _of(self, rows: Sequence[int], kind: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        return [one for row in rows for one in kind[row]]

    def _stack_averages(self) -> None:
        for optimizer, parameters in zip(self.optimizers, self.own, strict=True):
            for parameter in parameters:
                if not optimizer.state[parameter]:  # as Adam itself begins
                    zero = torch.zeros((), dtype=torch.float32, device=parameter.device)
                    none = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                    optimizer.state[parameter] = {"step": zero, **none}
        states = [[o.state[p] for p in own] for o, own in zip(self.optimizers, self.own, strict=True)]
        numbers = range(len(self.used))
        self.steps = torch.stack([torch.stack([one[n]["step"] for one in states]) for n in numbers])
        for row, one in enumerate(states):
            for n in numbers:
                one[n]["step"] = self.steps[n, row]
        parameters = [self.stack.tensors[name] for name in self.used]
        averages = [_rows([one[n]["exp_avg"] for one in states]) for n in numbers]
        squares = [_rows([one[n]["exp_avg_sq"] for one in states]) for n in numbers]
        steps = [[one[n]["step"] for n in numbers] for one in states]
        # what, row, number of the parameter
        self.views: list[list[list[Tensor]]] = [
            *(
                [[tensor[row] for tensor in what] for row in range(len(states))]
                for what in (parameters, averages, squares)
            ),
            steps,
        ]
        self.whole: list[list[Tensor]] = [parameters, averages, squares, steps[0]]


def _like(one: Optimizer, other: Optimizer) -> bool:
    """Whether two optimizers, each of them Adam or AdamW, do the same."""
    return type(one) is type(other) and adam.decoupled(one) == adam.decoupled(other)


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor (N, *) of N; each of these becomes a view of its row."""
    stack = torch.stack([tensor.detach() for tensor in tensors])
    for row, tensor in enumerate(tensors):
        tensor.data = stack[row]
    return stack


def _put(part: nn.Module, name: str, buffer: Tensor) -> None:
    owner, _, last = name.rpartition(".")
    part.get_submodule(owner)._buffers[last] = buffer


def _tensors(part: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once."""
    return {**dict(part.named_parameters()), **dict(part.named_buffers())}


def _sole(session: Session) -> Player:
    """The player of a training that has one, moved by the whole objective at every step.

    Raises:
        CannotStack: If there are others.
    """
    player = session.players[0]
    if len(session.players) > 1 or player.loss is not total or player.active is not always:
        raise CannotStack("they have several players")
    return player
