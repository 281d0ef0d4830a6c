"""Who is trained by what: a player is a set of parameters, the loss that moves them and their optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vaekit.models.trace import Trace
from vaekit.objectives.base import Loss
from vaekit.training import adam
from vaekit.training.device import on_host
from vaekit.training.rate import Pace, unmoved


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
        pace: How the optimizer's learning rate moves; not at all by default.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    optimizer: Optimizer
    loss: Callable[[Trace, Loss], Tensor] = total
    active: Callable[[int], bool] = always
    gradient_clip: float | None = None
    pace: Pace = field(default_factory=unmoved)

    def __post_init__(self) -> None:
        self._base = [float(group["lr"]) for group in self.optimizer.param_groups]

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def advance(self, step: int) -> None:
        """Move the learning rate to `step`: a Python number, which a fused step takes as its argument without waiting."""
        for group, base in zip(self.optimizer.param_groups, self._base, strict=True):
            group["lr"] = self.pace.rate(base, step)

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

    def step(self, good: Tensor | None = None) -> None:
        """Move, unless `good`, shape (), is false: then parameters and optimizer stay as they are.

        A fused optimizer reads it on its own device, so that the host need not wait for the number.
        """
        if good is not None and not on_host(good) and self.optimizer.defaults.get("fused"):
            self.optimizer.found_inf, self.optimizer.grad_scale = 1.0 - good.float(), None  # type: ignore[attr-defined]
        elif good is not None and not bool(good):
            return
        if self.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        adam.step(self.optimizer)


def sole_player(
    modules: nn.Module,
    optimizer: Callable[..., Optimizer],
    gradient_clip: float | None = None,
    pace: Pace | None = None,
) -> Player:
    """The player of an ordinary training: every parameter below `modules`, moved by the whole objective."""
    parameters = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    pace = unmoved() if pace is None else pace
    return Player("model", parameters, optimizer(parameters), gradient_clip=gradient_clip, pace=pace)
