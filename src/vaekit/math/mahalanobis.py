"""Distance from a cloud of points in units of its spread."""

# N points, T points of the cloud, L dimensions

from __future__ import annotations

import torch
from torch import Tensor


def mahalanobis(means: Tensor, trained: Tensor) -> Tensor | None:
    r"""Distance of points from a cloud in units of its spread, :math:`\sqrt{(\mu - \bar\mu)^T S^{-1} (\mu - \bar\mu)}`.

    S is the covariance of the cloud, shrunk to a multiple of the identity as far as its size demands.

    Arguments:
        means: Shape (N, L).
        trained: The cloud, (T, L).

    Returns:
        Shape (N,); None where the cloud is a single point, or not all of it is finite.

    References:
        | A Well-conditioned Estimator for Large-dimensional Covariance Matrices (Ledoit and Wolf, 2004), lemma 3.2 to theorem 3.2
        | https://doi.org/10.1016/S0047-259X(03)00096-4
    """
    from sklearn.covariance import ledoit_wolf

    if not bool(trained.isfinite().all()) or len(trained) < 2 or not bool((trained.var(0, correction=0) > 0).any()):
        return None
    covariance = torch.from_numpy(ledoit_wolf(trained.numpy())[0])
    root, fault = torch.linalg.cholesky_ex(covariance)
    if int(fault):
        return None
    whitened = torch.linalg.solve_triangular(root, (means - trained.mean(0)).T, upper=False)
    distance: Tensor = whitened.square().sum(0).sqrt()
    return distance
