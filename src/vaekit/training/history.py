"""What a training has said so far: running sums on the device, one row of numbers for each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vaekit.errors import TrainingError
from vaekit.objectives.base import Loss, Role

Row = dict[str, float]


@dataclass
class History:
    """Means over the examples of each epoch. Nothing here waits for the device before an epoch ends.

    Attributes:
        constant: Nats that the logged loss leaves out; every other number keeps them.
        rows: One for each finished epoch.
        examples: Examples seen in the present epoch.
    """

    constant: float = 0.0
    rows: list[Row] = field(default_factory=list)
    examples: int = 0
    _names: list[str] = field(default_factory=list)
    _sums: Tensor | None = None
    _roles: Mapping[str, Role] = field(default_factory=dict)

    def observe(self, loss: Loss, examples: int) -> None:
        """Take in the loss of a batch of so many examples."""
        scored = [name for name, role in loss.roles.items() if role in (Role.DISTORTION, Role.BOUND)]
        offset = sum((self.constant * loss.coefficients[name] for name in scored), torch.zeros(()))
        self._roles = loss.roles
        named = {"loss": loss.total - offset, **loss.parts}
        self._names = self._names or list(named)  # a resumed run may have its terms in another order
        values = torch.stack([named[name] for name in self._names]).detach()
        # float64 sums: 60,000 examples of 100 nats leave float32 three digits for the rest; Apple's GPUs have none
        values = values if values.device.type == "mps" else values.double()
        self._sums = values * examples if self._sums is None else self._sums.add_(values, alpha=examples)
        self.examples += examples

    def close(self, epoch: int, step: int) -> Row:
        """The row of an epoch that has ended after `step` steps; the sums start anew.

        Raises:
            TrainingError: If a number is not finite.
        """
        means = self.means()
        row: Row = {"step": step, "epoch": epoch, "examples": self.examples, "train/loss": means.pop("loss")}
        elbo = self._elbo(means)
        for name, value in means.items():
            row[f"train/{name}_loss"] = value
        if elbo is not None:
            row["train/elbo"] = elbo
        self.rows.append(row)
        self.examples, self._sums = 0, None
        return row

    def _elbo(self, means: Mapping[str, float]) -> float | None:
        roles = set(self._roles.values())
        if not {Role.DISTORTION, Role.RATE} <= roles:
            return None
        return -sum(means[name] for name, role in self._roles.items() if role in (Role.DISTORTION, Role.RATE))

    def means(self) -> dict[str, float]:
        """Means so far in this epoch: the logged loss and each term in nats.

        Raises:
            TrainingError: If one is not finite.
        """
        if self._sums is None:
            return {}
        means = dict(zip(self._names, (self._sums / self.examples).tolist(), strict=True))
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            where = next((name for name in broken if name != "loss"), "loss")
            raise TrainingError(
                f"The loss is no longer finite (term {where!r}). Lower optimizer.lr, clip with training.gradient_clip=1, or "
                "raise sigma."
            )
        return means

    def state(self) -> dict[str, object]:
        """Everything but the rows, as JSON values that come back bit for bit."""
        sums = None if self._sums is None else self._sums.tolist()
        return {"examples": self.examples, "names": self._names, "sums": sums, "rows": len(self.rows)}

    def load(self, state: Mapping[str, object], rows: list[Row], device: torch.device) -> None:
        """Go on from a state that `state` gave, and the rows that belong to it."""
        sums, names, examples = state["sums"], state["names"], state["examples"]
        assert isinstance(names, list)
        assert isinstance(examples, int)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = None if sums is None else torch.tensor(sums, dtype=dtype, device=device)
        self._names, self.examples, self.rows = names, examples, rows
