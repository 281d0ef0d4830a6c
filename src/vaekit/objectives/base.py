"""The objective: a weighted sum of named terms, each in nats per example."""

# B batch

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor, nn

from vaekit.models.trace import Trace
from vaekit.schedules import Annealed, Schedule, annealed


class Role(StrEnum):
    """What the nats of a term are, for whoever adds them up."""

    DISTORTION = "distortion"  # -E log p(x|z)
    RATE = "rate"  # KL(q(z|x) || p(z))
    BOUND = "bound"  # minus a bound on log p(x), as one term
    PENALTY = "penalty"  # on codes or weights, in place of a prior: holds no density to anything
    OTHER = "other"


class Term(nn.Module, ABC):
    """A function of a trace, in nats per example: summed over event dimensions, and to be minimised.

    Attributes:
        role: What its nats are.
    """

    role: Role = Role.OTHER

    @abstractmethod
    def forward(self, trace: Trace) -> Tensor:
        """What is minimised: nats, shape (B,), or () for a term that is about the batch as a whole."""

    def nats(self, trace: Trace) -> Tensor:
        """What is measured and logged. Another number than what is minimised only for wrappers, which give that of their term."""
        value: Tensor = self(trace)
        return value

    def elements(self, trace: Trace) -> int:
        """How many numbers of one example the term sums over."""
        return 1

    def check(self, trace: Trace) -> None:
        """Raise ValueError if this term cannot be had of such traces: asked before a training, with one of an example."""


class Reduction(Protocol):
    """What a term is divided by before it is weighted."""

    def __call__(self, term: Term, trace: Trace) -> int:
        """The divisor."""


class SumReduction:
    """Terms as they are: nats per example. The one under which the loss is the negative ELBO."""

    def __call__(self, term: Term, trace: Trace) -> int:
        """1."""
        return 1


class MeanReduction:
    """Each term divided by its own number of elements, as many scripts do.

    This trades reconstruction against KL: the effective beta is beta * (values of one example) / (latent dimensions).
    `effective_beta` computes it.
    """

    def __call__(self, term: Term, trace: Trace) -> int:
        """The number of elements that the term sums over."""
        return term.elements(trace)


@dataclass(frozen=True)
class Loss:
    """What an objective says of a batch.

    Attributes:
        total: What is minimised, shape ().
        parts: Each term in nats per example as it was measured, before wrappers, reduction and weight, shape ().
        coefficients: What each term is multiplied by in the total.
        roles: What each part is.
    """

    total: Tensor
    parts: Mapping[str, Tensor]
    coefficients: Mapping[str, Tensor]
    roles: Mapping[str, Role] = field(default_factory=dict)


class Objective(nn.Module):
    r"""A weighted sum of terms, :math:`\sum_i w_i \, \ell_i / d_i`, averaged over the batch once and here.

    Arguments:
        terms: By name.
        weights: By the same names; a number or a schedule, 1 for a term without one.
        reduction: Gives the divisors :math:`d_i`.

    Raises:
        ValueError: If a weight has no term, or there is no term.
    """

    def __init__(
        self,
        terms: Mapping[str, Term],
        weights: Mapping[str, float | Schedule] | None = None,
        reduction: Reduction | None = None,
    ) -> None:
        super().__init__()
        weights = dict(weights or {})
        strangers = sorted(set(weights) - set(terms))
        if not terms or strangers:
            raise ValueError(f"weights name {strangers}, expected names among the terms {sorted(terms)}.")
        self.terms = nn.ModuleDict(dict(terms))
        self.weights = nn.ModuleDict({name: annealed(weights.get(name, 1.0)) for name in terms})
        negative = [name for name in terms if float(self._weight(name)()) < 0.0]
        if negative:
            raise ValueError(
                f"The weight of {negative[0]!r} begins below 0, which would reward what it measures; write 0 or more."
            )
        self.reduction = SumReduction() if reduction is None else reduction

    def forward(self, trace: Trace) -> Loss:
        """The loss of a traced batch."""
        values = {name: term(trace) for name, term in self.named_terms().items()}
        coefficients = self.coefficients(trace)
        total = torch.stack([coefficients[name] * value.mean() for name, value in values.items()]).sum()
        parts = {
            name: values[name].mean() if _is_plain(term) else term.nats(trace).detach().mean()
            for name, term in self.named_terms().items()
        }
        return Loss(total, parts, coefficients, self.roles)

    def named_terms(self) -> dict[str, Term]:
        """The terms by name."""
        return {name: term for name, term in self.terms.items() if isinstance(term, Term)}

    @property
    def roles(self) -> dict[str, Role]:
        """What the nats of each term are."""
        return {name: term.role for name, term in self.named_terms().items()}

    def having(self, role: Role) -> list[str]:
        """Names of the terms with this role."""
        return [name for name, own in self.roles.items() if own is role]

    @property
    def plain(self) -> bool:
        """Whether the total is just the weighted sum of what is measured: no term minimises something else than its nats."""
        return all(_is_plain(term) for term in self.named_terms().values())

    def coefficients(self, trace: Trace) -> dict[str, Tensor]:
        """Weight over divisor of each term, at the present step."""
        return {name: self._weight(name)() / self._divisor(name, trace) for name in self.terms}

    def _weight(self, name: str) -> Annealed:
        weight = self.weights[name]
        assert isinstance(weight, Annealed)
        return weight

    def _divisor(self, name: str, trace: Trace) -> int:
        term = self.terms[name]
        assert isinstance(term, Term)
        return self.reduction(term, trace)


def _is_plain(term: Term) -> bool:
    return type(term).nats is Term.nats
