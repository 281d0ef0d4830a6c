"""A training that can be put down and taken up: everything that moves, and how it becomes a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vaekit._version import __version__
from vaekit.data.stream import Stream
from vaekit.errors import RunError
from vaekit.models.vae import VAE
from vaekit.objectives.base import Objective
from vaekit.training.checkpoint import Checkpoint
from vaekit.training.device import Generators
from vaekit.training.history import History, Row
from vaekit.training.players import Player


@dataclass
class Best:
    """The weights with the highest validation ELBO so far.

    Attributes:
        elbo: That ELBO, nats per example.
        epoch: Epochs done when it was measured, 0 before the first.
        weights: A copy of the model's state.
    """

    elbo: float = -float("inf")
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def consider(self, elbo: float, epoch: int, model: VAE) -> None:
        """Keep the model's present weights if `elbo` is higher."""
        if elbo > self.elbo:
            self.elbo, self.epoch = elbo, epoch
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@dataclass
class Session:
    """All that a training moves. What it does not hold is a function of the step and the configuration.

    Attributes:
        fingerprint: Of the data, so that a training never goes on with others.
    """

    model: VAE
    objective: Objective
    players: list[Player]
    stream: Stream
    generators: Generators
    history: History
    fingerprint: str
    best: Best = field(default_factory=Best)
    step: int = 0
    threads: int = field(default_factory=torch.get_num_threads)

    def capture(self, step: int) -> Checkpoint:
        """The present state as a checkpoint. To be called where the generators are borrowed."""
        optimizers = {player.name: player.optimizer.state_dict() for player in self.players}
        tensors, hyper = _split(optimizers)
        groups: dict[str, Mapping[str, Tensor]] = {
            "model": self.model.state_dict(),
            "optimizer": tensors,
            "generators": self.generators.current(),
            "best": self.best.weights,
        }
        state = {
            "vaekit": __version__,
            "data": self.fingerprint,
            "threads": self.threads,
            "optimizers": hyper,
            "history": self.history.state(),
            "best": {"elbo": self.best.elbo if self.best.epoch else None, "epoch": self.best.epoch},
        }
        return Checkpoint(step, groups, state)

    def restore(self, checkpoint: Checkpoint, rows: list[Row]) -> None:
        """Go on from a checkpoint and the rows that had been logged when it was made.

        Raises:
            RunError: If the data are others than those of the checkpoint.
        """
        state, tensors = checkpoint.state, checkpoint.tensors
        if state["data"] != self.fingerprint:
            raise RunError(
                f"The data have changed since this run was started: SHA-256 {self.fingerprint[:16]}..., the checkpoint has "
                f"{state['data'][:16]}.... Put the old data back, or train anew."
            )
        device = self.generators.device
        self.model.load_state_dict(tensors["model"])
        for player in self.players:
            player.optimizer.load_state_dict(
                _joined(player.name, tensors["optimizer"], state["optimizers"][player.name])
            )
        self.generators.load(tensors["generators"])
        self.history.load(state["history"], rows, device)
        elbo, epoch = state["best"]["elbo"], state["best"]["epoch"]
        weights = {name: tensor.to(device) for name, tensor in tensors["best"].items()}
        self.best = Best(-float("inf") if elbo is None else elbo, epoch, weights)
        self.step, self.threads = checkpoint.step, state["threads"]


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
