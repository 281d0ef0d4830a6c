"""A diagnosis in words from a run's numbers and configuration: what is wrong, why, and which command mends it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaekit.evaluation.units import Estimate
from vaekit.training.watch import COLLAPSED_NATS, STRETCHED_NATS

# below this share of codes in use, a codebook has collapsed
DEAD_SHARE = 0.1
# above it, a KL near zero is beta's doing
HEAVY_BETA = 2.0
# a bound that rose by more than this share of its whole rise in the last fifth of the epochs is still rising
STILL_RISING = 0.02


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
    metrics: Mapping[str, Estimate],
    config: Mapping[str, Any],
    command: str = "vaekit train",
    steps: int | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
) -> list[Finding]:
    """All findings, warnings first.

    Arguments:
        metrics: Of an evaluation on held-out data.
        config: The run's resolved configuration.
        command: How the run was started; remedies are this command with something added.
        steps: Of the whole training, if known: a warm-up has to end before it does.
        rows: Of its epochs, if known.
    """
    case = _Case(metrics, config, command, steps, rows)
    found = [finding for rule in RULES for finding in rule(case)]
    return sorted(found, key=lambda finding: finding.severity != "warning")


@dataclass(frozen=True)
class _Case:
    """What the rules look at."""

    metrics: Mapping[str, Estimate]
    config: Mapping[str, Any]
    command: str
    steps: int | None
    rows: Sequence[Mapping[str, Any]] = ()

    def value(self, name: str) -> float | None:
        return self.metrics[name].value if name in self.metrics else None

    @property
    def likelihood(self) -> str:
        return str(self.config["likelihood"]["kind"]).removeprefix("likelihoods.")

    @property
    def likelihoods(self) -> tuple[str, ...]:
        """The likelihood, and that of the residuals above it where there are any."""
        residual = self.config["architecture"].get("residual") or {}
        return (self.likelihood, *([residual["kind"].removeprefix("likelihoods.")] if residual else []))

    @property
    def mean_reduction(self) -> bool:
        return str((self.config["objective"].get("reduction") or {}).get("kind", "")).endswith("MeanReduction")

    @property
    def weighs_kl(self) -> bool:
        """Whether the objective has a weight on the KL, which beta sets."""
        return "kl" in (self.config["objective"].get("weights") or {})

    def lighter(self) -> str:
        """What takes the weight off the KL, if the configuration puts some on it."""
        if self.mean_reduction:
            return "objective.reduction.kind=objectives.SumReduction"
        beta = self.config.get("beta")
        heavy = isinstance(beta, (int, float)) and beta > 1.0
        if heavy and self.config.get("kld_weight") is not None:
            return f"kld_weight={2.0 / self.config['input_dim']:.1g}"  # a beta of about 1
        return "beta=1.0" if heavy else ""

    def remedies(self, *overrides: str) -> tuple[str, ...]:
        return tuple(self._remedy(override) for override in overrides)

    def _remedy(self, override: str) -> str:
        command = _without_stale(self.command, override)
        if self.config.get("kld_weight") is None or not override.lstrip("'").startswith(("beta=", "likelihood=")):
            return f"{command} {override}"
        # a weight beside a mean stands beside no other weight, and beside no other likelihood
        return f"{_without_stale(command, 'kld_weight=null')} {override} kld_weight=null"

    def more_training(self) -> tuple[str, ...]:
        warm_up = f"'beta={{kind: schedules.Linear, start: 0.0, stop: 1.0, steps: {(self.steps or 0) // 2}}}'"
        longer = f"training.epochs={3 * int(self.config['training']['epochs'])}"
        return (warm_up, longer) if self.steps and self.steps > 1 and self.weighs_kl else (longer,)


def _collapse(case: _Case) -> Iterator[Finding]:
    kl = case.metrics.get("kl")
    if kl is None or not kl.value < COLLAPSED_NATS:
        return
    evidence = (
        f"The KL is {kl.value:.3g} ± {kl.standard_error:.2g} nats: the latent carries no information about the data."
    )
    yield Finding("warning", "Posterior collapse", evidence, *_why_collapsed(case))


def _why_collapsed(case: _Case) -> tuple[str, tuple[str, ...]]:
    beta, lighter = case.value("effective_beta"), case.lighter()
    if beta is not None and beta > HEAVY_BETA and lighter:
        cause = f"A nat of KL weighs {beta:.4g} times a nat of reconstruction, so using the latent does not pay."
        return cause, case.remedies(lighter, *case.more_training())
    if case.likelihood == "Normal":
        cause = (
            f"With sigma fixed at {float(case.config['likelihood']['scale']):g} the likelihood is so tolerant of error that using "
            "the latent costs more nats than it saves, so the posterior has fallen back on the prior; learn sigma, or take the "
            "optimal one."
        )
        return cause, case.remedies("likelihood=normal_optimal", "likelihood=normal_learned", *_smaller_sigma(case))
    cause = (
        "The posterior has fallen back on the prior; weigh the KL less while the decoder is learning, or train longer."
    )
    return cause, case.remedies(*case.more_training(), *(("beta=0.5",) if case.weighs_kl else ()))


def _smaller_sigma(case: _Case) -> tuple[str, ...]:
    scale = float(case.config["likelihood"]["scale"])
    return ("likelihood=normal sigma=0.1",) if scale > 0.1 else ()


def _one_posterior(case: _Case) -> Iterator[Finding]:
    kl, units = case.metrics.get("kl"), case.metrics.get("active_units")
    if kl is None or units is None or kl.value < COLLAPSED_NATS or units.value > 0:
        return
    yield Finding(
        "warning",
        "One posterior for all examples",
        f"The KL is {kl.value:.3g} nats, but no latent dimension is active: the posterior means hardly differ between examples.",
        "q(z|x) has moved away from the prior without telling examples apart, as models do early in training; train longer, or "
        "weigh the KL less at first.",
        case.remedies(*reversed(case.more_training())),
    )


def _stretched(case: _Case) -> Iterator[Finding]:
    kl, dimensions = case.metrics.get("kl"), case.config.get("latent_dim")
    flat = case.config["architecture"]["kind"] == "models.flat"
    if kl is None or not isinstance(dimensions, int) or not flat or not kl.value > STRETCHED_NATS * dimensions:
        return
    weight = next((name for name in ("kld_weight", "beta") if isinstance(case.config.get(name), (int, float))), "")
    heavier = (f"{weight}={10 * case.config[weight]:g}",) if weight and case.weighs_kl else ()
    yield Finding(
        "warning",
        "Overstretched latent",
        f"The KL is {kl.value:.4g} nats, {kl.value / dimensions:.1f} for each of {dimensions} latent dimensions.",
        "The codes lie where the prior does not, so samples from it will be bad; weigh the KL more, or take more dimensions.",
        case.remedies(*heavier, f"latent_dim={4 * dimensions}"),
    )


def _unfinished(case: _Case) -> Iterator[Finding]:
    scores = [_score(case, row) for row in case.rows if _scored(row)]
    last = max(1, len(scores) // 5)
    if len(scores) < 5 or not all(row.get("kept") for row in case.rows[-last:]):
        return
    rise, whole = scores[-1] - scores[-1 - last], scores[-1] - scores[0]
    if not rise > max(0.0, STILL_RISING * whole):
        return
    yield Finding(
        "note",
        "Training not finished",
        f"The validation score rose by {rise:.3g} nats in the last {last} of {len(scores)} epochs, and each was the best so far.",
        "The reconstruction still falls; the model could be better.",
        case.remedies(f"training.epochs={2 * int(case.config['training']['epochs'])}"),
    )


def _score(case: _Case, row: Mapping[str, Any]) -> float:
    """What `recipe.validate` chooses by: with a `kld_weight` the loss, else the ELBO, or the reconstruction without one."""
    if case.config.get("kld_weight") is not None and "val/loss" in row:
        return -float(row["val/loss"])
    return float(row["val/elbo"] if "val/elbo" in row else -row["val/recon_loss"])


def _scored(row: Mapping[str, Any]) -> bool:
    return "val/elbo" in row or "val/recon_loss" in row


def _skipped(case: _Case) -> Iterator[Finding]:
    skipped = int(sum(row.get("train/skipped_steps", 0) for row in case.rows))
    if not skipped:
        return
    yield Finding(
        "warning",
        "Steps left out",
        f"{skipped:,} steps had a loss or a gradient that was not finite, and moved nothing.",
        "The weights or the data run into the limits of floating point; train.log names the term and the examples.",
        case.remedies("training.gradient_clip=1", f"optimizer.lr={case.config['optimizer']['lr'] / 10:g}"),
    )


def _beta(case: _Case) -> Iterator[Finding]:
    beta = case.value("effective_beta")
    if beta is None or not case.mean_reduction or 0.5 <= beta <= HEAVY_BETA:
        return
    yield Finding(
        "note",
        "Effective beta",
        f"reduction=mean makes the effective beta {beta:.4g}.",
        "Each term is divided by its own number of elements, which weighs a nat of KL that many times a nat of reconstruction.",
        case.remedies("objective.reduction.kind=objectives.SumReduction"),
    )


def _grey_bernoulli(case: _Case) -> Iterator[Finding]:
    if case.likelihood != "Bernoulli" or case.config["data"].get("binarisation") != "none":
        return
    yield Finding(
        "note",
        "Real-valued data under a Bernoulli likelihood",
        "data.binarisation=none: values between 0 and 1 are scored with the cross-entropy.",
        "That is a loss, not a density, so these numbers cannot be compared with those of binarised data, nor across data sets.",
        case.remedies("data.binarisation=dynamic", "likelihood=normal_optimal"),
    )


def _density_of_bits(case: _Case) -> Iterator[Finding]:
    if "kl" not in case.metrics:  # the loss of an autoencoder is no density to begin with
        return
    density = next((kind for kind in case.likelihoods if kind not in DISCRETE), None)
    if density is None or case.config["data"].get("binarisation") in (None, "none"):
        return
    remedies = ("likelihood=bernoulli", "data.binarisation=none")
    yield Finding(
        "warning",
        "A density on binary data",
        f"data.binarisation={case.config['data']['binarisation']}: every value is 0 or 1, and {density} is a density.",
        "A density at two points can be made as high as one likes, so these nats say nothing and cannot be compared.",
        case.remedies(*(remedies if density == case.likelihood else remedies[1:])),
    )


def _codebook(case: _Case) -> Iterator[Finding]:
    used, perplexity = case.value("codebook_used"), case.value("codebook_perplexity")
    if used is None or perplexity is None or used >= DEAD_SHARE:
        return
    yield Finding(
        "warning",
        "Codebook collapse",
        f"{used:.1%} of the codes are used, with a perplexity of {perplexity:.3g}: the model pays the rate of all of them.",
        "Most codes have never been the nearest to anything; train longer, so that dead ones are revived, or take fewer.",
        case.remedies(f"training.epochs={3 * int(case.config['training']['epochs'])}", "posterior.codebook.codes=64"),
    )


# likelihoods that are probabilities of discrete values, and no densities
DISCRETE = ("Bernoulli", "Categorical", "DiscretizedLogistic", "DiscretizedLogisticMixture")

RULES = (
    _collapse,
    _one_posterior,
    _stretched,
    _skipped,
    _codebook,
    _unfinished,
    _density_of_bits,
    _beta,
    _grey_bernoulli,
)


def _without_stale(command: str, override: str) -> str:
    """The command without what would fail or count for nothing beside the override."""
    group = override.partition("=")[0]
    stale = [f"{group}="] if "." in group else [f"{group}=", f"{group}."]
    stale += ["model.kld_weight="] if group == "kld_weight" else []
    if override == "likelihood=bernoulli":
        stale += ["sigma=", "--sigma", "--recon"]
    kept: list[str] = []
    words = iter(shlex.split(command))
    for word in words:
        if not (stale and word.startswith(tuple(stale))):
            kept.append(word)
        elif word.replace("_", "-") in ("--sigma", "--recon"):
            next(words, None)  # its value
    return shlex.join(kept)
