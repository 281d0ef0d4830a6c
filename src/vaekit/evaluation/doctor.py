"""A diagnosis in words from a run's numbers and configuration: what is wrong, why, and which command mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vaekit.evaluation.units import Estimate

# below this the latent says less than a coin toss about an image
COLLAPSED_NATS = 0.5


@dataclass(frozen=True)
class Finding:
    """One thing that a reader of the numbers should know.

    Attributes:
        severity: "warning" for a fault of the model, "note" for what limits the meaning of its numbers.
        title: In three words.
        evidence: The numbers that show it.
        cause: Why, in one sentence.
        remedies: Commands that can be run as they stand, the most promising first.
    """

    severity: str
    title: str
    evidence: str
    cause: str
    remedies: tuple[str, ...]

    def __str__(self) -> str:
        """The finding as lines of text."""
        lines = [f"{self.severity}: {self.title}. {self.evidence} {self.cause}"]
        return "\n".join([*lines, *(f"  try: {remedy}" for remedy in self.remedies)])


def diagnose(
    metrics: Mapping[str, Estimate], config: Mapping[str, Any], command: str = "vaekit train", steps: int | None = None
) -> list[Finding]:
    """All findings, warnings first.

    Arguments:
        metrics: Of an evaluation on held-out data.
        config: The run's resolved configuration.
        command: How the run was started; remedies are this command with something added.
        steps: Of the whole training, if known: a warm-up has to end before it does.
    """
    return [
        *_collapse(metrics, config, command, steps),
        *_beta(metrics, config, command),
        *_grey_bernoulli(config, command),
    ]


def _collapse(
    metrics: Mapping[str, Estimate], config: Mapping[str, Any], command: str, steps: int | None
) -> Iterator[Finding]:
    kl = metrics.get("kl")
    if kl is None or not kl.value < COLLAPSED_NATS:
        return
    evidence = (
        f"The KL is {kl.value:.3g} ± {kl.standard_error:.2g} nats: the latent carries no information about the data."
    )
    scale = _fixed_scale(config)
    if scale is not None:
        cause = (
            f"With sigma fixed at {scale:g} the likelihood is so tolerant of error that using the latent costs more nats than it "
            "saves, so the posterior has fallen back on the prior; learn sigma, or take the optimal one."
        )
        remedies = ["likelihood=normal_optimal", "likelihood=normal_learned", "sigma=0.1"]
    else:
        cause = "The posterior has fallen back on the prior; weigh the KL less while the decoder is learning, or train longer."
        longer = 3 * int(config["training"]["epochs"])
        warm_up = f"'beta={{kind: schedules.Linear, start: 0.0, stop: 1.0, steps: {(steps or 0) // 2}}}'"
        remedies = [*([warm_up] if steps and steps > 1 else []), f"training.epochs={longer}", "beta=0.5"]
    yield Finding("warning", "Posterior collapse", evidence, cause, tuple(f"{command} {r}" for r in remedies))


def _beta(metrics: Mapping[str, Estimate], config: Mapping[str, Any], command: str) -> Iterator[Finding]:
    beta = metrics.get("effective_beta")
    reduced = str((config["objective"].get("reduction") or {}).get("kind", "")).endswith("MeanReduction")
    if beta is None or not reduced or 0.5 <= beta.value <= 2.0:
        return
    yield Finding(
        "note",
        "Effective beta",
        f"reduction=mean makes the effective beta {beta.value:.4g}.",
        "Each term is divided by its own number of elements, which weighs a nat of KL that many times a nat of reconstruction.",
        (f"{command} objective.reduction.kind=objectives.SumReduction",),
    )


def _grey_bernoulli(config: Mapping[str, Any], command: str) -> Iterator[Finding]:
    grey = config["data"].get("binarisation") == "none"
    if not (grey and config["likelihood"]["kind"] == "likelihoods.Bernoulli"):
        return
    yield Finding(
        "note",
        "Real-valued data under a Bernoulli likelihood",
        "data.binarisation=none: pixels between 0 and 1 are scored with the cross-entropy.",
        "That is a loss, not a density, so these numbers cannot be compared with those of binarised data, nor across data sets.",
        (f"{command} data.binarisation=dynamic", f"{command} likelihood=normal_optimal"),
    )


def _fixed_scale(config: Mapping[str, Any]) -> float | None:
    likelihood = config["likelihood"]
    return float(likelihood["scale"]) if likelihood["kind"] == "likelihoods.Normal" else None
