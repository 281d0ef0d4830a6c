"""Forward and backward of a step: by the model's own Python at first, and by the list of its operations once that pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.data.batch import Batch
from vaekit.models.trace import Trace
from vaekit.models.vae import VAE
from vaekit.networks.reuse import LARGE
from vaekit.objectives.base import Loss, Objective
from vaekit.schedules import annealed_values
from vaekit.training.clock import Clock
from vaekit.training.compiled import Compiling, alike, layout
from vaekit.training.device import generator_states, set_generator_states
from vaekit.training.guard import verdict
from vaekit.training.players import Player, total
from vaekit.training.program import Program, State

# writing a program takes as long as it saves in so many steps; results are the same before and after
_WORTHWHILE = 100
# of one training: shapes of batches, and decisions of schedules
_MOST = 8


@dataclass(frozen=True)
class Outcome:
    """What a pass over a batch gives; the gradients are with the parameters.

    Attributes:
        loss: Without a graph.
        good: Whether the loss and every gradient are finite, shape ().
        trace: The trace that it came from, or one like it: for a look at what went wrong.
        values: What is added up of the loss.
    """

    loss: Loss
    good: Tensor
    trace: Callable[[], Trace]
    values: Tensor


@dataclass
class _Kind:
    """Steps with the same shapes and decisions."""

    seen: int = 0
    program: Program | None = None
    refused: bool = False


class Passes:
    """Forward and backward passes of one training.

    After some steps of one kind the pass is recorded as a `Program`. The program's first step is made both ways: only if loss,
    gradients, buffers and random generators agree to the last bit is it used from then on. So a training, stopped and resumed
    anywhere, does not depend on when or whether that was, as long as what its modules do is a function of what is in the kind:
    the shapes of the batch, the schedules that decide which layers take part, and of each module whether it trains.

    A training whose steps are compiled has them compiled from the first on, as they round differently: then a training that is
    stopped and resumed is the same as long as the same steps can be compiled again. From one that cannot on, all are recorded.

    Passes of several players, of modules with hooks, and of layers so large that their gradients have memory of their own, are
    never recorded; nor are passes that write to parameters, or keep tensors of theirs in a module.

    Arguments:
        model: In training mode.
        objective: Of all players.
        players: Who minimises.
        telling: Of a player, the parameters whose gradients tell whether all are finite.
        samples: K.
        values: What is added up of a loss.
        clock: Told where the time goes.
        compiling: Whether passes are compiled; told why one cannot be.

    Attributes:
        refusal: Why a pass could not be recorded, if one could not.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        players: Sequence[Player],
        telling: Callable[[Player], Sequence[nn.Parameter]],
        samples: int,
        values: Callable[[Loss], Tensor],
        clock: Clock,
        compiling: Compiling | None = None,
    ) -> None:
        self.model, self.objective, self.samples = model, objective, samples
        self.telling, self.values, self.clock = telling, values, clock
        self.refusal, self.compiling = "", Compiling() if compiling is None else compiling
        self._kinds: dict[Any, _Kind] = {}
        self._whole = _Whole(model, objective, samples)
        self._parameters = dict(self._whole.named_parameters())
        self._buffers = dict(self._whole.named_buffers())
        self._annealed, self._modules = annealed_values(self._whole), list(self._whole.modules())
        names = {id(parameter): name for name, parameter in self._parameters.items()}
        self._recordable = (
            len(players) == 1
            and players[0].loss is total
            and all(id(parameter) in names for parameter in players[0].parameters)
            and all(parameter.numel() < LARGE for parameter in self._parameters.values())
        )
        if self._recordable:
            self._player = players[0]
            self._moved = [names[id(parameter)] for parameter in self._player.parameters]
            told = {id(parameter) for parameter in telling(self._player)}
            self._telling = [place for place, each in enumerate(self._player.parameters) if id(each) in told]
            self._roles = objective.roles
        elif self.compiling:
            large = any(parameter.numel() >= LARGE for parameter in self._parameters.values())
            self.compiling.refused = (
                "its layers are so large that their gradients have memory of their own"
                if large
                else "it is not one player that minimises the whole objective"
            )

    def __call__(self, batch: Batch, players: Sequence[Player]) -> Outcome:
        """The pass over a batch for the players that are active."""
        if not (self._recordable and players):
            return self._by_hand(batch, players)
        kind = self._kind(batch)
        if kind.program is not None and kind.program.bound:
            outcome = self._played(kind.program, batch)
            self.clock.shared_lap("forward", "backward")
            return outcome
        kind.seen += 1
        if kind.refused or (kind.seen < _WORTHWHILE and not self.compiling):
            return self._by_hand(batch, players)
        outcome = self._recorded(kind, batch)
        self.clock.lap("recording")
        return outcome

    def _by_hand(self, batch: Batch, players: Sequence[Player]) -> Outcome:
        trace = self.model(batch.x, self.samples, batch.context)
        loss: Loss = self.objective(trace)
        self.clock.lap("forward")
        for player in players:
            player.backward(trace, loss, last=player is players[-1])
        self.clock.lap("backward")
        telling = [parameter for player in players for parameter in self.telling(player)]
        good = verdict(loss.total.detach(), [p.grad for p in telling if p.grad is not None])
        parts = {name: part.detach() for name, part in loss.parts.items()}
        watched = Loss(loss.total.detach(), parts, loss.coefficients, loss.roles)  # who watches needs no graph
        return Outcome(watched, good, lambda: trace, self.values(watched))

    def _kind(self, batch: Batch) -> _Kind:
        context = batch.context
        key = (
            batch.x.shape,
            batch.x.dtype,
            batch.x.stride(),
            None if context is None else (context.shape, context.dtype, context.stride()),
            tuple(value.number for value in self._annealed if value.decides),
            tuple(module.training for module in self._modules),
        )
        kind = self._kinds.pop(key, None) or _Kind()
        self._kinds[key] = kind  # the last used are kept
        if len(self._kinds) > _MOST:
            self._kinds.pop(next(iter(self._kinds)))
        return kind

    def _played(self, program: Program, batch: Batch) -> Outcome:
        for parameter in self._player.parameters:
            parameter.grad = None  # so that the new one takes its memory, which is in the cache
        found = program(_inputs(batch))
        count = len(self._roles)
        total, good, values = found[:3]
        parts, coefficients, gradients = found[3 : 3 + count], found[3 + count : 3 + 2 * count], found[3 + 2 * count :]
        for parameter, gradient in zip(self._player.parameters, gradients, strict=True):
            parameter.grad = gradient
        loss = Loss(
            total,
            dict(zip(self._roles, parts, strict=True)),
            dict(zip(self._roles, coefficients, strict=True)),
            self._roles,
        )
        return Outcome(loss, good, lambda: self._traced(batch), values)

    def _traced(self, batch: Batch) -> Trace:
        """Another draw of the same batch: noise differs, what is wrong with the data or the weights does not."""
        device = batch.x.device
        states = generator_states(device)
        try:
            with torch.no_grad():
                trace: Trace = self.model(batch.x, self.samples, batch.context)
        finally:
            set_generator_states(states, device)
        return trace

    def _recorded(self, kind: _Kind, batch: Batch) -> Outcome:
        """A step by hand, and the program that does the same, if there is one."""
        device = batch.x.device
        before, versions = (generator_states(device), _copies(self._buffers)), self._versions()
        outcome = self._by_hand(batch, [self._player])
        if not bool(outcome.good):
            return outcome
        after = generator_states(device), _copies(self._buffers)
        gradients = [parameter.grad for parameter in self._player.parameters]
        expected = [*_numbers(outcome), *gradients]
        refusal, compiles, played = self._unrecordable(versions), bool(self.compiling), None
        if not refusal:
            try:
                with unchecked(), _unmarked(self._modules):
                    program = Program(self._pass, self._state(), _inputs(batch), compiles)
                self._put_back(before, device)
                played = self._played(program, batch)
                found = [*_numbers(played), *(parameter.grad for parameter in self._player.parameters)]
                present = list(self._buffers.values())
                if not all(map(torch.equal, generator_states(device).values(), after[0].values())):
                    refusal = "the recorded step draws other random numbers"
                elif compiles and not (alike(found, expected) and alike(present, after[1])):
                    refusal = "its numbers differ by more than rounding from those of the step that is not compiled"
                elif not compiles and not all(map(_same, [*expected, *after[1]], [*found, *present])):
                    refusal = "the recorded step differs in the last bit"
                else:
                    kind.program = program
            except Exception as error:  # whatever torch cannot trace; the step by hand is there
                refusal = said(error)
        if compiles and played is not None and not refusal:
            return played  # from the first step on, or a resumed training would not be the same
        if compiles:
            self.compiling.refused = refusal
            self._kinds.clear()  # none from here on
        else:
            kind.refused, self.refusal = kind.program is None, refusal
        self._put_back(after, device)
        for parameter, gradient in zip(self._player.parameters, gradients, strict=True):
            parameter.grad = gradient
        return outcome

    def _unrecordable(self, versions: list[int]) -> str:
        """Why a step that has just been made by hand cannot be recorded, or compiled, if that is known before it is tried."""
        if versions != self._versions() or any(map(_hooked, self._modules)):
            return "a module has hooks, or writes to its parameters"
        if self.compiling and any(value.decides for value in self._annealed):
            return "a schedule decides at each step which layers take part"
        return ""

    def _versions(self) -> list[int]:
        return [parameter._version for parameter in self._parameters.values()]

    def _state(self) -> State:
        return State(list(self._parameters.values()), list(self._buffers.values()))

    def _put_back(self, states: tuple[dict[str, Tensor], list[Tensor]], device: torch.device) -> None:
        set_generator_states(states[0], device)
        for buffer, copy in zip(self._buffers.values(), states[1], strict=True):
            if not torch.equal(buffer, copy):  # a buffer that is written to counts as moved
                buffer.copy_(copy)

    def _pass(self, parameters: list[Tensor], buffers: list[Tensor], inputs: list[Tensor]) -> list[Any]:
        """What is recorded: loss, verdict, what is added up, terms, their coefficients, and gradients."""
        leaves = {
            name: value.detach().requires_grad_(own.requires_grad)
            for (name, own), value in zip(self._parameters.items(), parameters, strict=True)
        }
        with _replaced(
            self._whole, [*self._parameters.values(), *self._buffers.values()], [*leaves.values(), *buffers]
        ):
            loss: Loss = self._whole(*inputs)
        gradients = torch.autograd.grad(loss.total, [leaves[name] for name in self._moved], allow_unused=True)
        telling = [gradients[place] for place in self._telling]
        good = verdict(loss.total.detach(), [gradient for gradient in telling if gradient is not None])
        parts = [loss.parts[name].detach() for name in self._roles]
        coefficients = [loss.coefficients[name] for name in self._roles]
        laid = [_like(gradient, leaves[name]) for name, gradient in zip(self._moved, gradients, strict=True)]
        return [loss.total.detach(), good, self.values(loss), *parts, *coefficients, *laid]


class _Whole(nn.Module):
    """Model and objective as one function of a batch."""

    def __init__(self, model: VAE, objective: Objective, samples: int) -> None:
        super().__init__()
        self.model, self.objective, self.samples = model, objective, samples

    def forward(self, x: Tensor, context: Tensor | None = None) -> Loss:
        loss: Loss = self.objective(self.model(x, self.samples, context))
        return loss


@contextmanager
def _replaced(root: nn.Module, present: Sequence[Tensor], others: Sequence[Tensor]) -> Iterator[None]:
    """Within this context other tensors stand in the places of the present parameters and buffers, in all of their places.

    Of a module that several others hold, `torch.func.functional_call` puts back what it had put there itself.
    """
    new = {id(one): other for one, other in zip(present, others, strict=True)}
    held = [(each, name) for part in root.modules() for each in (part._parameters, part._buffers) for name in each]
    before = [places[name] for places, name in held]
    for (places, name), tensor in zip(held, before, strict=True):
        places[name] = new.get(id(tensor), tensor)  # type: ignore[assignment]
    try:
        yield
    finally:
        for (places, name), tensor in zip(held, before, strict=True):
            places[name] = tensor  # type: ignore[assignment]


@contextmanager
def unchecked() -> Iterator[None]:
    """Within this context distributions do not look at their arguments, which a recording cannot: the steps before it did."""
    checks = Distribution._validate_args
    Distribution.set_default_validate_args(value=False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(checks)


def _like(gradient: Tensor | None, parameter: Tensor) -> Tensor | None:
    """A gradient that lies in memory as its parameter does: autograd sees to it, and fused optimizers rely on it."""
    if gradient is None or layout(gradient) == layout(parameter):
        return gradient
    return torch.empty_like(parameter).copy_(gradient).detach()


def _numbers(outcome: Outcome) -> list[Tensor]:
    loss = outcome.loss
    return [loss.total, *loss.parts.values(), *loss.coefficients.values(), outcome.good, outcome.values]


def _inputs(batch: Batch) -> list[Tensor]:
    return [batch.x] if batch.context is None else [batch.x, batch.context]


def _copies(buffers: dict[str, Tensor]) -> list[Tensor]:
    return [buffer.clone() for buffer in buffers.values()]


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two tensors have the same values, lying alike in memory."""
    if one is None or other is None:
        return one is other
    return layout(one) == layout(other) and torch.equal(one, other)


def said(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextmanager
def _unmarked(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Within this context modules keep no tensor of what runs through them: what they had is put back.

    Raises:
        ValueError: If one does.
    """
    before = [_kept(module) for module in modules]
    try:
        yield
        keeps = [type(m).__name__ for m, had in zip(modules, before, strict=True) if not _identical(_kept(m), had)]
    finally:
        for module, had in zip(modules, before, strict=True):
            vars(module).update(had)
    if keeps:
        raise ValueError(f"{keeps[0]} keeps a tensor of each pass")


def _kept(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}


def _identical(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(value is other[name] for name, value in one.items())


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
