"""A number with its error, and the change from nats to bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A number that was measured.

    Attributes:
        value: The number.
        standard_error: Its standard error over examples; 0 for a number that is known exactly.
        unit: nats, bits/dim, dimensions, or 1.
        n: Examples that it was measured on.
        estimator: How, in words.
    """

    value: float
    standard_error: float
    unit: str
    n: int
    estimator: str = ""

    def as_dict(self) -> dict[str, float | str | int | None]:
        """For `metrics.json`: a number that is not finite is null there, and the estimator says which it was."""
        given = asdict(self)
        for name in ("value", "standard_error"):
            given[name] = given[name] if math.isfinite(given[name]) else None
        if given["value"] is None:
            given["estimator"] = "; ".join(filter(None, (self.estimator, f"null as it was {self.value}")))
        return given

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Estimate:
        """What `as_dict` gave; a number that is null is nan.

        Raises:
            TypeError: If it is no estimate.
        """
        made = cls(**given)
        return replace(made, value=_number(given["value"]), standard_error=_number(given["standard_error"]))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def mean(values: Tensor, unit: str, estimator: str = "") -> Estimate:
    """The mean of one number per example, shape (n,), with standard error s / sqrt(n); nan for a single example."""
    n = len(values)
    values = values.double()
    error = float(values.std(correction=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(values.mean()), error, unit, n, estimator)


def bits_per_dimension(bound: Estimate, dimensions: int) -> Estimate:
    """A bound on the log-probability of an example, in nats, as the bits that each of its values costs: -nats / (D log 2)."""
    factor = 1.0 / (dimensions * math.log(2.0))
    return Estimate(-bound.value * factor, bound.standard_error * factor, "bits/dim", bound.n, bound.estimator)
