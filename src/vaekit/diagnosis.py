"""The doctor at a run folder: measures what the rules ask, says what they find, and compares a run with the one that mends it."""

# N examples

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vaekit.errors import RunError
from vaekit.evaluation.doctor import Finding, checked
from vaekit.evaluation.doctor import examine as apply_rules
from vaekit.evaluation.doctor.case import Case
from vaekit.evaluation.rate_distortion import bound_terms
from vaekit.evaluation.symptoms import symptoms
from vaekit.evaluation.symptoms.broken import data_only
from vaekit.evaluation.units import Estimate, mean
from vaekit.runs import Run, evaluate

# what a table of before and after shows, where both runs have it
_SHOWN = ("elbo", "reconstruction", "kl", "active_units", "sigma", "codebook_used", "effective_beta")
# what can be taken from one another example by example
_PAIRED = ("elbo", "reconstruction", "kl")


@dataclass(frozen=True)
class Examination:
    """What the doctor says of a run.

    Attributes:
        run: The run.
        split: Of the held-out examples.
        case: All that the rules have seen.
        findings: The gravest first.
        checked: What was looked for.
    """

    run: Run
    split: str
    case: Case
    findings: list[Finding]
    checked: list[str]

    @property
    def healthy(self) -> bool:
        """Whether there is nothing but notes."""
        return not any(finding.serious for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "run": str(self.run.path),
            "split": self.split,
            "healthy": self.healthy,
            "findings": [finding.as_dict() for finding in self.findings],
            "checked": self.checked,
            "symptoms": {name: entry.as_dict() for name, entry in self.case.symptoms.items()},
        }


def examine(run: Run, split: str = "test") -> Examination:
    """Look at a run, whether its training has finished or not.

    On the test split the numbers of its last evaluation are taken as they are, and the symptoms that were measured are put into the
    run folder, for its report.

    Arguments:
        run: Not in training.
        split: Held-out examples: test or validation.

    Raises:
        RunError: If a process is training in its folder, or its files are damaged.
    """
    rows = run.history
    state = _state(run)
    metrics: dict[str, Estimate] = {}
    if state == "finished":
        metrics = _metrics(run, split)
        batch_size = int(run.config["training"]["batch_size"])
        found = symptoms(run.model, run.dataset, split, run.plan, batch_size)
        if split == "test":
            _keep(run, found)
    else:
        found = data_only(run.dataset, run.plan)
    steps = int(rows[-1]["step"]) if rows else None
    case = Case(metrics, run.config, run.command, rows, found, steps, state, shlex.quote(str(run.path)))
    return Examination(run, split, case, apply_rules(case), checked(case))


@dataclass(frozen=True)
class Change:
    """A number before and after.

    Attributes:
        name: Of the metric.
        before: In the run that was examined; None where it has none.
        after: In the run that was to mend it.
        difference: After minus before on the same examples, where that has a meaning.
    """

    name: str
    before: Estimate | None
    after: Estimate | None
    difference: Estimate | None = None


@dataclass(frozen=True)
class Treatment:
    """What a remedy has done.

    Attributes:
        command: Of the remedy.
        before: The examination that it came from.
        after: That of the new run.
        changes: Numbers of both.
        verdict: In a sentence.
    """

    command: str
    before: Examination
    after: Examination
    changes: list[Change]
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "command": self.command,
            "verdict": self.verdict,
            "after": self.after.as_dict(),
            "changes": [
                {"name": change.name, **{side: _plain(getattr(change, side)) for side in ("before", "after", "difference")}}
                for change in self.changes
            ],
        }  # fmt: skip


def treated(command: str, before: Examination, new: Run) -> Treatment:
    """Compare a run with the one that a remedy has made.

    Arguments:
        command: The remedy.
        before: The examination that it came from.
        new: The run that it has made, finished.
    """
    after = examine(new, before.split)
    why = _apart(before, after)
    paired = {} if why else _paired(before, after)
    names = [name for name in _SHOWN if name in before.case.metrics or name in after.case.metrics]
    changes = [
        Change(name, before.case.metrics.get(name), after.case.metrics.get(name), paired.get(name)) for name in names
    ]
    return Treatment(command, before, after, changes, _verdict(before, after, paired.get("elbo"), why))


def _state(run: Run) -> str:
    if (run.path / "model.safetensors").exists():
        return "finished"
    with run.folder.alone():  # raises where a process is at it
        pass
    log = run.path / "train.log"
    last = log.read_text("utf-8", "replace").strip().rpartition("\n")[2] if log.exists() else ""
    return (
        "broken"
        if any(words in last for words in ("had to be left out", "finite", " is nan", " is inf"))
        else "stopped"
    )


def _metrics(run: Run, split: str) -> dict[str, Estimate]:
    known = run.metrics
    if split == "test" and known:
        return known
    # what is no number of the examples, such as the effective beta, holds for any split
    return {**{name: entry for name, entry in known.items() if entry.n == 0}, **evaluate(run, split)}


def _keep(run: Run, found: dict[str, Estimate]) -> None:
    try:
        run.folder.write_symptoms({name: entry.as_dict() for name, entry in found.items()})
    except OSError:
        return  # somebody else's folder: it is measured anew the next time


def _apart(before: Examination, after: Examination) -> str:
    """Why the numbers of two runs cannot be compared; empty where they can."""
    if not before.case.metrics:
        return "the first run has no numbers"
    first, second = before.run, after.run
    if first.dataset.fingerprint() != second.dataset.fingerprint() or first.config["data"] != second.config["data"]:
        return "the data are not the same"
    if not first.model.bounded or not second.model.bounded:
        return "a model without a density q(z|x) has no ELBO"
    if first.model.likelihood.discrete != second.model.likelihood.discrete:
        return "one likelihood is a probability and the other a density"
    return ""


def _paired(before: Examination, after: Examination) -> dict[str, Estimate]:
    plan, split = before.run.plan, before.split
    first = bound_terms(before.run.model, before.run.dataset.split(split), plan)
    second = bound_terms(after.run.model, after.run.dataset.split(split), plan)

    def difference(new: Tensor, old: Tensor) -> Estimate:
        return mean(new - old, "nats", f"after minus before, paired over {len(old):,} {split} examples")

    return {
        "elbo": difference(-(second.distortion + second.rate), -(first.distortion + first.rate)),
        "reconstruction": difference(second.distortion, first.distortion),
        "kl": difference(second.rate, first.rate),
    }


def _verdict(before: Examination, after: Examination, elbo: Estimate | None, why: str) -> str:
    root = next((finding for finding in before.findings if finding.serious and finding.remedies), before.findings[0])
    still = any(finding.name == root.name for finding in after.findings)
    fate = f"{root.title}: {'still found' if still else 'not found any more'}."
    if elbo is None:
        return f"{fate} The bounds cannot be compared, as {why}."
    size = f"{abs(elbo.value):.4g} ± {elbo.standard_error:.2g} nats, paired over {elbo.n:,} {before.split} examples"
    if abs(elbo.value) <= 2.0 * elbo.standard_error:
        return f"{fate} The ELBO is no different within its error: {elbo.value:+.3g} ± {elbo.standard_error:.2g} nats."
    return f"{fate} The ELBO is {'better' if elbo.value > 0 else 'worse'} by {size}."


def _plain(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.as_dict()


def first_remedy(examination: Examination) -> tuple[Finding, str]:
    """The finding that comes first, and the first of its remedies.

    Raises:
        RunError: If there is none.
    """
    for finding in examination.findings:
        if finding.serious and finding.remedies:
            return finding, finding.remedies[0]
    raise RunError(f"{examination.run.path}: no finding has a remedy that could be started.")
