"""Hamiltonian Monte Carlo as functions of any density: the leapfrog integrator and the Metropolis correction."""

# *c chains, L dimensions

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor


class Position(Protocol):
    """Where chains are, and what their target says there. A caller may keep more with it."""

    @property
    def z(self) -> Tensor:
        """Shape (*c, L)."""

    @property
    def potential(self) -> Tensor:
        """U(z), the negative logarithm of the target's density but for a constant: nats, shape (*c)."""

    @property
    def gradient(self) -> Tensor:
        """dU/dz, shape (*c, L)."""


P = TypeVar("P", bound=Position)


@dataclass(frozen=True)
class Proposal(Generic[P]):
    """Where the dynamics lead.

    Attributes:
        position: At the end of the trajectory.
        log_probability: Of being accepted, at most 0, shape (*c).
    """

    position: P
    log_probability: Tensor


def leapfrog(at: Callable[[Tensor], P], start: P, momentum: Tensor, step: Tensor, count: int) -> tuple[P, Tensor]:
    r"""Follow the dynamics of :math:`H(z, p) = U(z) + \tfrac12 \|p\|^2` for `count` steps.

    .. math:: p \leftarrow p - \tfrac{\epsilon}{2} \nabla U(z), \quad z \leftarrow z + \epsilon p, \quad
        p \leftarrow p - \tfrac{\epsilon}{2} \nabla U(z)

    Every line changes one of the two by a function of the other, so whatever is taken for the gradient the map keeps volumes, and
    is undone by itself with the momentum turned round. :math:`\epsilon` may differ between chains and between dimensions: the
    latter is the same as masses of :math:`1 / \epsilon_d^2`.

    Arguments:
        at: From z, shape (*c, L), to a position. Asked `count` times.
        start: The first position.
        momentum: p, shape (*c, L).
        step: :math:`\epsilon > 0`, broadcasts with z. It must not be a function of where the chains are.
        count: Steps, 1 or more.

    Returns:
        Position and momentum at the end.

    References:
        | MCMC using Hamiltonian dynamics (Neal, 2011), equations 2.28 to 2.30 | https://arxiv.org/abs/1206.1901
    """
    position = start
    for _ in range(count):
        momentum = momentum - 0.5 * step * position.gradient
        position = at(position.z + step * momentum)
        momentum = momentum - 0.5 * step * position.gradient
    return position, momentum


def propose(at: Callable[[Tensor], P], start: P, momentum: Tensor, step: Tensor, count: int) -> Proposal[P]:
    r"""Where `leapfrog` leads, and the probability with which a chain goes there.

    .. math:: \min(1, \exp(H(z, p) - H(z', p')))

    A chain that has :math:`p \sim N(0, I)` drawn anew, goes there with this probability and stays otherwise leaves its target
    invariant, and is reversible. A trajectory that ends where a number is not finite is never accepted.

    Arguments:
        at: As for `leapfrog`.
        start: Likewise.
        momentum: A draw from N(0, I), shape (*c, L).
        step: As for `leapfrog`.
        count: Likewise.

    References:
        | MCMC using Hamiltonian dynamics (Neal, 2011), section 5.3.2, equation 3.6 | https://arxiv.org/abs/1206.1901
    """
    end, end_momentum = leapfrog(at, start, momentum, step, count)
    lost = start.potential + kinetic(momentum) - end.potential - kinetic(end_momentum)
    return Proposal(end, torch.where(lost.isnan(), -torch.inf, lost).clamp_max(0.0))


def kinetic(momentum: Tensor) -> Tensor:
    r""":math:`\tfrac12 \|p\|^2`, (*c, L) to (*c)."""
    return 0.5 * momentum.square().sum(-1)
