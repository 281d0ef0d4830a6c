"""What `vaekit evaluate` measures of a run: the quick numbers, and the long ones, which are kept as they grow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vaekit import runs
from vaekit._version import __version__
from vaekit.data import Dataset, Split
from vaekit.errors import ConfigError
from vaekit.evaluation.aggregate import ACTIVE_VARIANCE
from vaekit.evaluation.annealed import ais_estimates, bidirectional_estimates
from vaekit.evaluation.each import Ledger, Tell
from vaekit.evaluation.evidence import DRAWS, evidence_estimates
from vaekit.evaluation.gaps import gap_estimates, overfitting_estimates
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.rate_split import rate_split_estimates
from vaekit.evaluation.spectrum import spectrum
from vaekit.evaluation.units import Estimate, bits_per_dimension
from vaekit.files import as_json, write_atomically
from vaekit.other_data import ALL, open_other
from vaekit.out_of_distribution import Told, must_be_alike, tell_apart
from vaekit.report import latent_spectrum
from vaekit.runs import Run

FOLDER = "evaluation"
# most examples that are simulated to see how far annealing can be trusted: one number about the model, at twice the price
SIMULATED = 100
# of a configuration: what makes a model out of weights
_MODEL = ("network", "posterior", "prior", "likelihood", "architecture")

Numbers = dict[str, Estimate]
# from the name of a measurement to who is told how far it is
Show = Callable[[str], Tell]


@dataclass(frozen=True)
class Subject:
    """A model and the examples that it is measured on.

    Attributes:
        run: Whose model; with the data in which the examples are.
        plan: How numbers are made.
        part: Of the data: train, validation, test, ood, or all.
        examples: Only the first so many of the part; None for all of it.
        given: What the user called the data, None for the run's own.
        node: How the data were read.
        fingerprint: Gives that of all of the data.
    """

    run: Run
    plan: Plan
    part: str
    examples: int | None
    given: str | None
    node: Mapping[str, Any]
    fingerprint: Callable[[], str]

    @property
    def split(self) -> Split:
        """The examples."""
        return self.run.dataset.split(self.held)

    @property
    def held(self) -> str:
        """As which part of the data of `run` the examples are held."""
        return "test" if self.part == ALL else self.part

    @property
    def own(self) -> bool:
        """Whether these are the run's own test examples, whose numbers are the run's."""
        return self.given is None and self.part == "test"

    @property
    def words(self) -> str:
        """Which examples, such as "1,000 test examples"."""
        of = "" if self.given is None else f" of {self.given}"
        first = "the first " if self.examples is not None else ""
        part = "" if self.part == ALL else f"{self.part} "
        return f"{first}{len(self.split):,} {part}examples{of}"

    @cached_property
    def _made_from(self) -> dict[str, Any]:
        made = json.dumps({name: self.run.config[name] for name in _MODEL}, sort_keys=True)
        return {
            "version": __version__,
            "weights": self.run.folder.model_fingerprint(),
            "model": hashlib.sha256(made.encode()).hexdigest(),
            "data": self.fingerprint(),
            "read": {name: value for name, value in self.node.items() if name != "path"},
            "part": self.part,
            "examples": self.examples,
            "seed": self.plan.seed,
            "precision": self.run.precision,
        }

    def keep(self, name: str, settings: Mapping[str, Any]) -> Ledger:
        """Where a measurement with these settings keeps what is done: told apart by all that its numbers depend on."""
        return Ledger(self.run.path / FOLDER, name, {**self._made_from, "settings": dict(settings)})

    def of(self, numbers: Mapping[str, Estimate]) -> Numbers:
        """The numbers, saying so where they are of a part of the examples."""
        if self.examples is None:
            return dict(numbers)
        said = self.words
        return {name: replace(number, estimator=f"{number.estimator}; {said}") for name, number in numbers.items()}


def open_subject(
    run: Run, plan: Plan | None = None, part: str | None = None, given: str | None = None, examples: int | None = None
) -> Subject:
    """The examples that a run is to be measured on.

    Arguments:
        run: Finished.
        plan: How; the run's own by default.
        part: train, validation, test, or ood where there is one; of other data also all. By default test, and all of a file.
        given: Other data: a name in the catalogue, or a file that is read with the settings of the run's own data.
        examples: Only the first so many.

    Raises:
        ConfigError: If the data do not fit the model, have no such part, or `examples` is not positive.
    """
    plan = run.plan if plan is None else plan
    if given is None:
        dataset, part, node = run.dataset, part or "test", run.config["data"]
        try:
            split = dataset.split(part)
        except ValueError as error:
            raise ConfigError(f"--{error}") from error
    else:
        other = open_other(run, given, part)
        dataset, part, node, split = other.dataset, other.part, other.node, other.split
    if examples is not None:
        if examples < 1:
            raise ConfigError(f"--examples is {examples}, expected 1 or more.")
        # as many as there are is no choice
        examples = examples if examples < len(split) else None
    fingerprint = _once(dataset)
    if examples is not None:
        split = split.part(torch.arange(examples, device=split.stored.device))
    return Subject(run.on(_holding(run, dataset, part, split)), plan, part, examples, given, node, fingerprint)


def _once(dataset: Dataset) -> Callable[[], str]:
    """The fingerprint of data, which are read only if it is asked for, and once."""
    found: list[str] = []

    def fingerprint() -> str:
        if not found:
            found.append(dataset.fingerprint())
        return found[0]

    return fingerprint


def _holding(run: Run, dataset: Dataset, part: str, split: Split) -> Dataset:
    if part != ALL:
        return replace(dataset, **{part: split})  # type: ignore[arg-type]
    # labels judge nothing where training examples are measured, too; but some models have to be told them
    return replace(dataset, test=split if run.model.conditional else replace(split, labels=None))


def quick(subject: Subject) -> Numbers:
    """Those of `runs.evaluate`: rate, distortion, ELBO, active units and what else takes a pass or two."""
    return subject.of(runs.evaluate(subject.run, subject.held, subject.plan))


def bounds(subject: Subject, draws: Sequence[int] = DRAWS, tell: Tell | None = None) -> Numbers:
    """`evidence_estimates`; of the largest K also bits per dimension, where nats are bits."""
    run = subject.run
    numbers = evidence_estimates(run.model, subject.split, subject.plan, draws=draws, keep=subject.keep, tell=tell)
    largest = f"iwae_{max(draws)}"
    if runs.has_bits(run):
        finest = numbers.get(largest.replace("iwae", "iwae_image"), numbers[largest])
        numbers[f"bits_per_dim_{largest}"] = bits_per_dimension(finest, run.model.event_shape.numel())
    return subject.of(numbers)


def annealed(subject: Subject, tell: Tell | None = None, **settings: Any) -> Numbers:
    """`ais_estimates`: log p(x) by annealing; settings are its chains, steps, leapfrog and start."""
    run = subject.run
    return subject.of(ais_estimates(run.model, subject.split, subject.plan, keep=subject.keep, tell=tell, **settings))


def bracketed(subject: Subject, tell: Tell | None = None, **settings: Any) -> Numbers:
    """`bidirectional_estimates` of as many simulated examples as the subject has, at most 100."""
    model, split = subject.run.model, subject.split
    few = split.part(torch.arange(min(len(split), SIMULATED), device=split.stored.device))
    return bidirectional_estimates(model, few, subject.plan, keep=subject.keep, tell=tell, **settings)


def rate_split(subject: Subject, tell: Tell | None = None) -> Numbers:
    """`rate_split_estimates`: what the rate is made of; of the run's own test split also each dimension, as file and figure."""
    run, split, plan = subject.run, subject.split, subject.plan
    numbers = rate_split_estimates(run.model, split, plan, keep=subject.keep, tell=tell)
    if subject.own and subject.examples is None:
        found = spectrum(run.model, split, plan, keep=subject.keep, tell=tell)
        write_atomically(run.path / "spectrum.json", (as_json(found.as_dict(), indent=2) + "\n").encode())
        kl = None if found.kl is None else found.kl.numpy()
        picture = run.folder.figures / "latent_spectrum.png"
        latent_spectrum(found.variance.numpy(), kl, found.names, picture, threshold=ACTIVE_VARIANCE)
    return subject.of(numbers)


def gaps(subject: Subject, tell: Tell | None = None) -> Numbers:
    """`gap_estimates`: why the ELBO is below log p(x)."""
    return subject.of(gap_estimates(subject.run.model, subject.split, subject.plan, keep=subject.keep, tell=tell))


def overfitting(subject: Subject, tell: Tell | None = None) -> Numbers:
    """`overfitting_estimates`: training examples against these; nothing where these are training examples, or other data."""
    if subject.given is not None or subject.part == "train":
        return {}
    # as they are, and not as they are augmented
    train = replace(subject.run.dataset.train, transforms=subject.split.transforms)
    model, split = subject.run.model, subject.split
    return subject.of(overfitting_estimates(model, split, subject.plan, train=train, keep=subject.keep, tell=tell))


def outside(subject: Subject, given: str) -> Split:
    """The data called `given`, from which the examples are to be told; no more than there are examples, where they are the first.

    Arguments:
        subject: Examples of the run's own data.
        given: A name in the catalogue, or a file; `ood` for the examples of the run's own data that were set aside.

    Raises:
        ConfigError: If the data do not fit the model or are of another kind, or the subject is no part of the run's own.
    """
    if subject.given is not None:
        raise ConfigError("--ood tells examples of the run's own data from others: leave out --data.")
    split = subject.run.dataset.ood if given == "ood" else None
    if split is None:
        if given == "ood" and not Path(given).exists():
            raise ConfigError(
                "--ood ood is for the examples that data.ood has set aside, and this run has none: name other data."
            )
        other = open_other(subject.run, given)
        must_be_alike(subject.run.dataset, other.dataset, given)
        split = other.split
    if subject.examples is None or subject.examples >= len(split):
        return split
    return split.part(torch.arange(subject.examples, device=split.stored.device))


def told_apart(
    subject: Subject, others: Split, given: str, background: Run | None = None, tell: Tell | None = None
) -> Told:
    """`tell_apart`: how well scores of the model tell the examples from others, which are called `given`."""
    run, plan = subject.run, subject.plan
    told = tell_apart(run, subject.split, others, given, plan, background=background, keep=subject.keep, tell=tell)
    return replace(told, metrics=subject.of(told.metrics))


def worth_keeping(subject: Subject, numbers: Mapping[str, Estimate]) -> Numbers:
    """Those that are to be the run's: of its own test examples, and where only some were measured, none that it has of more."""
    if not subject.own:
        return {}
    if subject.examples is None:
        return dict(numbers)
    before = subject.run.metrics
    # bounds are kept as one set
    more = max((number.n for name, number in before.items() if name.startswith("ess_")), default=0)
    return {
        name: number
        for name, number in numbers.items()
        if (more if runs.is_bound(name) else before[name].n if name in before else 0) <= number.n
    }
