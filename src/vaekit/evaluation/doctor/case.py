"""What the rules look at: a run's numbers, symptoms, configuration and history, with the questions that several of them ask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vaekit.evaluation.doctor.prescription import prescribed
from vaekit.evaluation.units import Estimate

Row = Mapping[str, Any]

# likelihoods with one given scale, whose residuals say whether it is right
GIVEN_SCALE = ("Normal", "Laplace")


@dataclass(frozen=True)
class Case:
    """A run, as far as plain files tell.

    Attributes:
        metrics: Of an evaluation on held-out data.
        config: The resolved configuration.
        command: How the run was started.
        rows: Of its epochs.
        symptoms: What `evaluation.symptoms` measured; empty for runs of before version 0.3.
        steps: Of the whole training, if known.
        state: "finished", "stopped" by a signal or a kill, or "broken" where the training gave up.
        path: Of the run folder, for commands that name it.
    """

    metrics: Mapping[str, Estimate]
    config: Mapping[str, Any]
    command: str = "vaekit train"
    rows: Sequence[Row] = ()
    symptoms: Mapping[str, Estimate] = field(default_factory=dict)
    steps: int | None = None
    state: str = "finished"
    path: str = "RUN"

    def value(self, name: str) -> float | None:
        """A metric or a symptom by name; None where it is not there or no number."""
        found = self.metrics.get(name) or self.symptoms.get(name)
        return found.value if found is not None and math.isfinite(found.value) else None

    def told(self, name: str, digits: int = 3) -> str:
        """A number with its standard error, in words."""
        found = self.metrics.get(name) or self.symptoms[name]
        error = found.standard_error
        return f"{found.value:.{digits}g}" + (f" ± {error:.2g}" if error and math.isfinite(error) else "")

    def remedies(self, *overrides: str) -> tuple[str, ...]:
        """The run's command with each of these in turn; one of several settings has them with spaces between."""
        return tuple(prescribed(self.command, override, self.config) for override in overrides if override)

    @property
    def likelihood(self) -> str:
        """The class of the likelihood."""
        return str(self.config["likelihood"]["kind"]).removeprefix("likelihoods.")

    @property
    def likelihoods(self) -> tuple[str, ...]:
        """The likelihood, and that of the residuals above it where there are any."""
        residual = self.config["architecture"].get("residual") or {}
        return (self.likelihood, *([residual["kind"].removeprefix("likelihoods.")] if residual else []))

    @property
    def mean_reduction(self) -> bool:
        """Whether each term is divided by its own number of elements."""
        return str((self.config["objective"].get("reduction") or {}).get("kind", "")).endswith("MeanReduction")

    @property
    def weighs_kl(self) -> bool:
        """Whether the objective has a weight on the KL, which beta sets."""
        return "kl" in (self.config["objective"].get("weights") or {})

    @property
    def weight(self) -> float:
        """What `beta` is at the end of the training, but no more than 1."""
        found = self.asked_beta if self.mean_reduction else self.value("effective_beta")
        return 1.0 if found is None or found <= 0.0 else min(1.0, found)

    @property
    def plain_kl(self) -> bool:
        """Whether the objective's KL is the KL itself, and is held to no floor and no target."""
        kl = (self.config["objective"].get("terms") or {}).get("kl") or {}
        return str(kl.get("kind", "")) in ("objectives.KL", "objectives.MonteCarloKL")

    @property
    def epochs(self) -> int:
        """That were asked for."""
        return int(self.config["training"]["epochs"])

    @property
    def lr(self) -> float:
        """The optimizer's learning rate."""
        return float(self.config["optimizer"]["lr"])

    @property
    def sigma(self) -> float | None:
        """The given scale of a normal or Laplace likelihood."""
        scale = self.config["likelihood"].get("scale")
        return float(scale) if self.likelihood in GIVEN_SCALE and isinstance(scale, (int, float)) else None

    @property
    def asked_beta(self) -> float | None:
        """beta where it is a number, whatever it came from."""
        beta = self.config.get("beta")
        return float(beta) if isinstance(beta, (int, float)) and not isinstance(beta, bool) else None

    @cached_property
    def scores(self) -> list[float]:
        """Of each epoch, what its weights were chosen by: higher is better; empty unless every row has one."""
        scores = [score(self.config, row) for row in self.rows]
        return [value for value in scores if value is not None] if None not in scores else []

    @cached_property
    def kept_epoch(self) -> int:
        """The epoch whose weights were kept, counted from 1; 0 if the rows do not say."""
        kept = [number for number, row in enumerate(self.rows, 1) if row.get("kept")]
        return kept[-1] if kept else 0

    def network(self, argument: str, value: str) -> str:
        """An argument of both networks, as overrides; empty where a network is none that takes it."""
        network = self.config.get("network") or {}
        if any("wide" in str(side.get("kind", "")) for side in network.values() if isinstance(side, Mapping)):
            wide = {"dropout": "dropout_rate", "activation": "activation"}
            return f"{wide[argument]}={value}" if argument in wide else ""
        sides = [name for name, side in network.items() if isinstance(side, Mapping) and argument in _inner(side)]
        return " ".join(f"network.{name}.{_path(network[name])}{argument}={value}" for name in sides)

    def setting(self, argument: str) -> list[Any]:
        """The values of an argument of the networks."""
        network = self.config.get("network") or {}
        found = [_inner(side).get(argument) for side in network.values() if isinstance(side, Mapping)]
        return [value for value in found if value is not None]


def score(config: Mapping[str, Any], row: Row) -> float | None:
    """What the weights of an epoch were chosen by: with a `kld_weight` minus the loss, else the bound, or the reconstruction."""
    if config.get("kld_weight") is not None and "val/loss" in row:
        return -float(row["val/loss"])
    bound = next((name for name in row if name.startswith("val/iwae_")), "val/elbo")
    if bound in row:
        return float(row[bound])
    return -float(row["val/recon_loss"]) if "val/recon_loss" in row else None


def _inner(side: Mapping[str, Any]) -> Mapping[str, Any]:
    """The network within those that only wrap one."""
    inner = side.get("network")
    return _inner(inner) if isinstance(inner, Mapping) else side


def _path(side: Mapping[str, Any]) -> str:
    inner = side.get("network")
    return f"network.{_path(inner)}" if isinstance(inner, Mapping) else ""
