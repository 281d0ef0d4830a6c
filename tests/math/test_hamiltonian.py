"""Hamiltonian Monte Carlo: reversible, keeps volumes, of second order, and leaves its target invariant."""

# C chains, L dimensions

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from scipy import stats
from torch import Tensor

from vaekit.math.hamiltonian import kinetic, leapfrog, propose

pytestmark = pytest.mark.usefixtures("float64")


@dataclass(frozen=True)
class Seen:
    z: Tensor
    potential: Tensor
    gradient: Tensor


At = Callable[[Tensor], Seen]


def crooked(z: Tensor) -> Seen:
    """U = sum z^4 / 4 + log cosh of neighbours' differences: no symmetry, and dimensions that hang together."""
    difference = z[..., 1:] - 2.0 * z[..., :-1]
    potential = (z**4).sum(-1) / 4 + difference.cosh().log().sum(-1)
    gradient = z**3
    pull = difference.tanh()
    gradient = gradient + torch.nn.functional.pad(pull, (1, 0)) - 2.0 * torch.nn.functional.pad(pull, (0, 1))
    return Seen(z, potential, gradient)


def gumbel(z: Tensor) -> Seen:
    """p(z) = exp(-z - exp(-z)), one dimension: skewed, so that no symmetry can hide a fault."""
    return Seen(z, (z + (-z).exp()).sum(-1), 1.0 - (-z).exp())


def test_the_gradient_of_the_example_is_that_of_its_potential() -> None:
    z = torch.randn(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(crooked(z).potential.sum(), z)
    torch.testing.assert_close(gradient, crooked(z.detach()).gradient)


def test_a_harmonic_oscillator_in_closed_form() -> None:
    """In one step z' = (1 - e^2/2) z + e p, p' = (1 - e^2/2) p - e (1 - e^2/4) z."""
    z, p, e = torch.randn(5, 2), torch.randn(5, 2), 0.3 + torch.rand(5, 1)
    end, momentum = leapfrog(lambda z: Seen(z, kinetic(z), z), Seen(z, kinetic(z), z), p, e, 1)
    torch.testing.assert_close(end.z, (1 - e**2 / 2) * z + e * p)
    torch.testing.assert_close(momentum, (1 - e**2 / 2) * p - e * (1 - e**2 / 4) * z)


@pytest.mark.parametrize("count", [1, 7])
def test_with_the_momentum_turned_round_it_goes_back(count: int) -> None:
    z, p, step = torch.randn(6, 3), torch.randn(6, 3), 0.05 + 0.2 * torch.rand(6, 3)
    end, momentum = leapfrog(crooked, crooked(z), p, step, count)
    assert (end.z - z).abs().min() > 1e-4
    back, again = leapfrog(crooked, crooked(end.z), -momentum, step, count)
    torch.testing.assert_close(back.z, z, rtol=0, atol=1e-11)
    torch.testing.assert_close(again, -p, rtol=0, atol=1e-11)


@pytest.mark.parametrize("count", [1, 5])
def test_volumes_are_kept(count: int) -> None:
    """The determinant of the Jacobian of (z, p) -> (z', p') is 1, whatever the steps of the dimensions."""
    step = torch.tensor([0.3, 0.1, 0.5])

    def flow(both: Tensor) -> Tensor:
        end, momentum = leapfrog(crooked, crooked(both[:3]), both[3:], step, count)
        return torch.cat([end.z, momentum])

    jacobian = torch.autograd.functional.jacobian(flow, torch.randn(6))
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1.0, abs=1e-8)
    assert (jacobian - torch.eye(6)).abs().max() > 0.1


def test_the_error_of_the_energy_is_of_second_order() -> None:
    """Half the step and twice as many of them: a quarter of the error, to 2% at these steps."""
    z, p = 0.5 * torch.randn(50, 3), torch.randn(50, 3)

    def error(step: float, count: int) -> Tensor:
        end, momentum = leapfrog(crooked, crooked(z), p, torch.tensor(step), count)
        change = end.potential + kinetic(momentum) - crooked(z).potential - kinetic(p)
        return change.square().mean().sqrt()

    ratios = [error(0.02, 20) / error(0.01, 40), error(0.01, 40) / error(0.005, 80)]
    assert [float(ratio) for ratio in ratios] == pytest.approx([4.0, 4.0], rel=0.02)


def test_the_probability_is_that_of_the_lost_energy() -> None:
    z, p, step = torch.randn(40, 3), torch.randn(40, 3), torch.tensor(0.4)
    proposal = propose(crooked, crooked(z), p, step, 3)
    end, momentum = leapfrog(crooked, crooked(z), p, step, 3)
    ratio = (crooked(z).potential + kinetic(p) - end.potential - kinetic(momentum)).exp()
    torch.testing.assert_close(proposal.log_probability.exp(), ratio.clamp_max(1.0))
    torch.testing.assert_close(proposal.position.z, end.z)
    assert (ratio > 1).any()
    assert (ratio < 0.9).any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nobody_goes_where_the_density_is_no_number(bad: float) -> None:
    z, p = torch.zeros(2, 1), torch.ones(2, 1)
    at = lambda z: Seen(z, torch.tensor([bad, 0.0]), torch.zeros_like(z))  # noqa: E731
    proposal = propose(at, Seen(z, torch.zeros(2), torch.zeros_like(z)), p, torch.tensor(0.1), 1)
    assert proposal.log_probability.tolist() == [-torch.inf, 0.0]


def moved(at: At, z: Tensor, step: Tensor, count: int, transitions: int, correct: bool = True) -> Tensor:
    for _ in range(transitions):
        proposal = propose(at, at(z), torch.randn_like(z), step, count)
        accepted = torch.rand(len(z)).log() < proposal.log_probability
        z = torch.where(accepted[:, None] | (not correct), proposal.position.z, z)
    return z


def test_the_target_is_left_as_it_was() -> None:
    """Exact draws of a skewed target are exact draws after it. Kolmogorov-Smirnov on 20 000 draws: false alarm 1e-6.

    Steps are large, and differ between chains; about two of three proposals are accepted. Without the correction the same test
    fails by far, so it would see one that is wrong.
    """
    z = -(-torch.rand(20_000, 1).log()).log()
    step = 0.8 + 0.4 * torch.rand(20_000, 1)
    probability = propose(gumbel, gumbel(z), torch.randn_like(z), step, 3).log_probability.exp().mean()
    assert 0.5 < probability < 0.9

    def p_value(draws: Tensor) -> float:
        return float(stats.kstest(draws[:, 0].numpy(), stats.gumbel_r.cdf).pvalue)

    assert p_value(moved(gumbel, z, step, 3, transitions=4)) > 1e-6
    assert p_value(moved(gumbel, z, step, 3, transitions=4, correct=False)) < 1e-9


def test_the_target_is_found_from_elsewhere() -> None:
    """Chains that begin far away end as draws of the target: false alarm 1e-6."""
    z = moved(gumbel, torch.full((4000, 1), 3.0), 0.3 + 0.4 * torch.rand(4000, 1), 5, transitions=25)
    assert float(stats.kstest(z[:, 0].numpy(), stats.gumbel_r.cdf).pvalue) > 1e-6
