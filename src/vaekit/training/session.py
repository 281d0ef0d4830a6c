"""A training that can be put down and taken up: everything that moves, and how it becomes a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaekit._version import __version__
from vaekit.data.stream import Stream
from vaekit.errors import CheckpointError, RunError, TrainingError
from vaekit.models.vae import VAE
from vaekit.networks.linear import Linear
from vaekit.objectives.base import Objective
from vaekit.training.checkpoint import Checkpoint
from vaekit.training.compiled import Compiling
from vaekit.training.device import Generators
from vaekit.training.history import History, Row
from vaekit.training.players import Player
from vaekit.training.tensors import spill

# what may change between a stop and a resume: it leaves the weights alone, or is guarded by the data's own fingerprint
_FREE = frozenset(
    {
        "device", "name", "output_dir", "evaluation", "tracking", "data.path", "training.checkpoint_seconds",
        "training.keep_checkpoints",
    }
)  # fmt: skip
# settings that earlier versions did not have, and how these trained
_ADDED = {"training.compile": False}
_MOST_THREADS = 1024


@dataclass
class Best:
    """The weights with the best validation score so far: the ELBO, unless the model or the objective has a criterion of its own.

    Attributes:
        score: That score, nats per example, higher is better.
        epoch: Epochs done when it was measured, 0 before the first.
        weights: A copy of the model's state.
        file: Where that copy is kept, or None for memory.
    """

    score: float = -float("inf")
    epoch: int = 0
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    file: Path | None = None

    def keep_in(self, file: Path) -> None:
        """Keep the weights in a file from now on, in the place of memory."""
        self.file = file
        if self.epoch:
            self.weights = spill(file, self.weights)

    def consider(self, score: float, epoch: int, model: VAE) -> bool:
        """Keep the model's present weights if `score` is higher; says whether it was.

        Raises:
            CheckpointError: If the file for them cannot be written.
        """
        if not score > self.score:
            return False
        state = model.state_dict()
        if self.file is None:
            self.weights = {name: tensor.detach().clone() for name, tensor in state.items()}
        else:
            self.weights = spill(self.file, state)
        self.score, self.epoch = score, epoch
        return True


@dataclass
class Session:
    """All that a training moves. What it does not hold is a function of the step and the configuration.

    Attributes:
        fingerprint: Of the data, so that a training never goes on with others.
        config: The resolved configuration, so that a training never goes on with another.
        samples: Posterior draws of each example in a step, K.
        flops: Floating point operations of a step, roughly; 0 where they are not known.
        products: Floating point operations of the matrix products and convolutions that a step does; 0 where they are not known.
        compiling: Whether steps are compiled, and why not if one could not be.
        threads: Of the CPU: sums depend on their number in the last bit, so it stays the same after a resume.
    """

    model: VAE
    objective: Objective
    players: list[Player]
    stream: Stream
    generators: Generators
    history: History
    fingerprint: str
    config: Mapping[str, Any]
    best: Best = field(default_factory=Best)
    step: int = 0
    samples: int = 1
    flops: float = 0.0
    products: float = 0.0
    compiling: Compiling = field(default_factory=Compiling)
    threads: int = field(default_factory=torch.get_num_threads)

    def capture(self, step: int) -> Checkpoint:
        """The present state as a checkpoint. To be called where the generators are borrowed.

        Raises:
            TrainingError: If a weight is not finite: a loss can still be when the step after it has spoiled the weights.
        """
        for name, weight in self.model.state_dict().items():
            if not _finite(weight):
                raise TrainingError(
                    f"The weights {name!r} are no longer finite after step {step:,}. Lower optimizer.lr, or clip with "
                    "training.gradient_clip=1."
                )
        optimizers = {player.name: player.optimizer.state_dict() for player in self.players}
        tensors, hyper = _split(optimizers)
        groups: dict[str, Mapping[str, Tensor]] = {
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": tensors,
            "generators": self.generators.current(),
            "best": self.best.weights,
        }
        state = {
            "vaekit": __version__,
            "data": self.fingerprint,
            "config": self.config,
            "threads": self.threads,
            "optimizers": hyper,
            "paces": {player.name: player.pace.state() for player in self.players},
            "history": self.history.state(),
            "uncompiled": self.compiling.refused,
            "best": {"score": self.best.score if self.best.epoch else None, "epoch": self.best.epoch},
        }
        return Checkpoint(step, groups, state)

    def restore(self, checkpoint: Checkpoint, read_rows: Callable[[int], list[Row]]) -> None:
        """Go on from a checkpoint and the rows that had been logged when it was made, of which `read_rows` gives the first n.

        Raises:
            RunError: If the data or the configuration are others than those of the checkpoint.
            CheckpointError: If it does not fit the model.
        """
        try:
            self._refuse_changes(checkpoint.state)
            self._restore(checkpoint, read_rows)
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
            if isinstance(error, RunError):
                raise
            raise CheckpointError(
                f"The checkpoint of step {checkpoint.step} does not fit this training: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}."
            ) from error

    def release(self) -> None:
        """Give back what only further steps need: gradients, the memory kept for them, and the states of the optimizers."""
        for player in self.players:
            player.optimizer.state.clear()
            for parameter in player.parameters:
                parameter.grad = None
        for module in nn.ModuleList([self.model, self.objective]).modules():
            if isinstance(module, Linear):
                module.forget()

    def _refuse_changes(self, state: Mapping[str, Any]) -> None:
        changes = list(_changes(state["config"], json.loads(json.dumps(self.config))))
        if changes:
            raise RunError(
                f"config.yaml has changed since the checkpoint was made: {'; '.join(changes)}. Put the old values back, or train "
                "anew."
            )
        if state["data"] != self.fingerprint:
            raise RunError(
                f"The data have changed since this run was started: SHA-256 {self.fingerprint[:16]}..., the checkpoint has "
                f"{state['data'][:16]}.... Put the old data back, or train anew."
            )

    def _restore(self, checkpoint: Checkpoint, read_rows: Callable[[int], list[Row]]) -> None:
        state, tensors = checkpoint.state, checkpoint.tensors
        device = self.generators.device
        self.model.load_state_dict(tensors["model"])
        self.objective.load_state_dict(tensors["objective"])
        for player in self.players:
            player.optimizer.load_state_dict(
                _joined(player.name, tensors["optimizer"], state["optimizers"][player.name])
            )
            # absent before version 0.2, when no rate moved
            player.pace.load(state.get("paces", {}).get(player.name, {}))
        self.generators.load(tensors["generators"])
        self.compiling.refused = str(state.get("uncompiled", ""))  # absent before there was a compiler
        self.history.load(state["history"], read_rows(state["history"]["rows"]), device)
        score, epoch = state["best"]["score"], state["best"]["epoch"]
        self.best = Best(-float("inf") if score is None else score, epoch, tensors["best"] if epoch else {})
        self.step, self.threads = checkpoint.step, int(state["threads"])
        if not 1 <= self.threads <= _MOST_THREADS:
            raise ValueError(f"threads is {self.threads}")


def _finite(weight: Tensor) -> bool:
    # the two extremes tell it without a copy, which isfinite() would make several of
    return weight.numel() == 0 or all(bool(extreme.isfinite()) for extreme in weight.aminmax())


def _changes(saved: Any, present: Any, where: str = "") -> Iterator[str]:
    """What differs and would change the result: "training.batch_size is 64, was 128"."""
    if where in _FREE or saved == present or (saved is None and present == _ADDED.get(where, saved)):
        return
    if not (isinstance(saved, Mapping) and isinstance(present, Mapping)):
        yield f"{where} is {json.dumps(present)}, was {json.dumps(saved)}"
        return
    for name in {**saved, **present}:
        yield from _changes(saved.get(name), present.get(name), f"{where}.{name}" if where else name)


def _split(optimizers: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Optimizer states as named tensors, and the numbers that go into JSON."""
    tensors, hyper = {}, {}
    for player, state in optimizers.items():
        hyper[player] = {"param_groups": state["param_groups"]}
        for parameter, entries in state["state"].items():
            for name, value in entries.items():
                tensors[f"{player}/{parameter}/{name}"] = value
    return tensors, hyper


def _joined(player: str, tensors: Mapping[str, Tensor], hyper: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        owner, parameter, name = key.split("/")
        if owner == player:
            state.setdefault(int(parameter), {})[name] = tensor
    return {"state": state, "param_groups": hyper["param_groups"]}
