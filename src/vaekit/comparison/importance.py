"""Which settings mattered: how much worse a forest predicts a number of the runs when it no longer knows a setting."""

# R runs, S settings

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# runs; a forest of fewer finds patterns in anything
LEAST = 8
_TREES, _SHUFFLES = 100, 30


@dataclass(frozen=True)
class Importance:
    """Of each setting, the most important as any.

    Attributes:
        names: Of the settings, S.
        values: Fall of the explained share of the variance when the setting is shuffled between runs, mean over shuffles.
        spread: Standard deviation over the shuffles.
        explained: Share of the variance that the forest explains of runs that it was not fitted to (out of bag); below 0 where it
            has learned nothing.
        runs: R.
    """

    names: tuple[str, ...]
    values: tuple[float, ...]
    spread: tuple[float, ...]
    explained: float
    runs: int


def importance(names: Sequence[str], settings: Sequence[Sequence[str]], scores: Sequence[float]) -> Importance | str:
    """How much each setting mattered for the scores.

    A random forest (100 trees) is fitted to the scores; a setting is as important as the explained share of the variance falls when
    its values are shuffled between runs (30 times). Numbers are taken by their order, so that their scale does not matter; words as
    one column each. It sees interactions, and says nothing on values that no run has. Settings that change only together, as
    `beta` and `kld_weight` do over one number of features, are one: "beta and kld_weight".

    Arguments:
        names: S.
        settings: R rows of S values, as text.
        scores: R; runs without one are left out.

    Returns:
        The importances, or why there are none, in a sentence.

    References:
        | Random Forests (Breiman, 2001), section 10, https://doi.org/10.1023/A:1010933404324
    """
    kept = [place for place, score in enumerate(scores) if math.isfinite(score)]
    if len(kept) < LEAST:
        return f"Which settings mattered is not asked of {len(kept)} runs; it takes {LEAST} or more."
    y = np.array([scores[place] for place in kept])
    names, settings = _told_apart(names, [settings[place] for place in kept])
    if len(names) < 2:
        return "Which settings mattered is not asked where the runs differ in one setting or none."
    if float(y.std()) == 0.0:
        return "No setting mattered: all runs have the same score."
    columns = [_encoded([row[column] for row in settings]) for column in range(len(names))]
    return _forest(tuple(names), columns, (y - y.mean()) / y.std())


def _told_apart(names: Sequence[str], settings: list[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Settings of which each says what the other is, as one: a forest would share what matters between them."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for column in range(len(names)):
        values = [row[column] for row in settings]
        groups.setdefault(tuple(map(values.index, values)), []).append(column)
    merged = [" and ".join(names[column] for column in group) for group in groups.values()]
    return merged, [[row[group[0]] for group in groups.values()] for row in settings]


def _forest(names: tuple[str, ...], columns: list[npt.NDArray[np.float64]], y: npt.NDArray[np.float64]) -> Importance:
    from sklearn.ensemble import RandomForestRegressor

    x = np.concatenate(columns, 1)
    forest = RandomForestRegressor(_TREES, oob_score=True, random_state=0).fit(x, y)
    whole = forest.score(x, y)
    rng = np.random.default_rng(0)
    shuffled = np.tile(x, (len(columns), _SHUFFLES, 1, 1))  # (S, shuffles, R, columns)
    end = 0
    for place, column in enumerate(columns):
        start, end = end, end + column.shape[1]
        for shuffle in range(_SHUFFLES):
            # all columns of a setting together: half a word would be no setting
            shuffled[place, shuffle, :, start:end] = column[rng.permutation(len(x))]
    # in one call, as most of the time of a small one is spent on being called
    predicted = forest.predict(shuffled.reshape(-1, x.shape[1])).reshape(len(columns), _SHUFFLES, len(x))
    explained = 1.0 - ((predicted - y) ** 2).mean(-1)  # the variance of y is 1
    values, spread = (whole - explained).mean(1).tolist(), explained.std(1, ddof=1).tolist()
    return Importance(names, tuple(values), tuple(spread), float(forest.oob_score_), len(y))


def _encoded(values: Sequence[str]) -> npt.NDArray[np.float64]:
    """Ranks of numbers, (R, 1); of words a column for each, (R, C)."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        words = np.array(values)
        columns: npt.NDArray[np.float64] = (words[:, None] == np.unique(words)[None, :]).astype(np.float64)
        return columns
    ranks: npt.NDArray[np.float64] = np.unique(numbers, return_inverse=True)[1].astype(np.float64)[:, None]
    return ranks
