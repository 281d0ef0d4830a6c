"""Numbers about generated tables: are they like the real one, and does what is learned from them hold for it."""

# N rows, C columns, W values of an example, G groups, m and n examples of two classes

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.data.batch import Dataset, Split
from vaekit.data.columns import Category, Columns, Number
from vaekit.data.tables import columns_of
from vaekit.errors import ConfigError
from vaekit.evaluation.passes import Plan, batches, measuring
from vaekit.evaluation.pictures import noisy_samples
from vaekit.evaluation.units import Estimate
from vaekit.math.jackknife import jackknife_error, left_out
from vaekit.models.vae import VAE

Array = npt.NDArray[Any]
BINS = 20
_CHUNK = 1000  # rows drawn at a time
_GROUPS = 20  # of the jackknife
_MOST_ROWS = 50_000
_MOST_WIDE = 1000  # beyond that many values of an example their correlations are left out
_MOST_NATIVE = 255  # levels that the classifier takes as a category


def table_estimates(
    model: VAE, dataset: Dataset, split: str, plan: Plan, count: int | None = None
) -> dict[str, Estimate]:
    """All numbers about generated rows.

    Arguments:
        model: Trained on a table.
        dataset: The table, on the model's device.
        split: Its rows are those that generated ones are compared with, and that classifiers are tested on; of it and of the
            training rows at most 50,000 each, chosen at random.
        plan: Batch size and seed.
        count: Generated rows; by default as many as there are training rows, at most 50,000.

    Returns:
        `marginal_distance` and `correlation_distance`, each with `_of_real` for what training rows have in place of generated ones.
        With a target `tstr_accuracy` (trained on samples, tested on real rows), `trtr_accuracy` (trained on real rows),
        `majority_accuracy`, and for two classes `tstr_auc` and `trtr_auc`.

    Raises:
        ConfigError: If the data are no table, or there are too few rows.
    """
    columns = columns_of(dataset)
    if columns is None:
        raise ConfigError("Numbers about generated rows are for tables, such as data=adult.")
    data, training = (_at_most(part, plan.seed) for part in (dataset.split(split), dataset.train))
    count = min(len(dataset.train), _MOST_ROWS) if count is None else count
    if min(count, len(data), len(dataset.train)) < _GROUPS:
        raise ConfigError(
            f"--count is {count} and the {split} split has {len(data)} rows, expected {_GROUPS} or more of each."
        )
    real, train = dense(data, plan), dense(training, plan)
    fake = drawn_rows(model, dataset, count, plan.seed)
    # what is made is compared after its way back: whole numbers are whole, and categories are one of their levels
    made: Array = columns.encode(columns.generated(fake)).numpy()
    words = f"{count:,} generated rows against {len(real):,} real {split} rows"
    of_real = f"{len(train):,} training rows against {len(real):,} real {split} rows"
    found = dict[str, Estimate]()
    for name, distance, measure in _distances(columns, real):
        found[name] = compared(distance, real, made, plan.seed, f"{measure}; {words}")
        found[f"{name}_of_real"] = compared(distance, real, train, plan.seed, f"{measure}; {of_real}")
    return {**found, **_predictions(dataset.target, data, columns, (train, made, real), split)}


def drawn_rows(model: VAE, dataset: Dataset, count: int, seed: int) -> Array:
    """`count` rows drawn from the model, with the noise of p(x|z), (N, W). The k-th does not depend on how many are drawn.

    A conditional model is told the conditions of training rows chosen at random, so that these are as frequent as they are.
    """
    told = _conditions(dataset.train, count, seed) if model.conditional else None
    parts = [
        noisy_samples(
            model,
            min(_CHUNK, count - first),
            seed,
            None if told is None else told[first : first + _CHUNK],
            first=first,
        )
        for first in range(0, count, _CHUNK)
    ]
    return torch.cat(parts).numpy()


def _conditions(split: Split, count: int, seed: int) -> Tensor | None:
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return split.batch(chosen.to(split.stored.device)[torch.arange(count) % len(split)]).context


def _at_most(split: Split, seed: int) -> Split:
    """The split, or 50,000 of its rows chosen at random: enough for every number here, and no more memory."""
    if len(split) <= _MOST_ROWS:
        return split
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:_MOST_ROWS]
    return split.part(chosen.sort().values.to(split.stored.device))


def dense(split: Split, plan: Plan) -> Array:
    """The rows of a split as a model sees them, (N, W)."""
    return torch.cat([batch.x.cpu() for batch in batches(split, plan)]).numpy()


@dataclass(frozen=True)
class Marginal:
    """The values of one column in real and in generated rows.

    Attributes:
        name: Of the column.
        edges: Of the bins of a number, increasing, as in the table; empty for a category.
        levels: Names of the levels of a category, and of what is no number: missing.
        real: Shares of the bins and then of the levels among real rows.
        made: Likewise among generated rows.
        log: Whether the bins are even in log(1 + x).
    """

    name: str
    edges: Array
    levels: tuple[str, ...]
    real: Array
    made: Array
    log: bool = False


def marginals(columns: Columns, real: Array, made: Array, reference: Array | None = None) -> list[Marginal]:
    """The values of each column in real and in generated rows, (N, W) each, in bins of the reference or of the real."""
    # all of them on their steps, as float32 has moved real ones too
    before, after, wide = (
        {column.name: column.generated(numbers[column.name]) for column in columns.seen}
        for numbers in map(columns.numbers, (real, made, real if reference is None else reference))
    )
    found = []
    for column in columns.seen:
        x, y = before[column.name], after[column.name]
        edges, levels = bins(column, wide[column.name])
        found.append(
            Marginal(
                column.name,
                edges,
                levels,
                shares(column, x, edges),
                shares(column, y, edges),
                log=isinstance(column, Number) and column.log,
            )
        )
    return found


def bins(column: Number | Category, x: Array) -> tuple[Array, tuple[str, ...]]:
    """Edges of at most 20 bins of a number, even over all but the outermost hundredth of its values, and names of its levels.

    Where all values are multiples of a step, each bin holds equally many of these.
    """
    if isinstance(column, Category):
        return np.zeros(0), tuple("missing" if level is None else str(level) for level in column.levels)
    given = x[~np.isnan(x)]
    z = np.log1p(given) if column.log else given
    low, high = np.quantile(z, [0.005, 0.995])
    if low == high:
        low, high = z.min(), z.max()
    if low == high:
        high = low + 1.0
    edges = np.linspace(low, high, BINS + 1)
    if column.step is not None and not column.log:
        values = round((high - low) / column.step) + 1
        width = math.ceil(values / BINS)
        edges = low + column.step * (width * np.arange(math.ceil(values / width) + 1) - 0.5)
    return np.expm1(edges) if column.log else edges, ("missing",) if column.optional else ()


def shares(column: Number | Category, x: Array, edges: Array) -> Array:
    """Shares of the bins, the outermost of which reach to infinity, and of the levels, adding up to 1."""
    if isinstance(column, Category):
        return np.bincount(x.astype(np.int64), minlength=len(column.levels)) / len(x)
    missing = np.isnan(x)
    place = np.searchsorted(edges[1:-1], x[~missing], side="right")
    counts = np.bincount(place, minlength=len(edges) - 1)
    return np.append(counts, missing.sum())[: len(edges) - 1 + column.optional] / len(x)


def marginal_distance(columns: Columns, reference: Array) -> Callable[[Array, Array], float]:
    r"""The mean over columns of the total variation :math:`\frac12 \sum_b |p_b - q_b|` between two sets of rows, (N, W) each.

    From 0 to 1; numbers are put into at most 20 bins, which follow from the reference alone. Two samples of one table are not at
    0: each bin has the noise of its count.
    """

    def distance(real: Array, made: Array) -> float:
        return float(np.mean([0.5 * np.abs(m.real - m.made).sum() for m in marginals(columns, real, made, reference)]))

    return distance


def correlation_distance(columns: Columns) -> Callable[[Array, Array], float]:
    """The mean absolute difference of the correlations between values of different columns, of two sets of rows, (N, W) each.

    A level that no row has correlates with nothing.
    """
    owner = np.repeat(np.arange(len(columns.seen)), [len(column.labels) for column in columns.seen])
    between = owner[:, None] < owner

    def distance(real: Array, made: Array) -> float:
        return float(np.abs(_correlations(real) - _correlations(made))[between].mean())

    return distance


def compared(distance: Callable[[Array, Array], float], real: Array, made: Array, seed: int, words: str) -> Estimate:
    """A distance between two sets of rows, with the standard error of a jackknife that leaves out rows of both."""
    kept, held = (left_out(len(rows), _GROUPS, seed) for rows in (real, made))
    values = [distance(real[a.numpy()], made[b.numpy()]) for a, b in zip(kept, held, strict=True)]
    error = jackknife_error(torch.tensor(values, dtype=torch.float64))
    return Estimate(distance(real, made), error, "1", min(len(real), len(made)), words)


def features(columns: Columns, rows: Array, target: str) -> tuple[Array, Array, list[bool]]:
    """What a classifier sees of rows (N, W): the columns but the target, NaN where missing; the target; which are names."""
    numbers = columns.numbers(rows)
    others = [column for column in columns.seen if column.name != target]
    names = [isinstance(column, Category) and column.layout <= _MOST_NATIVE for column in others]
    return np.stack([numbers[column.name] for column in others], 1), numbers[target].astype(np.int64), names


def scores(
    columns: Columns, target: str, train: Array, test: Array, words: str, prefix: str, seed: int = 0
) -> dict[str, Estimate]:
    """Accuracy of gradient-boosted trees on real rows, and for two classes the area under their ROC curve.

    Standard errors are over the tested rows: binomial, and that of DeLong et al.; another training set is not in them.
    """
    x, y, names = features(columns, train, target)
    tested, truth, _ = features(columns, test, target)
    probabilities = _probabilities(x, y, tested, names, columns[target].layout, seed)
    hit = float((probabilities.argmax(1) == truth).mean())
    error = math.sqrt(hit * (1.0 - hit) / len(truth))
    found = {f"{prefix}_accuracy": Estimate(hit, error, "1", len(truth), f"gradient-boosted trees {words}")}
    if probabilities.shape[1] == 2 and 0 < truth.sum() < len(truth):
        area, error = roc_area(probabilities[truth == 1, 1], probabilities[truth == 0, 1])
        found[f"{prefix}_auc"] = Estimate(
            area, error, "1", len(truth), f"area under ROC, gradient-boosted trees {words}"
        )
    return found


def roc_area(positive: Array, negative: Array) -> tuple[float, float]:
    r"""The probability that a positive example is scored above a negative one, ties counting half, and its standard error.

    .. math:: \mathrm{Var} = S_{10} / m + S_{01} / n

    with the variances over positive examples of the share of negative ones below each, and the reverse.

    Arguments:
        positive: Scores, shape (m,).
        negative: Scores, shape (n,).

    References:
        | Comparing the areas under two or more correlated receiver operating characteristic curves: a nonparametric approach
        | (DeLong, DeLong and Clarke-Pearson, 1988), equations 5 and 6, https://doi.org/10.2307/2531595
    """

    def share_below(x: Array, y: Array) -> Array:
        y = np.sort(y)
        below: Array = 0.5 * (np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")) / len(y)
        return below

    above, below = share_below(positive, negative), share_below(negative, positive)
    if min(len(positive), len(negative)) < 2:
        return float(above.mean()), math.nan
    variance = above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)
    return float(above.mean()), math.sqrt(variance)


def agreement(columns: Columns, rows: Array, decoded: Array) -> list[tuple[str, float, bool]]:
    """How much of each column a reconstruction keeps: name, share of right levels or R squared of a number, whether a category."""
    before, after = columns.numbers(rows), columns.numbers(decoded)
    found = []
    for column in columns.seen:
        x, y = before[column.name], after[column.name]
        if isinstance(column, Category):
            found.append((column.name, float((x == y).mean()), True))
            continue
        there = ~np.isnan(x)
        x, y = (np.log1p(v[there]) if column.log else v[there] for v in (x, np.where(np.isnan(y), column.low, y)))
        spread = float(np.square(x - x.mean()).sum()) if len(x) else 0.0
        kept = 1.0 - float(np.square(x - y).sum()) / spread if spread > 0 else math.nan
        found.append((column.name, kept, False))
    return found


def reconstructed(model: VAE, split: Split, plan: Plan, most: int = 2000) -> tuple[Array, Array]:
    """The first rows of a split as a model sees them and their reconstructions, (N, W) each."""
    rows, decoded = list[Tensor](), list[Tensor]()
    with measuring(model):
        for batch in batches(split, plan):
            rows.append(batch.x.cpu())
            decoded.append(model.reconstruct(batch.x, batch.context).cpu())
            if sum(map(len, rows)) >= most:
                break
    return torch.cat(rows).numpy(), torch.cat(decoded).numpy()


def _distances(columns: Columns, reference: Array) -> list[tuple[str, Callable[[Array, Array], float], str]]:
    found = [
        ("marginal_distance", marginal_distance(columns, reference), "total variation of a column, mean over columns")
    ]
    if len(columns.labels) <= _MOST_WIDE and len(columns.seen) > 1:
        words = "absolute difference of correlations between columns, mean over pairs"
        found.append(("correlation_distance", correlation_distance(columns), words))
    return found


def _predictions(
    target: str | None, data: Split, columns: Columns, rows: tuple[Array, Array, Array], split: str
) -> Mapping[str, Estimate]:
    labels = data.labels
    if target is None or labels is None or len(columns.seen) < 2:
        return {}
    train, made, real = rows
    tested = f"predict {target}, tested on {len(real):,} real {split} rows"
    share = float(labels.bincount().max()) / len(real)
    error = math.sqrt(share * (1.0 - share) / len(real))
    most = Estimate(share, error, "1", len(real), f"share of the most frequent {target} among the {split} rows")
    return {
        **scores(columns, target, made, real, f"{tested}, trained on {len(made):,} generated rows", "tstr"),
        **scores(columns, target, train, real, f"{tested}, trained on {len(train):,} real training rows", "trtr"),
        "majority_accuracy": most,
    }


def _probabilities(x: Array, y: Array, tested: Array, names: list[bool], classes: int, seed: int) -> Array:
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to import

    probabilities = np.zeros((len(tested), classes))
    if len(set(y.tolist())) == 1:  # nothing to learn
        probabilities[:, y[0]] = 1.0
        return probabilities
    trees = HistGradientBoostingClassifier(categorical_features=names, random_state=seed, early_stopping=False)
    trees.fit(x, y)
    probabilities[:, trees.classes_] = trees.predict_proba(tested)
    return probabilities


def _correlations(rows: Array) -> Array:
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    norm = np.sqrt(np.square(centred).sum(0))
    unit = centred / np.where(norm > 0, norm, 1.0)
    product: Array = unit.T @ unit
    return product
