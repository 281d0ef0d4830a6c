"""What a protocol is: trainings, how they are measured, and what is said about the numbers."""

# N examples

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from vaekit.evaluation.units import Estimate, mean
from vaekit.reproduce.verdict import Rule, Verdict
from vaekit.runs import Run

Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """One training of a protocol: an ordinary run, which other protocols with the same overrides share.

    Attributes:
        name: In the protocol.
        overrides: As of `vaekit train`, the experiment first.
    """

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Quantity:
    """A number that was measured, and the numbers of the examples behind it.

    Attributes:
        estimate: The number.
        each: Of the examples, (N,), in one order for all arms of a protocol; None for what is no mean over examples.
    """

    estimate: Estimate
    each: Tensor | None = None


Measure = Callable[[Mapping[str, Run], Say], Mapping[str, Quantity]]


@dataclass(frozen=True)
class Check:
    """A row of the results.

    Attributes:
        label: What the row is.
        of: Name of the quantity.
        rule: What is said of it.
        less: Name of a quantity that is subtracted from it, example by example where both have them.
        published: The published number, where there is one; None for a check of what nobody published.
        source: Of that number.
    """

    label: str
    of: str
    rule: Rule
    less: str | None = None
    published: float | None = None
    source: str = ""

    def row(self, measured: Mapping[str, Quantity]) -> Row:
        """The row for what was measured."""
        names = [name for name in (self.of, self.less) if name is not None]
        found = measured[self.of].estimate if self.less is None else difference(measured[self.of], measured[self.less])
        verdict = self.rule.judge(found.value, found.standard_error)
        said = tuple(measured[name].estimate.estimator for name in names)
        return Row(self.label, found, self.published, self.source, self.rule.words, verdict, said)


@dataclass(frozen=True)
class Row:
    """What was found of a check.

    Attributes:
        label: What it is.
        ours: The number, with its error.
        published: The published number.
        source: Of that.
        rule: In words.
        verdict: By that rule.
        estimators: Of the numbers behind ours, in words.
    """

    label: str
    ours: Estimate
    published: float | None
    source: str
    rule: str
    verdict: Verdict
    estimators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A way to carry out a protocol: whole, or quick.

    Attributes:
        arms: The trainings.
        measure: From finished runs, by the names of the arms, to quantities.
        checks: The rows.
        time: How long it takes, in words.
        claim: What it can claim, in words.
    """

    arms: tuple[Arm, ...]
    measure: Measure
    checks: tuple[Check, ...]
    time: str
    claim: str


@dataclass(frozen=True)
class Protocol:
    """A published protocol.

    Attributes:
        name: Of the command and of the page.
        title: What it is, in a line.
        published: The published numbers, in words.
        source: The paper, with a link.
        quick: A variant for two cores and minutes.
        full: As published; None where the quick one is all there is to it.
        differs: In what ours differs from the publication.
    """

    name: str
    title: str
    published: str
    source: str
    quick: Variant
    full: Variant | None = None
    differs: tuple[str, ...] = field(default=())

    def variant(self, *, quick: bool) -> Variant:
        """The quick one, or the whole."""
        return self.quick if quick or self.full is None else self.full


def difference(of: Quantity, less: Quantity) -> Estimate:
    """The difference of two quantities: over the same examples a mean of differences, whose error is much the smaller.

    Without numbers of the examples, or with other ones, the errors add as those of independent numbers do.
    """
    a, b = of.estimate, less.estimate
    if of.each is not None and less.each is not None and len(of.each) == len(less.each):
        return mean(of.each.double() - less.each.double(), a.unit, "mean of the differences of the examples")
    error = math.hypot(a.standard_error, b.standard_error)
    return replace(a, value=a.value - b.value, standard_error=error, estimator="difference of independent numbers")


def arms(experiment: str, variations: Mapping[str, Sequence[str]]) -> tuple[Arm, ...]:
    """The trainings of one experiment that differ by a few overrides."""
    return tuple(Arm(name, (f"experiment={experiment}", *words)) for name, words in variations.items())
