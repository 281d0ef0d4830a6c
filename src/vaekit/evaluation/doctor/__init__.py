"""A diagnosis in words from a run's numbers, symptoms, configuration and history: what is wrong, why, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vaekit.evaluation.doctor import rules_latent, rules_length, rules_likelihood, rules_networks, rules_steps
from vaekit.evaluation.doctor.case import Case
from vaekit.evaluation.doctor.finding import SEVERITIES, Finding
from vaekit.evaluation.units import Estimate

__all__ = ["RULES", "Finding", "Rule", "checked", "diagnose", "examine"]


@dataclass(frozen=True)
class Rule:
    """A question, and what has to be known to ask it.

    Attributes:
        about: What it looks for, in the words of the line that lists what was checked.
        find: Gives its findings.
        asks: Names of metrics or symptoms without which it cannot say anything.
        history: Whether it reads the rows of the epochs.
    """

    about: str
    find: Callable[[Case], Iterator[Finding]]
    asks: tuple[str, ...] = ()
    history: bool = False

    def answers(self, case: Case) -> bool:
        """Whether what it asks is known."""
        return all(case.value(name) is not None for name in self.asks) and (not self.history or bool(case.rows))


# root causes before what follows from them: of two findings of one severity the first in this list is named first
RULES = (
    Rule("a training that broke off", rules_steps.broken_off),
    Rule("steps left out", rules_steps.skipped_steps, history=True),
    Rule("learning rate", rules_steps.lr_too_large, history=True),
    Rule("learning rate", rules_steps.lr_too_small, ("weight",), history=True),
    Rule("learning-rate schedule", rules_length.lr_gone, history=True),
    Rule("data far from zero", rules_networks.data_far_from_zero, ("data_spread",)),
    Rule("a likelihood that fits the data", rules_likelihood.density_on_binary, ("kl",)),
    Rule("a likelihood that fits the data", rules_likelihood.overdispersed, ("pearson",)),
    Rule("batch normalisation", rules_networks.batch_norm, ("running_cost",)),
    Rule("dropout", rules_networks.dropout, ("dropout_share",)),
    Rule("beta through reductions", rules_latent.mean_reduction, ("effective_beta",)),
    Rule("weight of the KL", rules_latent.kl_too_heavy, ("effective_beta", "kl")),
    Rule("KL warm-up", rules_length.schedule_unfinished, history=True),
    Rule("weight of the KL", rules_latent.kl_too_light, ("effective_beta", "kl")),
    Rule("sigma", rules_likelihood.sigma_too_large, ("residual",)),
    Rule("sigma", rules_likelihood.sigma_too_small, ("residual",)),
    Rule("dead units", rules_networks.dead_units),
    Rule("codebook", rules_networks.codebook_collapse, ("codes",)),
    Rule("grey values under a Bernoulli", rules_likelihood.grey_bernoulli),
    Rule("length of the training", rules_length.training_unfinished, history=True),
    Rule("a decoder that ignores z", rules_latent.decoder_ignores_z, ("swap_z", "kl")),
    Rule("overfitting", rules_length.overfitting, ("gap",), history=True),
    Rule("posterior collapse", rules_latent.posterior_collapse, ("kl",)),
    Rule("posterior collapse", rules_latent.one_posterior, ("kl", "active_units")),
    Rule("distance of the codes from the prior", rules_latent.overstretched, ("kl",)),
    Rule("distance of the codes from the prior", rules_latent.far_from_prior, ("prior_gap",)),
    Rule("unused dimensions", rules_latent.unused_dimensions, ("unused_dimensions",)),
)


def diagnose(
    metrics: Mapping[str, Estimate],
    config: Mapping[str, Any],
    command: str = "vaekit train",
    steps: int | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    symptoms: Mapping[str, Estimate] | None = None,
) -> list[Finding]:
    """All findings about a finished run: errors first, then warnings, then notes; root causes before their consequences.

    Arguments:
        metrics: Of an evaluation on held-out data.
        config: The run's resolved configuration.
        command: How the run was started; remedies are this command with something changed.
        steps: Of the whole training, if known: a warm-up has to end before it does.
        rows: Of its epochs, if known.
        symptoms: What `evaluation.symptoms` measured, if it was asked.
    """
    return examine(Case(metrics, config, command, rows, symptoms or {}, steps))


def examine(case: Case) -> list[Finding]:
    """All findings about a case."""
    # without a model there is one thing to say
    rules = RULES if case.state == "finished" else RULES[:1]
    found = [finding for rule in rules for finding in rule.find(case)]
    roots: list[Finding] = []
    for finding in found:
        # a cause stands before what follows from it, so two findings never explain each other away
        if not any(finding.name in root.explains for root in roots):
            roots.append(finding)
    said = [replace(root, severity=_gravest(root, found)) for root in roots]
    return sorted(said, key=lambda finding: SEVERITIES.index(finding.severity))


def _gravest(root: Finding, found: Sequence[Finding]) -> str:
    """A cause is as grave as the worst that follows from it."""
    follows = [other.severity for other in found if other.name in root.explains]
    return min([root.severity, *follows], key=SEVERITIES.index)


def checked(case: Case) -> list[str]:
    """What was looked for, in words: without what could not be, as a model without a codebook has no codes."""
    rules = RULES if case.state == "finished" else RULES[:1]
    return list(dict.fromkeys(rule.about for rule in rules if rule.answers(case)))
