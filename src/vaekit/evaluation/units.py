"""A number with its error, and the change from nats to bits per dimension."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

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

    def as_dict(self) -> dict[str, float | str | int]:
        """For `metrics.json`."""
        return asdict(self)


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
