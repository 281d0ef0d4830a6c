"""Paths from one vector to another."""

# S steps, L dimensions

from __future__ import annotations

import torch
from torch import Tensor

# sine of the angle below which two unit vectors count as parallel: rounding decides the direction between them
_PARALLEL = 1e-6


def linear(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The straight line, (1 - t) a + t b.

    Arguments:
        a: Where t = 0, shape (L,).
        b: Where t = 1, shape (L,).
        t: Shape (S,).

    Returns:
        Shape (S, L).
    """
    return torch.lerp(a, b, t[:, None].to(a))


def spherical(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    r"""The great circle between the directions, while the norm goes evenly from one to the other.

    .. math:: r_t \left( \frac{\sin((1 - t) \Omega)}{\sin \Omega} \hat a + \frac{\sin(t \Omega)}{\sin \Omega} \hat b \right),
        \qquad \cos \Omega = \hat a \cdot \hat b, \quad r_t = (1 - t) |a| + t |b|

    with :math:`\hat a = a / |a|`. Draws of a standard normal in many dimensions lie near a sphere, which the straight line leaves.

    Parallel vectors, and one that is zero, have the straight line between them. Vectors that are antiparallel have no great circle
    of their own: the path then leads through the direction nearest to the coordinate axis on which `a` is smallest. In one
    dimension it is the straight line.

    Arguments:
        a: Where t = 0, shape (L,).
        b: Where t = 1, shape (L,).
        t: Shape (S,).

    Returns:
        Shape (S, L).

    References:
        | Animating Rotation with Quaternion Curves (Shoemake, 1985): https://doi.org/10.1145/325334.325242
        | Sampling Generative Networks (White, 2016), for latent spaces: https://arxiv.org/abs/1609.04468
    """
    start, end, time = a.double(), b.double(), t[:, None].to(a.device, torch.float64)
    radii = start.norm(), end.norm()
    if min(radii) == 0:
        return linear(a, b, t)
    u, v = start / radii[0], end / radii[1]
    across = v - (u @ v) * u
    angle = torch.atan2(across.norm(), u @ v)
    if across.norm() < _PARALLEL:
        if u @ v > 0 or len(u) == 1:
            return linear(a, b, t)
        across = _perpendicular(u)
    # the same path, written in the orthonormal basis of its plane: no small sine to divide by
    direction = torch.cos(time * angle) * u + torch.sin(time * angle) * across / across.norm()
    radius = (1 - time) * radii[0] + time * radii[1]
    path: Tensor = radius * direction
    return path.to(a)


def _perpendicular(u: Tensor) -> Tensor:
    axis = torch.zeros_like(u)
    axis[u.abs().argmin()] = 1.0
    return axis - (u @ axis) * u
