"""Do two sets of points cover each other: precision, recall, density and coverage from balls around nearest neighbours."""

# N real points, M generated points, D dimensions

from __future__ import annotations

import torch
from torch import Tensor

# rows of a matrix of distances at a time: bounds memory, not the result
_ROWS = 1024


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances between the rows of two sets.

    Computed in float64, where the difference of large squares keeps its digits, and kept in float32: rounding keeps their order.

    Arguments:
        a: Shape (N, D).
        b: Shape (M, D).

    Returns:
        float32, shape (N, M).
    """
    b = b.double()
    size = b.square().sum(1)
    parts = []
    for rows in torch.split(a, _ROWS):
        rows = rows.double()
        parts.append((rows.square().sum(1, keepdim=True) + size - 2.0 * rows @ b.T).clamp_min(0.0).float())
    return torch.cat(parts)


def radii(squared: Tensor, k: int) -> Tensor:
    """Squared distance of each point to its k-th nearest other point.

    Arguments:
        squared: Squared distances within one set, shape (N, N).
        k: From 1 to N - 1.

    Returns:
        Shape (N,).

    Raises:
        ValueError: If there are not more than k points.
    """
    n = len(squared)
    if not 1 <= k < n:
        raise ValueError(f"{n} points have no {k}-th nearest other point; give at least {max(k, 1) + 1} points.")
    parts = []
    for first in range(0, n, _ROWS):
        rows = squared[first : first + _ROWS].clone()
        local = torch.arange(len(rows), device=rows.device)
        rows[local, local + first] = torch.inf  # a point is no neighbour of its own, but a duplicate of it is
        parts.append(rows.kthvalue(k, dim=1).values)
    return torch.cat(parts)


def precision_recall(real: Tensor, fake: Tensor, cross: Tensor, k: int = 3) -> tuple[float, float]:
    r"""Shares of points within the other set's manifold, a union of balls that reach to the k-th nearest neighbour.

    .. math::
        \text{precision} = \tfrac1M \sum_j 1[\exists i: |y_j - x_i| \le r_k(x_i)], \qquad
        \text{recall} = \tfrac1N \sum_i 1[\exists j: |x_i - y_j| \le r_k(y_j)]

    Precision says how many generated points :math:`y` look real; recall how many real points :math:`x` the generator reaches.

    Arguments:
        real: Squared distances within the real points, shape (N, N).
        fake: Squared distances within the generated points, shape (M, M).
        cross: Squared distances from real (rows) to generated points, shape (N, M).
        k: 3 in the paper.

    Returns:
        Precision and recall, each in [0, 1].

    References:
        | Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019), equations 1 and 2
        | https://arxiv.org/abs/1904.06991
    """
    precision = (cross <= radii(real, k)[:, None]).any(0)
    recall = (cross <= radii(fake, k)[None, :]).any(1)
    return _share(precision), _share(recall)


def density_coverage(real: Tensor, cross: Tensor, k: int = 5) -> tuple[float, float]:
    r"""How many real balls hold a generated point, in units of k, and how many real balls hold any.

    .. math::
        \text{density} = \tfrac{1}{k M} \sum_j \sum_i 1[|y_j - x_i| \le r_k(x_i)], \qquad
        \text{coverage} = \tfrac1N \sum_i 1[\exists j: |y_j - x_i| \le r_k(x_i)]

    One outlier among the real points, with its large ball, makes precision high but density hardly. With equal distributions
    the expected density is 1 and the expected coverage 1 - 2^-k for many points (section 3 of the paper).

    Arguments:
        real: Squared distances within the real points, shape (N, N).
        cross: Squared distances from real (rows) to generated points, shape (N, M).
        k: 5 in the paper.

    Returns:
        Density, at least 0 and possibly above 1, and coverage, in [0, 1].

    References:
        | Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020), section 3
        | https://arxiv.org/abs/2002.09797
    """
    inside = cross <= radii(real, k)[:, None]
    return float(inside.sum(dtype=torch.float64)) / (k * cross.shape[1]), _share(inside.any(1))


def _share(held: Tensor) -> float:
    return float(held.double().mean())
