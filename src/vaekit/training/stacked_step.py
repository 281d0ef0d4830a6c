"""A step of several models up to their gradients, as one program that was tried beside the steps of each model."""

# N models, B batch, T numbers of a step

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vaekit.data.batch import Batch
from vaekit.objectives.base import Loss
from vaekit.training.guard import Guard
from vaekit.training.program import State
from vaekit.training.session import Session
from vaekit.training.stacked import Stack
from vaekit.training.stacking import CannotStack, Stacked

# a step of all and the steps of each: numbers and gradients may differ by rounding, and by no more
_NUMBERS_AGREE, _GRADIENTS_AGREE = 1e-4, 1e-2

Generators = Mapping[str, torch.Generator]
States = list[dict[str, Tensor]]


class Step:
    """What all models do in a step, up to their gradients: one program for each size of a batch.

    Arguments:
        stack: The models.
        sessions: Of their trainings.
        guard: Of the first of them.
        generators: Of each, by device.

    Attributes:
        names: Of the parameters that have a gradient; known when a program has been made.
        running: Names of the buffers that a training moves.
    """

    def __init__(
        self, stack: Stack, sessions: Sequence[Session], guard: Guard, generators: Sequence[Generators]
    ) -> None:
        self.stack, self.sessions, self.guard, self.generators = stack, sessions, guard, generators
        moving = {id(buffer) for buffer in guard._buffers}
        self.running = [name for name in stack.buffers if id(stack.parts[0].get_buffer(name)) in moving]
        self.names: list[str] = []
        self._programs: dict[int, Stacked] = {}

    def __call__(self, index: Tensor, rows: Iterable[int]) -> Sequence[Tensor]:
        """The step with the examples at `index`, (N, B), and noise for the models of these rows.

        Returns:
            Numbers of the history (N, T), whether all is finite (N,), and the gradients of the parameters `names`, each (N, *).
        """
        program = self._programs[index.shape[1]]
        noise = [draw.empty(len(self.sessions)) for draw in program.draws]
        for draw, numbers in zip(program.draws, noise, strict=True):
            for row in rows:
                draw.fill(numbers[row], self.generators[row][draw.device.type])
        with torch.no_grad():
            return program([index], noise)

    def states(self) -> States:
        """Of the generators of each model."""
        return [{name: one.get_state() for name, one in mine.items()} for mine in self.generators]

    def averages(self) -> list[Tensor]:
        """A copy of the buffers `running`."""
        return [self.stack.buffers[name].clone() for name in self.running]

    def put_back(self, row: int, states: States, averages: Sequence[Tensor]) -> None:
        """Generators and buffers of one model, as they were."""
        for name, generator in self.generators[row].items():
            generator.set_state(states[row][name])
        with torch.no_grad():
            for name, before in zip(self.running, averages, strict=True):
                self.stack.buffers[name][row].copy_(before[row])

    def prove(self, index: Tensor) -> None:
        """Make the program for batches of this size, and a step by it and by each model alone, of which nothing is left.

        Raises:
            CannotStack: If there is none, or they differ.
        """
        if index.shape[1] in self._programs:
            return
        self._programs[index.shape[1]] = self._recorded(index)
        rows = range(len(self.sessions))
        states, averages = self.states(), self.averages()

        def put_back() -> None:
            for row in rows:
                self.put_back(row, states, averages)

        try:
            found = self(index, rows)
            after = self.states(), self.averages()
            put_back()
            agree = [self._agrees(row, index[row], [one[row] for one in found], after) for row in rows]
        finally:
            put_back()
        if not all(agree):
            raise CannotStack("a step of all of them is not the step of each of them")

    def _recorded(self, index: Tensor) -> Stacked:
        state = State(list(self.stack.parameters.values()), list(self.stack.buffers.values()))
        with self.sessions[0].generators.untouched():
            return Stacked(self._one, state, [index])

    def _one(self, *inputs: Tensor) -> list[Tensor]:
        """A step of one model: from its tensors and the positions of its examples to numbers, verdict and gradients."""
        session, part = self.sessions[0], self.stack.parts[0]
        own = dict(zip(self.stack.names, inputs[:-1], strict=True))
        moved = {name: own[name].detach().requires_grad_() for name in self.stack.moved}
        given = {f"parts.{name}": moved.get(name, tensor) for name, tensor in own.items()}
        with torch.enable_grad():
            loss = functional_call(self._whole(0), given, (inputs[-1],))
            slopes = torch.autograd.grad(loss.total, list(moved.values()), allow_unused=True)
        gradients = {name: slope for name, slope in zip(moved, slopes, strict=True) if slope is not None}
        self.names = list(gradients)
        watched = {id(parameter) for parameter in self.guard.telling(session.players[0])}
        telling = [slope.abs().max() for name, slope in gradients.items() if id(part.get_parameter(name)) in watched]
        good = (loss.total.detach() + torch.stack(telling).max()).isfinite()
        return [session.history.values(loss), good, *self._clipped(list(gradients.values()))]

    def _agrees(
        self,
        row: int,
        index: Tensor,
        found: Sequence[Tensor],
        after: tuple[States, Sequence[Tensor]],
    ) -> bool:
        """Whether a model alone finds numbers, gradients, buffers and draws of the step that was made for all."""
        session, part = self.sessions[row], self.stack.parts[row]
        with session.generators.borrowed(), torch.enable_grad():
            loss = self._whole(row)(index)
            slopes = torch.autograd.grad(loss.total, [part.get_parameter(name) for name in self.names])
        drawn = all(torch.equal(state, after[0][row][name]) for name, state in self.states()[row].items())
        moved = [part.get_buffer(name) for name in self.running]
        values, good, *gradients = found
        if not bool(good):
            return drawn
        same = _close(self.sessions[0].history.values(loss), values)
        same = same and all(_close(one, other[row]) for one, other in zip(moved, after[1], strict=True))
        wanted = self._clipped(list(slopes))
        distance = torch.stack([(a - b).norm() for a, b in zip(wanted, gradients, strict=True)]).norm()
        return drawn and same and bool(distance <= _GRADIENTS_AGREE * torch.stack([a.norm() for a in wanted]).norm())

    def _whole(self, row: int) -> _Whole:
        session = self.sessions[row]
        return _Whole(self.stack.parts[row], session.stream.split.batch, session.samples)

    def _clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        """As `torch.nn.utils.clip_grad_norm_` shortens them."""
        limit = self.sessions[0].players[0].gradient_clip
        if limit is None:
            return gradients
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        share = (limit / (norm + 1e-6)).clamp(max=1.0)
        return [gradient * share for gradient in gradients]


class _Whole(nn.Module):
    """Model and objective as one function, from the positions of a batch to its loss."""

    def __init__(self, parts: nn.ModuleDict, batch: Callable[[Tensor], Batch], samples: int) -> None:
        super().__init__()
        self.parts, self.batch, self.samples = parts, batch, samples

    def forward(self, index: Tensor) -> Loss:
        """The loss of the examples at `index`, (B,)."""
        batch = self.batch(index)
        loss: Loss = self.parts["objective"](self.parts["model"](batch.x, self.samples, batch.context))
        return loss


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=_NUMBERS_AGREE, atol=_NUMBERS_AGREE)
