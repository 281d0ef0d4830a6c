"""Targets, floors and constraints: what they minimise, what they log, and the state of the multiplier."""

# K samples, B batch, L latent dimensions

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vaekit.distributions import draw
from vaekit.models import Latent, Trace
from vaekit.objectives import (
    KL,
    Capacity,
    Constrained,
    FreeBits,
    MeanReduction,
    Objective,
    Reconstruction,
    Term,
    effective_beta,
)
from vaekit.objectives.base import Role
from vaekit.schedules import Linear, advance

pytestmark = pytest.mark.usefixtures("float64")


def latent(loc: Tensor, scale: Tensor | float = 1.0, name: str = "z") -> Latent:
    """q = N(loc, scale^2) over events of all but the first two dimensions, p = N(0, I)."""
    scale = torch.as_tensor(scale).expand(loc.shape)
    q = Independent(Normal(loc, scale), loc.dim() - 2)
    p = Independent(Normal(torch.zeros_like(loc), torch.ones_like(loc)), loc.dim() - 2)
    return Latent(name, q, p, draw(q))


def trace_of(*latents: Latent) -> Trace:
    K, B = latents[0].q.batch_shape
    px = Independent(Normal(torch.full((K, B, 3), 0.3), torch.full((K, B, 3), 0.5)), 1)
    return Trace(torch.zeros(B, 3), px, latents)


def with_kl(*kl: float) -> Trace:
    """A batch of examples with these KLs, each of one dimension: N(m, 1) has m^2 / 2."""
    return trace_of(latent((2.0 * torch.tensor(kl)).sqrt().reshape(1, -1, 1).requires_grad_()))


class Given(Term):
    """A term that is a parameter, or a function of one."""

    role = Role.DISTORTION

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, trace: Trace) -> Tensor:
        return self.value

    def elements(self, trace: Trace) -> int:
        return 4


# capacity


@pytest.mark.parametrize(
    ("kl", "target", "expected"), [((3.0, 7.0), 2.0, 3.0), ((3.0, 7.0), 9.0, 4.0), ((5.0,), 5.0, 0.0)]
)
def test_capacity_is_the_distance_of_the_mean_from_the_target(
    kl: tuple[float, ...], target: float, expected: float
) -> None:
    """The mean over the batch comes first: 3 and 7 nats are at a target of 5."""
    term = Capacity(KL(), target)
    assert term(with_kl(*kl)).item() == pytest.approx(expected, abs=1e-12)
    assert Capacity(KL(), 5.0)(with_kl(3.0, 7.0)).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("target", "sign"), [(2.0, 1.0), (9.0, -1.0)])
def test_capacity_pulls_towards_the_target(target: float, sign: float) -> None:
    trace = with_kl(3.0, 7.0)
    loc = trace.latents[0].q.base_dist.loc
    (gradient,) = torch.autograd.grad(1000.0 * Capacity(KL(), target)(trace), [loc])
    torch.testing.assert_close(gradient, sign * 1000.0 * loc.detach() / 2)  # d KL / d m = m, mean of two


def test_capacity_follows_the_clock_and_logs_the_raw_kl() -> None:
    objective = Objective(
        {"recon": Reconstruction(), "kl": Capacity(KL(), Linear(start=0.0, stop=25.0, steps=10))}, {"kl": 1000.0}
    )
    trace = with_kl(3.0, 7.0)
    for step, target in [(0, 0.0), (2, 5.0), (4, 10.0), (10, 25.0), (99, 25.0)]:
        advance(objective, step)
        loss = objective(trace)
        expected = Reconstruction()(trace).mean() + 1000.0 * abs(5.0 - target)
        torch.testing.assert_close(loss.total, expected)
        assert loss.parts["kl"].item() == pytest.approx(5.0)
        assert loss.roles["kl"] is Role.RATE
        assert not loss.parts["kl"].requires_grad
    assert not objective.plain
    assert effective_beta(objective, trace) is None


def test_wrappers_are_divided_as_what_they_wrap() -> None:
    trace = trace_of(latent(torch.randn(2, 3, 4)))
    for term in (Capacity(KL(), 1.0), FreeBits(0.1)):
        assert MeanReduction()(term, trace) == 4
    assert MeanReduction()(Constrained(Reconstruction(), 1.0), trace) == 3


# free bits


def test_free_bits_by_hand() -> None:
    """Two examples of three dimensions: mean KLs 0.1, 0.6 and 2, with a floor of 0.5 under each."""
    kl = torch.tensor([[[0.2, 1.2, 1.0], [0.0, 0.0, 3.0]]])
    trace = trace_of(latent((2.0 * kl).sqrt()))
    assert FreeBits(0.5)(trace).item() == pytest.approx(
        0.5 + 0.6 + 2.0
    )  # the mean over the batch comes first: 0 is free
    assert FreeBits(0.0)(trace).item() == pytest.approx(2.7)
    assert FreeBits(5.0)(trace).item() == pytest.approx(15.0)
    torch.testing.assert_close(FreeBits(5.0).nats(trace), KL()(trace))


def test_free_bits_of_groups() -> None:
    """Feature maps of 2 x 1 pixels: groups of consecutive dimensions share one floor."""
    kl = torch.tensor([[[[[0.1], [0.3]], [[0.6], [0.2]]]]])
    trace = trace_of(latent((2.0 * kl).sqrt()))
    assert FreeBits(0.5, dimensions=2)(trace).item() == pytest.approx(0.5 + 0.8)
    assert FreeBits(0.5, dimensions=4)(trace).item() == pytest.approx(1.2)
    assert FreeBits(0.5, dimensions=1)(trace).item() == pytest.approx(0.5 + 0.5 + 0.6 + 0.5)


def test_free_bits_give_no_reason_to_close_a_dimension() -> None:
    loc = torch.tensor([[[0.1, 2.0]]]).requires_grad_()
    (gradient,) = torch.autograd.grad(FreeBits(0.5)(trace_of(latent(loc))), [loc])
    torch.testing.assert_close(gradient, torch.tensor([[[0.0, 2.0]]]))


def test_free_bits_take_every_latent_and_every_sample() -> None:
    first, second = latent(torch.randn(3, 5, 2)), latent(torch.randn(3, 5, 4), name="w")
    means = [0.5 * each.q.mean.square().mean((0, 1)) for each in (first, second)]
    expected = sum(part.clamp_min(0.4).sum() for part in means)
    torch.testing.assert_close(FreeBits(0.4)(trace_of(first, second)), expected)


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 dimensions does not fall into groups of 3"):
        FreeBits(0.5, dimensions=3)(trace_of(latent(torch.randn(1, 2, 4))))
    for arguments in ({"nats": -0.1}, {"dimensions": 0}):
        with pytest.raises(ValueError, match="expected 0 or more nats"):
            FreeBits(**arguments)


def test_the_kl_of_the_dimensions_adds_up() -> None:
    each = latent(torch.randn(3, 2, 4, 2), 0.5 * torch.rand(3, 2, 4, 2) + 0.2)
    by_dimension = each.kl_per_dimension()
    assert by_dimension.shape == (3, 2, 8)
    torch.testing.assert_close(by_dimension.sum(-1), each.kl())
    loc, scale = each.q.mean.flatten(2), each.q.stddev.flatten(2)
    torch.testing.assert_close(by_dimension, 0.5 * (loc**2 + scale**2 - 1.0) - scale.log())


def test_dimensions_that_are_not_independent_share_equally() -> None:
    loc, covariance = torch.randn(2, 3, 2), torch.eye(2) + 0.5
    q = torch.distributions.MultivariateNormal(loc, covariance)
    each = Latent("z", q, torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)).expand((2, 3)), draw(q))
    torch.testing.assert_close(each.kl_per_dimension(), (each.kl() / 2)[..., None].expand(2, 3, 2))


# the constraint


def algorithm(violations: list[float], rate: float, momentum: float) -> list[tuple[float, float]]:
    """Algorithm 1 in plain numbers: (multiplier before the step, moving average) of each step."""
    steps, average, multiplier = [], 0.0, 1.0
    for t, violation in enumerate(violations):
        average = violation if t == 0 else momentum * average + (1 - momentum) * violation
        steps.append((multiplier, average))
        multiplier *= math.exp(rate * average / 4)
    return steps


def test_the_constraint_follows_the_algorithm() -> None:
    measured = [9.0, 7.0, 2.0, 1.0, 6.0, 5.5]
    term = Constrained(Given(torch.zeros(2)), tolerance=5.0, rate=0.5, momentum=0.8)
    for value, (multiplier, average) in zip(measured, algorithm([v - 5.0 for v in measured], 0.5, 0.8), strict=True):
        term.term.value = torch.tensor([value - 1.0, value + 1.0]).requires_grad_()
        total = term(with_kl(1.0))
        assert total.item() == pytest.approx(multiplier * average, rel=1e-12)
        # the gradient is that of the present batch, under the multiplier from before the step
        (gradient,) = torch.autograd.grad(total, [term.term.value])
        torch.testing.assert_close(gradient, torch.full((2,), multiplier / 2))
    assert term.nats(with_kl(1.0)).mean().item() == pytest.approx(5.5)


def test_the_multiplier_rises_while_the_constraint_is_violated_and_falls_with_slack() -> None:
    trace = with_kl(1.0)
    for value, rises in [(6.0, True), (4.0, False)]:
        term = Constrained(Given(torch.tensor(value)), tolerance=5.0)
        values = [term(trace) is not None and term.multiplier.item() for _ in range(5)]
        assert values == sorted(values, reverse=not rises)
        assert (values[-1] > 1.0) is rises


def test_evaluation_moves_nothing() -> None:
    term, trace = Constrained(Given(torch.tensor(9.0)), tolerance=5.0), with_kl(1.0)
    term(trace)
    before = copy.deepcopy(term.state_dict())
    multiplier = term.multiplier.item()
    assert term.eval()(trace).item() == pytest.approx(4.0 * multiplier)
    assert term.nats(trace).item() == 9.0
    assert all(torch.equal(before[name], value) for name, value in term.state_dict().items())


def test_logging_does_not_take_a_second_step() -> None:
    trace = with_kl(1.0, 2.0)
    objective = Objective({"recon": Constrained(Reconstruction(), tolerance=0.5), "kl": KL()})
    loss = objective(trace)
    once = Constrained(Reconstruction(), tolerance=0.5)
    once(trace)
    assert torch.equal(objective.terms["recon"].multiplier, once.multiplier)
    torch.testing.assert_close(loss.parts["recon"], Reconstruction()(trace).mean())
    assert loss.roles["recon"] is Role.DISTORTION


def test_the_state_resumes_bit_for_bit() -> None:
    trace, values = with_kl(1.0), torch.rand(20) * 10.0

    def run(term: Constrained, part: Tensor) -> list[float]:
        totals = []
        for value in part:
            term.term.value = value
            totals.append(term(trace).item())
        return totals

    whole = run(Constrained(Given(values[0]), 5.0), values)
    first = Constrained(Given(values[0]), 5.0)
    begun = run(first, values[:7])
    second = Constrained(Given(values[0]), 5.0)
    second.load_state_dict(first.state_dict())
    assert begun + run(second, values[7:]) == whole


def test_a_constraint_that_cannot_be_met_stays_finite() -> None:
    term, trace = Constrained(Given(torch.tensor(1e4, dtype=torch.float32)), 0.0, rate=10.0).float(), with_kl(1.0)
    for _ in range(50):
        assert term(trace).isfinite()
    assert term.multiplier.item() == pytest.approx(1e6, rel=1e-5)


def test_it_finds_the_solution_of_the_constrained_problem() -> None:
    """min m^2 such that (m - 2)^2 <= 1: m = 1, where the gradients balance, 2 m = lambda 2 (2 - m): lambda = 1."""
    m = nn.Parameter(torch.tensor(0.0))
    term, trace = Constrained(Given(torch.tensor(0.0)), tolerance=1.0, rate=0.2, momentum=0.5), with_kl(1.0)
    optimizer = torch.optim.SGD([m], lr=0.05)
    with torch.no_grad():
        term.multiplier.fill_(3.0)
    for _ in range(2000):
        optimizer.zero_grad()
        term.term.value = (m - 2.0) ** 2
        (m**2 + term(trace)).backward()
        optimizer.step()
    assert m.item() == pytest.approx(1.0, abs=1e-3)
    assert term.multiplier.item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("arguments", [{"rate": 0.0}, {"rate": -1.0}, {"momentum": 1.0}, {"momentum": -0.1}])
def test_a_constraint_that_cannot_work_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a rate above 0"):
        Constrained(KL(), 1.0, **arguments)
