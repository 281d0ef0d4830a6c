"""What a training has said so far: running sums on the device, one row of numbers for each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vaekit.errors import TrainingError
from vaekit.objectives.base import Loss, Role
from vaekit.training.device import on_host

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
    _left_out: Tensor | None = None

    def observe(self, values: Tensor, examples: int, good: Tensor | None = None) -> None:
        """Take in the `values` of a batch of so many examples; where `good`, shape (), is false it is a step that was skipped."""
        # a processor knows at once; another device is not waited for
        if good is not None and not (on_host(good) and bool(good)):
            good = good.to(values)
            values = torch.where(good > 0, values, 0.0)
            skipped = torch.stack([1.0 - good, examples * (1.0 - good)])
            self._left_out = skipped if self._left_out is None else self._left_out.add_(skipped)
        self._sums = values * examples if self._sums is None else self._sums.add_(values, alpha=examples)
        self.examples += examples

    def values(self, loss: Loss) -> Tensor:
        """What is added up of a loss: the logged loss and each term, without a graph, shape (T,)."""
        logged = loss.total
        if self.constant:
            scored = [name for name, role in loss.roles.items() if role in (Role.DISTORTION, Role.BOUND)]
            logged = logged - sum((self.constant * loss.coefficients[name] for name in scored), torch.zeros(()))
        self._roles = loss.roles
        named = {"loss": logged, **loss.parts}
        self._names = self._names or list(named)  # a resumed run may have its terms in another order
        values = torch.stack([named[name] for name in self._names]).detach()
        # float64 sums: 60,000 examples of 100 nats leave float32 three digits for the rest; Apple's GPUs have none
        return values if values.device.type == "mps" else values.double()

    def adopt(self, sums: Tensor, like: History) -> None:
        """Keep the sums from now on in `sums`, shape (T,), which somebody else adds to; the terms are in the order of `like`."""
        names = like._names
        if self._sums is not None:
            sums.copy_(self._sums[[self._names.index(name) for name in names]])
        self._sums, self._names, self._roles = sums, list(names), like._roles

    def close(self, epoch: int, step: int, cause: object = "") -> Row:
        """The row of an epoch that has ended after `step` steps; the sums start anew.

        Raises:
            TrainingError: If a number is not finite, or every step was left out, for which there may be a `cause` to say.
        """
        means = self.means()
        if not means:
            raise TrainingError(
                f"All {self._skipped()[0]} steps of epoch {epoch} had to be left out: their loss or gradient was not finite. "
                f"{cause} Lower optimizer.lr, clip with training.gradient_clip=1, or take another activation (activation=silu)."
            )
        row: Row = {"step": step, "epoch": epoch, "examples": self.examples, "train/loss": means.pop("loss")}
        elbo = self._elbo(means)
        for name, value in means.items():
            row[f"train/{name}_loss"] = value
        if elbo is not None:
            row["train/elbo"] = elbo
        skipped, _ = self._skipped()
        if skipped:
            row["train/skipped_steps"] = skipped
        self.rows.append(row)
        self.examples, self._sums, self._left_out = 0, None, None
        return row

    def _skipped(self) -> tuple[int, int]:
        """Steps of this epoch that were left out, and their examples."""
        steps, examples = (0.0, 0.0) if self._left_out is None else self._left_out.tolist()
        return int(steps), int(examples)

    def _elbo(self, means: Mapping[str, float]) -> float | None:
        roles = set(self._roles.values())
        if not {Role.DISTORTION, Role.RATE} <= roles:
            return None
        return -sum(means[name] for name, role in self._roles.items() if role in (Role.DISTORTION, Role.RATE))

    def means(self) -> dict[str, float]:
        """Means so far in this epoch: the logged loss and each term in nats; none before the first step that was not left out.

        Raises:
            TrainingError: If one is not finite.
        """
        if self._sums is None:
            return {}
        counted = self.examples - self._skipped()[1]
        if not counted:
            return {}
        means = dict(zip(self._names, (self._sums / counted).tolist(), strict=True))
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            where = next((name for name in broken if name != "loss"), "loss")
            raise TrainingError(
                f"The loss is no longer finite (term {where!r}). Lower optimizer.lr, clip with training.gradient_clip=1, or "
                "raise sigma."
            )
        return means

    def state(self) -> dict[str, object]:
        """Everything but the rows, as JSON values that come back bit for bit.

        Raises:
            TrainingError: If a sum is not finite: there is nothing to go on from.
        """
        sums = None if self._sums is None else self._sums.tolist()
        if not all(map(math.isfinite, sums or ())):
            self.means()  # says which term it is
        left_out = None if self._left_out is None else self._left_out.tolist()
        return {
            "examples": self.examples, "names": self._names, "sums": sums, "left_out": left_out, "rows": len(self.rows),
        }  # fmt: skip

    def load(self, state: Mapping[str, object], rows: list[Row], device: torch.device) -> None:
        """Go on from a state that `state` gave, and the rows that belong to it."""
        sums, names, examples = state["sums"], state["names"], state["examples"]
        assert isinstance(names, list)
        assert isinstance(examples, int)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = None if sums is None else torch.tensor(sums, dtype=dtype, device=device)
        left_out = state.get("left_out")
        self._left_out = None if left_out is None else torch.tensor(left_out, dtype=dtype, device=device)
        self._names, self.examples, self.rows = names, examples, rows
