"""Steps whose loss or gradient is not finite move nothing; they are counted, and after several in a row the training stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.utils import get_total_norm

from vaekit.data.batch import Batch
from vaekit.errors import TrainingError
from vaekit.models.trace import Trace
from vaekit.objectives.base import Loss, Objective
from vaekit.training.device import on_host
from vaekit.training.players import Player

# on a device that must not be waited for, the host looks at the verdicts this often
_LOOK_EVERY = 50
_ROWS_SHOWN = 8
# gradients of fewer numbers are looked at together
_COPIED = 1 << 14
_AFFINE = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


@dataclass(frozen=True)
class Skipped:
    """A step that was left out.

    Attributes:
        step: Its number, from 1.
        cause: The term, or the parameter whose gradient it was, as part of a sentence.
        rows: Positions in the training part of the examples at fault, where it is known which.
    """

    step: int
    cause: str
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        """In a sentence."""
        shown = ", ".join(map(str, self.rows[:_ROWS_SHOWN])) + (", ..." if len(self.rows) > _ROWS_SHOWN else "")
        where = f", training examples {shown}" if self.rows else ""
        return f"Step {self.step:,} was left out: {self.cause}{where}."


@dataclass
class Guard:
    """Judges each step before anything moves.

    Of a linear layer or a convolution the weight's gradient is :math:`g^T x` and the bias's is the sum of :math:`g`, so what is not
    finite in g shows in the bias, and what is not finite in x in the loss: of these, where they have a bias that is trained, only
    the bias is looked at, a thousandth of the numbers; of all other modules every parameter. Inactive players are not looked at:
    their gradients are those of an earlier step.

    Arguments:
        model: Its buffers, such as running averages, are put back as well.
        objective: Likewise.
        players: Whose gradients are looked at.
        limit: The training stops after so many skipped steps in a row.
        skipped: Steps left out so far.
        last: The last of them whose cause is known.
        waited: Whether the last verdict was read from a device that had to be waited for.
    """

    model: nn.Module
    objective: Objective
    players: Sequence[Player]
    limit: int = 10
    skipped: int = 0
    last: Skipped | None = None
    waited: bool = False
    _in_row: int = 0
    _unread: list[tuple[int, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = [self.model, self.objective]
        self._telling = {player.name: list(_telling(parts, player.parameters)) for player in self.players}
        self._buffers = [b for part in (self.model, self.objective) for b in _running(part)]
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """Before the forward pass: remember the buffers."""
        if self._buffers:
            self._before = [buffer.clone() for buffer in self._buffers]

    def telling(self, player: Player) -> Sequence[nn.Parameter]:
        """The parameters whose gradients tell whether all of this player's are finite."""
        return self._telling[player.name]

    def passes(self, step: int, good: Tensor, trace: Callable[[], Trace], loss: Loss, batch: Batch) -> Tensor:
        """Whether the step may be made: 1 or 0, shape (). To be called when the gradients are there.

        Arguments:
            step: Its number, from 0.
            good: The verdict on its loss and gradients.
            trace: Gives what the loss was made of, for the diagnosis of a step that may not be made.
            loss: Of the batch.
            batch: Its examples.

        Raises:
            TrainingError: After `limit` steps in a row that may not.
        """
        if on_host(good):
            self._note(None if good else self._diagnosed(step, trace(), loss, batch))
        else:
            self._unread.append((step, good))
            self.waited = len(self._unread) >= _LOOK_EVERY
            if self.waited:
                self.look()
        if self._buffers and not (on_host(good) and bool(good)):
            for buffer, before in zip(self._buffers, self._before, strict=True):
                buffer.copy_(torch.where(good, buffer, before))
        return good

    def look(self) -> None:
        """Read the verdicts of a device that was not waited for."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        for (step, _), good in zip(unread, torch.stack([verdict for _, verdict in unread]).tolist(), strict=True):
            self._note(Skipped(step + 1, "the loss or a gradient was not finite") if not good else None)

    def _note(self, skipped: Skipped | None) -> None:
        self._in_row = 0 if skipped is None else self._in_row + 1
        if skipped is None:
            return
        self.skipped, self.last = self.skipped + 1, skipped
        if self._in_row >= self.limit:
            raise TrainingError(
                f"{self._in_row} steps in a row had to be left out. {skipped} Lower optimizer.lr, clip with "
                "training.gradient_clip=1, or take another activation (activation=silu, or tanh, which is bounded); if it is "
                "always the same examples, look at their values."
            )

    def _diagnosed(self, step: int, trace: Trace, loss: Loss, batch: Batch) -> Skipped:
        broken = [name for name, part in loss.parts.items() if not bool(part.isfinite())]
        if not broken and bool(loss.total.isfinite()):
            return Skipped(step + 1, f"the gradient of {self._gradient_at_fault()} is not finite")
        if not broken:
            return Skipped(step + 1, "the loss is no longer finite, though its terms are")
        with torch.no_grad():
            values = self.objective.named_terms()[broken[0]].nats(trace)
        rows = batch.index[~values.isfinite()].tolist() if values.dim() else []
        return Skipped(step + 1, f"the loss is no longer finite (term {broken[0]!r})", tuple(rows))

    def _gradient_at_fault(self) -> str:
        for name, parameter in nn.ModuleDict({"model": self.model, "objective": self.objective}).named_parameters():
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                return repr(name.removeprefix("model."))
        return "a parameter"


def verdict(total: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """Whether a loss and gradients are finite, without waiting for a device: a truth value, shape ()."""
    small, large = [total.reshape(1)], []
    for gradient in gradients:
        if gradient.numel() < _COPIED and gradient.layout == torch.strided and gradient.device == total.device:
            small.append(gradient.reshape(-1))
        else:
            large.append(gradient)
    # the largest magnitude: not a number if one of them is none
    worst: Tensor = vector_norm(torch.cat(small), math.inf)
    if large:
        worst = torch.maximum(worst, get_total_norm(large, math.inf).to(worst))
    return worst < math.inf


def _running(module: nn.Module) -> list[Tensor]:
    """Buffers that a training moves are those that are saved."""
    saved = module.state_dict(keep_vars=True)
    return [buffer for name, buffer in module.named_buffers() if name in saved]


def _telling(parts: Sequence[nn.Module], moved: Sequence[nn.Parameter]) -> Iterator[nn.Parameter]:
    """Those of the parameters `moved` whose gradients tell whether all of theirs are finite."""
    known = {id(parameter) for parameter in moved}
    for module in nn.ModuleList(parts).modules():
        own = [parameter for parameter in module.parameters(recurse=False) if id(parameter) in known]
        biases = [parameter for parameter in own if parameter is getattr(module, "bias", None)]
        yield from biases if biases and isinstance(module, _AFFINE) else own
