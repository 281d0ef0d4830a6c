"""How well scores tell one data set from another: areas under curves, each with its error; and all scores as a table."""

# N examples inside, M outside

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from vaekit.evaluation.units import Estimate
from vaekit.files import write_atomically
from vaekit.math.ranking import Counted, auroc, average_precision, counted, false_positive_rate, resampled, roc_curve

RESAMPLES = 200


@dataclass(frozen=True)
class Scores:
    """Scores of every example, larger where it is more out: float64 on the CPU, nan where it was not measured.

    Attributes:
        inside: By name of the score, shape (N,).
        outside: Likewise, shape (M,).
        words: How each was made.
        left_out: Why other scores were not.
    """

    inside: Mapping[str, Tensor]
    outside: Mapping[str, Tensor]
    words: Mapping[str, str]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        """A score of the examples that it was measured of, inside and outside."""
        inside, outside = self.inside[name], self.outside[name]
        return inside[~inside.isnan()], outside[~outside.isnan()]

    def curve(self, name: str) -> tuple[Tensor, Tensor]:
        """False and true positive rates of a score, where outside is positive."""
        return roc_curve(*self.of(name))


def ranked(scores: Scores, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """How well each score tells the outside from the inside: `ood_SCORE_auroc`, `_auprc` and `_fpr95`.

    Outside is positive. AUROC is the share of pairs in order. AUPRC is the average precision, whose value for a score that knows
    nothing is the base rate, the share of the outside among all examples. FPR95 is the share of the inside that is called out where
    at least 95 % of the outside is. A standard error of 0 says only that the sets are too small to show one; it is then 1 over the
    size of the smaller set.

    Arguments:
        scores: Of both sets.
        resamples: Of the bootstrap behind the standard errors of AUPRC and FPR95, with a fixed seed; that of AUROC is DeLong's.
    """
    found = {}
    for name in scores.inside:
        inside, outside = scores.of(name)
        n, m = len(inside), len(outside)
        told = f"{scores.words[name]}; out is positive: {n:,} in, {m:,} out, base rate {m / (n + m):.3g}"
        area, error = auroc(inside, outside)
        found[f"ood_{name}_auroc"] = Estimate(area, error, "1", n + m, f"{told}; standard error: DeLong")
        values = _precision_and_rate(counted(inside, outside))
        drawn = [_precision_and_rate(counts) for counts in resampled(inside, outside, resamples)]
        spread = torch.tensor(drawn, dtype=torch.float64).std(0).tolist()
        words = f"{told}; standard error: bootstrap, {resamples} resamples"
        for kind, value, deviation in zip(("auprc", "fpr95"), values, spread, strict=True):
            found[f"ood_{name}_{kind}"] = Estimate(value, deviation or 1.0 / min(n, m), "1", n + m, words)
    return found


def _precision_and_rate(counts: Counted) -> tuple[float, float]:
    return average_precision(counts), false_positive_rate(counts)


def write_scores(scores: Scores, path: Path) -> Path:
    """Write all scores as CSV, to the last digit: a line for each example with its set (in or out) and its position in it.

    A score that was not measured of an example is an empty cell.
    """
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["set", "index", *scores.inside])
    for called, side in (("in", scores.inside), ("out", scores.outside)):
        for index, values in enumerate(zip(*(column.tolist() for column in side.values()), strict=True)):
            # nan is the one number that is not equal to itself
            table.writerow([called, index, *("" if value != value else repr(value) for value in values)])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, file.getvalue().encode())
    return path
