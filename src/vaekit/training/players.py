"""Who is trained by what: a player is a set of parameters, the loss that moves them and their optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vaekit.models.trace import Trace
from vaekit.objectives.base import Loss


def always(step: int) -> bool:
    """Active at every step."""
    return True


def total(trace: Trace, loss: Loss) -> Tensor:
    """The whole objective."""
    return loss.total


@dataclass
class Player:
    """One of the parties of a training. With one player it is ordinary minimisation.

    Attributes:
        name: For messages.
        parameters: What this player moves; no other player's loss reaches them.
        optimizer: Over exactly those parameters.
        loss: From the trace and the objective's loss to what is minimised, shape ().
        active: Whether the player moves at a step.
        gradient_clip: Largest norm of its gradient, or None.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    optimizer: Optimizer
    loss: Callable[[Trace, Loss], Tensor] = total
    active: Callable[[int], bool] = always
    gradient_clip: float | None = None

    def backward(self, trace: Trace, loss: Loss, *, last: bool = True) -> None:
        """Gradients of this player's loss with respect to its own parameters, and to nothing else.

        Arguments:
            trace: Shared by all players.
            loss: Of the objective.
            last: Whether no other player needs the graph after this one.
        """
        for parameter in self.parameters:
            parameter.grad = None
        value = self.loss(trace, loss)
        value.backward(inputs=list(self.parameters), retain_graph=not last)  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """Move."""
        if self.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        self.optimizer.step()


def sole_player(modules: nn.Module, optimizer: Callable[..., Optimizer], gradient_clip: float | None = None) -> Player:
    """The player of an ordinary training: every parameter below `modules`, moved by the whole objective."""
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    return Player("model", parameters, optimizer(parameters), gradient_clip=gradient_clip)
