"""Highly variable features: those whose variance says more than their mean."""

# N cells, F features

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.data.matrix import blocks

Array = npt.NDArray[np.float64]

_SPAN, _VERTICES = 0.3, 100


def highly_variable(matrix: Any, count: int) -> npt.NDArray[np.int64]:
    """Positions, in their order, of the `count` features with the largest standardised variance.

    Arguments:
        matrix: Counts of the training cells, scipy's compressed rows (N, F).
        count: From 1 to F.
    """
    # of equal variances the first: the choice depends on the counts only
    best = np.argsort(-standardised_variance(matrix), kind="stable")[:count]
    return np.sort(best)


def standardised_variance(matrix: Any) -> Array:
    r"""Variance of each feature over the cells, after the counts were standardised by what their mean predicts, shape (F,).

    .. math:: z_{nf} = \min\left( \frac{x_{nf} - \bar x_f}{\sigma_f}, \sqrt N \right), \qquad
        v_f = \frac{1}{N - 1} \sum_n z_{nf}^2

    where :math:`\log_{10} \sigma_f^2` is a local quadratic regression (loess, span 0.3) of the logarithm of the variance on that of
    the mean. Features that do not vary have 0. Nothing dense of the size of the matrix is made.

    References:
        | Comprehensive Integration of Single-Cell Data (Stuart, Butler et al., 2019), "Feature selection for individual datasets"
        | https://doi.org/10.1016/j.cell.2019.05.031
    """
    n, width = matrix.shape
    mean = _summed(matrix, lambda values, columns: np.bincount(columns, values, minlength=width)) / n
    variance = _squares(matrix, mean, np.full(width, np.inf)) / max(n - 1, 1)
    varies = variance > 0
    if not varies.any():
        return np.zeros(width)
    deviation = np.zeros(width)
    deviation[varies] = np.sqrt(10 ** loess(np.log10(mean[varies]), np.log10(variance[varies])))
    # a count of 0 lies below its mean and is never clipped
    result = np.zeros(width)
    squares = _squares(matrix, mean, mean + deviation * np.sqrt(n))
    result[varies] = (squares / max(n - 1, 1))[varies] / deviation[varies] ** 2
    return result


def _summed(matrix: Any, of: Callable[[Array, npt.NDArray[Any]], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """What `of` makes of values (float64) and their columns, added up over the pieces of the matrix."""
    total = of(np.zeros(0), np.zeros(0, np.int64))
    for part in blocks(matrix):
        total = total + of(part.data.astype(np.float64), part.indices)
    return total


def _squares(matrix: Any, mean: Array, most: Array) -> Array:
    """Sum over all cells of the squared distance from the mean, values held below `most`, zeros included, shape (F,)."""
    n, width = matrix.shape

    def squares(values: Array, columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
        distance = np.minimum(values, most[columns]) - mean[columns]
        there = np.bincount(columns, minlength=width)
        return np.stack([np.bincount(columns, distance**2, minlength=width), there])

    total, there = _summed(matrix, squares)
    return np.asarray(total + (n - there) * mean**2)


def loess(x: Array, y: Array, span: float = _SPAN) -> Array:
    """Local quadratic regression of y on x, shape (n,): weights tricube in the distance, reaching as far as `span` of the points.

    As in the original, it is computed at vertices and joined by cubics that have the value and the slope there. The vertices are
    more, a hundred over the points and a hundred over their range, so that the cubics are as good as the regression itself.

    References:
        | Regression by Local Fitting (Cleveland, Devlin and Grosse, 1988), https://doi.org/10.1016/0304-4076(88)90077-2
        | Computational Methods for Local Regression (Cleveland and Grosse, 1991), https://doi.org/10.1007/BF01890836
    """
    order = np.argsort(x, kind="stable")
    sorted_x, sorted_y = x[order], y[order]
    vertices = np.unique(
        [*np.quantile(sorted_x, np.linspace(0, 1, _VERTICES)), *np.linspace(sorted_x[0], sorted_x[-1], _VERTICES)]
    )
    reach = min(len(x), max(int(span * len(x)), 4))
    fits = np.array([_local(sorted_x, sorted_y, vertex, reach) for vertex in vertices])
    return _hermite(x, vertices, fits[:, 0], fits[:, 1])


def _local(x: Array, y: Array, vertex: float, reach: int) -> tuple[float, float]:
    """Value and slope at `vertex` of the quadratic fitted to the `reach` nearest points; x rises."""
    near = np.argpartition(np.abs(x - vertex), reach - 1)[:reach]
    u = x[near] - vertex
    width = np.abs(u).max() or 1.0
    u = u / width
    root = np.sqrt(np.clip(1 - np.abs(u) ** 3, 0, None) ** 3)
    # lstsq takes the smallest solution where points coincide and do not say what the curvature is
    solution = np.linalg.lstsq(np.stack([root, root * u, root * u**2], axis=1), root * y[near], rcond=None)[0]
    return float(solution[0]), float(solution[1] / width)


def _hermite(x: Array, vertices: Array, values: Array, slopes: Array) -> Array:
    if len(vertices) == 1:
        return np.full(len(x), values[0])
    left = np.clip(np.searchsorted(vertices, x, side="right") - 1, 0, len(vertices) - 2)
    width = vertices[left + 1] - vertices[left]
    t = (x - vertices[left]) / width
    rest = 1 - t
    ends = (1 + 2 * t) * rest**2 * values[left] + t**2 * (3 - 2 * t) * values[left + 1]
    return np.asarray(ends + width * t * rest * (rest * slopes[left] - t * slopes[left + 1]))
