"""How well a score tells two sets apart: areas under curves and error rates, with ties as they are and standard errors."""

# m scores of negatives, n scores of positives, T different scores

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Counted:
    """Both sets by their different scores, the largest first.

    Attributes:
        negatives: How many negatives have each score, float64, shape (T,).
        positives: How many positives have it, float64, shape (T,).
    """

    negatives: Tensor
    positives: Tensor

    @property
    def rates(self) -> tuple[Tensor, Tensor]:
        """False and true positive rates where a score of at least each threshold is called positive, shape (T,) each."""
        return self.negatives.cumsum(0) / self.negatives.sum(), self.positives.cumsum(0) / self.positives.sum()


def counted(negatives: Tensor, positives: Tensor) -> Counted:
    """Count both sets.

    Arguments:
        negatives: Scores, shape (m,); infinite ones are the largest, or smallest, of all.
        positives: Scores, shape (n,).

    Raises:
        ValueError: If a set is empty, or a score is not a number.
    """
    place, size = _places(negatives, positives)
    m = len(negatives)
    return Counted(_count(place[:m], size), _count(place[m:], size))


def roc_curve(negatives: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1): each (T + 1,). Ties are one slanted step."""
    false, true = counted(negatives, positives).rates
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero, false]), torch.cat([zero, true])


def auroc(negatives: Tensor, positives: Tensor) -> tuple[float, float]:
    r"""Area under the ROC curve and its standard error.

    .. math:: \hat\theta = \frac{1}{m n} \sum_{i, j} \psi(x_i, y_j), \qquad
        \psi(x, y) = [y > x] + \tfrac12 [y = x], \qquad
        \widehat{\mathrm{Var}} = \frac{s^2_{10}}{n} + \frac{s^2_{01}}{m}

    with negatives x, positives y, and the sample variances of :math:`\frac1m \sum_i \psi(x_i, y_j)` over j and of
    :math:`\frac1n \sum_j \psi(x_i, y_j)` over i. Where both variances are 0, as where every pair is in order, they say nothing: the
    error is then 1 over the size of the smaller set.

    Arguments:
        negatives: Shape (m,).
        positives: Shape (n,).

    Returns:
        The area, 1 where every positive scores higher and 1/2 where the score knows nothing; and its standard error, nan for a
        set of one.

    References:
        | Comparing the Areas under Two or More Correlated Receiver Operating Characteristic Curves (DeLong, DeLong and
          Clarke-Pearson, 1988), equations 2 to 6, https://doi.org/10.2307/2531595
    """
    counts, (place, _) = counted(negatives, positives), _places(negatives, positives)
    m, n = len(negatives), len(positives)
    # shares of the other set that lie below each different score, ties by half
    below = 1.0 - (counts.negatives.cumsum(0) - 0.5 * counts.negatives) / m
    above = (counts.positives.cumsum(0) - 0.5 * counts.positives) / n
    of_positives, of_negatives = below[place[m:]], above[place[:m]]
    value = float(of_positives.mean())
    if min(m, n) < 2:
        return value, math.nan
    error = math.sqrt(float(of_positives.var(correction=1)) / n + float(of_negatives.var(correction=1)) / m)
    return value, error or 1.0 / min(m, n)


def average_precision(counts: Counted) -> float:
    r"""Area under the precision-recall curve, without interpolation: :math:`\sum_t (R_t - R_{t-1}) P_t`.

    Its value for a score that knows nothing is the share of positives, n / (m + n).

    References:
        | The Relationship Between Precision-Recall and ROC Curves (Davis and Goadrich, 2006), section 4, on why it is not
          interpolated linearly, https://doi.org/10.1145/1143844.1143874
    """
    true, false = counts.positives.cumsum(0), counts.negatives.cumsum(0)
    precision = true / (true + false).clamp_min(1.0)  # a score that a resample has not got counts 0 in both
    return float((counts.positives / counts.positives.sum() * precision).sum())


def false_positive_rate(counts: Counted, recall: float = 0.95) -> float:
    """Share of the negatives that are called positive at the largest threshold that finds at least `recall` of the positives.

    Positives with a tied score are found together, so that more of them may be found than were asked for.

    Arguments:
        counts: Of both sets.
        recall: In (0, 1].
    """
    false, true = counts.rates
    # rates are quotients of whole numbers: 19 / 20 may lie a rounding below 0.95
    return float(false[int((true >= recall - 1e-12).int().argmax())])


def resampled(negatives: Tensor, positives: Tensor, resamples: int = 200, seed: int = 0) -> Iterator[Counted]:
    """Both sets drawn anew with replacement, each from its own examples and of its own size, R times.

    References:
        | An Introduction to the Bootstrap (Efron and Tibshirani, 1993), section 8.3, for two samples
    """
    place, size = _places(negatives, positives)
    parts = place[: len(negatives)], place[len(negatives) :]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(resamples):
        drawn = (part[torch.randint(len(part), part.shape, generator=generator)] for part in parts)
        yield Counted(*(_count(places, size) for places in drawn))


def _places(negatives: Tensor, positives: Tensor) -> tuple[Tensor, int]:
    """Of every score, negatives first, its place among the different ones, the largest at 0; and how many these are."""
    scores = torch.cat([negatives.flatten(), positives.flatten()]).double().cpu()
    if not len(negatives) or not len(positives):
        raise ValueError(f"{len(negatives)} scores are to be told from {len(positives)}; expected one or more of each.")
    if bool(scores.isnan().any()):
        raise ValueError("A score is not a number, so that it cannot be ordered.")
    different, place = torch.unique(scores, return_inverse=True)
    return len(different) - 1 - place, len(different)


def _count(place: Tensor, size: int) -> Tensor:
    return torch.bincount(place, minlength=size).double()
