"""Gradients that are not those of the number beside them: each has the mean that it should have, and the value is the bound.

A model that can be integrated: x = w z + b + sigma * noise and z ~ N(m, 1), one dimension each, q(z|x) = N(a x + c, s^2). Its ELBO
and its bound with two draws are integrals over one and two normal variables, which Gauss and Hermite's rule gives to ten digits,
gradients included. Every one of 100,000 draws has parameters of its own, so that one backward pass gives every gradient.
"""

# K samples, B batch: here B draws of one example

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from vaekit.distributions import Draw, draw
from vaekit.distributions.detached import detached
from vaekit.models import Latent, Trace
from vaekit.objectives import (
    CIWAE,
    KL,
    MIWAE,
    PIWAE,
    DReG,
    ImportanceBound,
    LargestWeight,
    LatentL2,
    MonteCarloKL,
    Objective,
    PathKL,
    Reconstruction,
    RenyiBound,
    Term,
)
from vaekit.objectives.base import Role

pytestmark = pytest.mark.usefixtures("float64")

X, SIGMA = 1.3, 0.7
ENCODER, DECODER = ("a", "c", "s"), ("w", "b", "m")
OFF = {"a": 0.5, "c": 0.3, "s": 0.8, "w": 0.9, "b": -0.2, "m": 0.1}
# the posterior of w, b, m above: precision 1 + w^2 / sigma^2, mean (m + w (x - b) / sigma^2) / precision
_PRECISION = 1.0 + 0.9**2 / SIGMA**2
EXACT = OFF | {
    "a": 0.9 / SIGMA**2 / _PRECISION, "c": (0.1 + 0.9 * 0.2 / SIGMA**2) / _PRECISION, "s": _PRECISION**-0.5,
}  # fmt: skip
Parameters = Mapping[str, Tensor]


def parameters(values: Mapping[str, float], draws: int) -> dict[str, Tensor]:
    return {name: torch.full((draws, 1), value, requires_grad=True) for name, value in values.items()}


def trace_of(own: Parameters, noise: Tensor) -> Trace:
    """For noise (K, B, 1)."""
    shape = noise.shape
    q = Independent(Normal((own["a"] * X + own["c"]).expand(shape), own["s"].expand(shape)), 1)
    z = q.base_dist.loc + q.base_dist.scale * noise
    p = Independent(Normal(own["m"].expand(shape), torch.ones(shape)), 1)
    px = Independent(Normal(own["w"] * z + own["b"], SIGMA), 1)
    return Trace(torch.full(shape[1:], X), px, (Latent("z", q, p, Draw(z, lambda: q.log_prob(z))),))


def gradients(term: Term, values: Mapping[str, float], noise: Tensor) -> dict[str, Tensor]:
    """Of every draw, (B,), by parameter."""
    own = parameters(values, noise.shape[1])
    found = torch.autograd.grad(term(trace_of(own, noise)).sum(), list(own.values()), allow_unused=True)
    zero = torch.zeros(noise.shape[1], 1)
    return {name: (zero if one is None else one)[:, 0] for name, one in zip(own, found, strict=True)}


class Sum(Term):
    """Several terms as one."""

    def __init__(self, *terms: Term) -> None:
        super().__init__()
        self.terms = torch.nn.ModuleList(terms)

    def forward(self, trace: Trace) -> Tensor:
        return torch.stack([term(trace) for term in self.terms]).sum(0)


def integrated(term: Term, values: Mapping[str, float], samples: int, points: int = 80) -> dict[str, float]:
    """The gradient of the mean of a term that is differentiated as it stands, by quadrature over its noise."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(points))
    noise = torch.cartesian_prod(*[nodes] * samples).reshape(-1, samples).T[:, :, None]
    mass = torch.cartesian_prod(*[weights / weights.sum()] * samples).reshape(-1, samples).prod(1)
    own = {name: torch.tensor([[value]], requires_grad=True) for name, value in values.items()}
    wide = {name: value.expand(noise.shape[1], 1) for name, value in own.items()}
    total = (mass * term(trace_of(wide, noise))).sum()
    found = torch.autograd.grad(total, list(own.values()))
    return {name: float(one) for name, one in zip(own, found, strict=True)}


# estimator, the plain term of the same bound, draws
UNBIASED = {
    "stl": (lambda: Sum(Reconstruction(), PathKL()), lambda: Sum(Reconstruction(), MonteCarloKL()), 1),
    "stl of two draws": (lambda: Sum(Reconstruction(), PathKL()), lambda: Sum(Reconstruction(), MonteCarloKL()), 2),
    "dreg of one draw": (DReG, ImportanceBound, 1),
    "dreg": (DReG, ImportanceBound, 2),
    "importance weighting": (ImportanceBound, ImportanceBound, 2),
    "the elbo in closed form": (lambda: Sum(Reconstruction(), KL()), lambda: Sum(Reconstruction(), MonteCarloKL()), 1),
}


@pytest.mark.parametrize(("make", "plain", "samples"), UNBIASED.values(), ids=UNBIASED.keys())
def test_the_mean_gradient_is_that_of_the_bound(
    make: Callable[[], Term], plain: Callable[[], Term], samples: int
) -> None:
    """Within 4 standard errors of 100,000 draws of the integral: false alarm 6e-5 for each of six parameters."""
    n = 100_000
    truth = integrated(plain(), OFF, samples)
    for name, one in gradients(make(), OFF, torch.randn(samples, n, 1)).items():
        error = one.std().item() / n**0.5
        assert abs(one.mean().item() - truth[name]) < 4 * error + 1e-9, name


def test_the_integral_is_the_closed_form() -> None:
    """The ELBO's gradient, by hand: with mu = a x + c and r = x - w mu - b."""
    a, c, s, w, b, m = OFF.values()
    mu = a * X + c
    r = X - w * mu - b
    by_mu = -w * r / SIGMA**2 + mu - m
    expected = {
        "a": X * by_mu, "c": by_mu, "s": w**2 * s / SIGMA**2 + s - 1.0 / s,
        "w": (-r * mu + w * s**2) / SIGMA**2, "b": -r / SIGMA**2, "m": m - mu,
    }  # fmt: skip
    assert integrated(Sum(Reconstruction(), MonteCarloKL()), OFF, 1) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("samples", [2, 5])
def test_dreg_and_the_plain_gradient_agree_draw_by_draw_for_the_decoder(samples: int) -> None:
    noise = torch.randn(samples, 50, 1)
    doubly, plain = (gradients(term(), OFF, noise) for term in (DReG, ImportanceBound))
    for name in DECODER:
        torch.testing.assert_close(doubly[name], plain[name], rtol=1e-12, atol=1e-12)


def test_dreg_is_the_squared_weights_times_the_path_derivative() -> None:
    """Written out: w_k^2 d(log p(x, z) - log q(z))/dz dz/dphi, each derivative by hand."""
    noise = torch.randn(3, 40, 1)
    a, c, s, w, b, m = OFF.values()
    z = (a * X + c + s * noise)[..., 0]
    slope = w * (X - w * z - b) / SIGMA**2 - (z - m) + noise[..., 0] / s
    weights = trace_of(parameters(OFF, 40), noise).log_w.detach().softmax(0).square()
    found = gradients(DReG(), OFF, noise)
    torch.testing.assert_close(found["a"], -(weights * slope * X).sum(0), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found["s"], -(weights * slope * noise[..., 0]).sum(0), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("make", [lambda: Sum(Reconstruction(), PathKL()), DReG], ids=["stl", "dreg"])
def test_at_the_true_posterior_the_encoders_gradient_has_no_variance(make: Callable[[], Term]) -> None:
    noise = torch.randn(4, 200, 1)
    quiet, loud = gradients(make(), EXACT, noise), gradients(ImportanceBound(), EXACT, noise)
    for name in ENCODER:
        assert quiet[name].abs().max() < 1e-13, name
        assert loud[name].std() > 0.1, name


def test_of_a_full_covariance_too(linear_gaussian: Any) -> None:
    W, b, x = torch.randn(5, 2), torch.randn(5), torch.randn(4, 5)
    model = linear_gaussian(W, b, 0.7)
    shift = torch.zeros(2, requires_grad=True)
    posterior = model.hierarchy.levels[0].posterior

    def moved(context: Tensor, _: Any) -> MultivariateNormal:
        return MultivariateNormal(context + shift, torch.linalg.inv(torch.eye(2) + W.T @ W / 0.49))

    posterior.forward = moved
    for term in (Sum(Reconstruction(), PathKL()), DReG()):
        (gradient,) = torch.autograd.grad(term(model(x, 3)).sum(), shift)
        assert gradient.abs().max() < 1e-11
    (gradient,) = torch.autograd.grad(ImportanceBound()(model(x, 3)).sum(), shift)
    assert gradient.abs().max() > 0.1


VALUES = {
    "PathKL": (PathKL, MonteCarloKL), "DReG": (DReG, ImportanceBound), "PIWAE": (lambda: PIWAE(3), ImportanceBound),
    "Renyi at 0": (lambda: RenyiBound(0.0), ImportanceBound), "MIWAE of one group": (lambda: MIWAE(1), ImportanceBound),
    "CIWAE at 0": (lambda: CIWAE(0.0), ImportanceBound),
    "MIWAE of groups of one": (lambda: MIWAE(6), lambda: Sum(Reconstruction(), MonteCarloKL())),
    "CIWAE at 1": (lambda: CIWAE(1.0), lambda: Sum(Reconstruction(), MonteCarloKL())),
    "Renyi at 1": (lambda: RenyiBound(1.0), lambda: Sum(Reconstruction(), MonteCarloKL())),
}  # fmt: skip


@pytest.mark.parametrize(("make", "same"), VALUES.values(), ids=VALUES.keys())
def test_what_is_reported_is_the_bound_itself(make: Callable[[], Term], same: Callable[[], Term]) -> None:
    trace, term = trace_of(parameters(OFF, 30), torch.randn(6, 30, 1)), make()
    torch.testing.assert_close(term(trace), same()(trace), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(term.nats(trace), same()(trace), rtol=1e-13, atol=1e-13)
    assert Objective({"it": term}).plain
    with torch.no_grad():  # where a step went wrong it is asked again without gradients
        torch.testing.assert_close(term(trace), same()(trace), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_piwae_has_the_gradients_of_its_two_bounds(groups: int) -> None:
    noise = torch.randn(6, 40, 1)
    found = gradients(PIWAE(groups), OFF, noise)
    encoders, decoders = gradients(MIWAE(groups), OFF, noise), gradients(ImportanceBound(), OFF, noise)
    for name in ENCODER:
        torch.testing.assert_close(found[name], encoders[name], rtol=1e-12, atol=1e-12)
    for name in DECODER:
        torch.testing.assert_close(found[name], decoders[name], rtol=1e-12, atol=1e-12)
    if groups > 1:
        assert not torch.allclose(encoders["a"], gradients(ImportanceBound(), OFF, noise)["a"], rtol=1e-3)


def test_weights_far_apart_break_nothing() -> None:
    """One group a thousand nats below the other: its share of the decoder's gradient is 0, that of the encoder's is a half."""
    noise = torch.cat([torch.randn(2, 5, 1), 60.0 + torch.randn(2, 5, 1)])
    found = gradients(PIWAE(2), OFF, noise)
    for name, expected in gradients(MIWAE(2), OFF, noise).items():
        assert found[name].isfinite().all()
        if name in ENCODER:
            torch.testing.assert_close(found[name], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("make", [DReG, lambda: PIWAE(2), PathKL], ids=["dreg", "piwae", "path"])
def test_other_terms_keep_their_own_gradient(make: Callable[[], Term]) -> None:
    """Both orders: what one term does to its gradient must not reach those of another on the same trace."""
    noise = torch.randn(4, 20, 1)
    alone = [gradients(term, OFF, noise) for term in (make(), LatentL2())]
    for both in (Sum(make(), LatentL2()), Sum(LatentL2(), make())):
        for name, one in gradients(both, OFF, noise).items():
            torch.testing.assert_close(one, alone[0][name] + alone[1][name], rtol=1e-11, atol=1e-11)


def two_latents(split: bool, chained: bool = False) -> tuple[Trace, list[Tensor]]:
    """Two dimensions with parameters (B, 2), as two latents or as one; `chained`: the second is drawn given the first."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(4, 6, 2, generator=generator)
    loc = torch.randn(6, 2, generator=generator).requires_grad_()
    scale = (0.5 + torch.rand(6, 2, generator=generator)).requires_grad_()
    weight = torch.randn(6, 2, generator=generator).requires_grad_()

    def latent(name: str, of: slice, given: Tensor | float = 0.0) -> Latent:
        shape = noise[..., of].shape
        q = Independent(Normal(loc[:, of].expand(shape) + given, scale[:, of].expand(shape)), 1)
        z = q.base_dist.loc + q.base_dist.scale * noise[..., of]
        return Latent(name, q, Independent(Normal(torch.zeros(shape), 1.0), 1), Draw(z, lambda: q.log_prob(z)))

    if split:
        first = latent("z1", slice(0, 1))
        latents = (first, latent("z2", slice(1, 2), first.draw.value if chained else 0.0))
    else:
        latents = (latent("z", slice(0, 2)),)
    z = torch.cat([each.draw.value for each in latents], -1)
    px = Independent(Normal(weight * z, 0.5), 1)
    return Trace(torch.ones(6, 2), px, latents), [loc, scale, weight]


@pytest.mark.parametrize("make", [DReG, lambda: PIWAE(2), PathKL], ids=["dreg", "piwae", "path"])
def test_latents_drawn_independently_are_as_one(make: Callable[[], Term]) -> None:
    (two, own), (one, theirs) = two_latents(True), two_latents(False)
    both = [
        torch.autograd.grad(make()(trace).sum(), leaves, allow_unused=True)
        for trace, leaves in ((two, own), (one, theirs))
    ]
    for mine, expected in zip(*both, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [DReG, lambda: PIWAE(2), PathKL], ids=["dreg", "piwae", "path"])
def test_a_latent_drawn_given_another_is_refused(make: Callable[[], Term]) -> None:
    trace, _ = two_latents(True, chained=True)
    for ask in (make().check, make()):
        with pytest.raises(ValueError, match=r"'z2' is drawn given another one.*write objective=elbo"):
            ask(trace)


def without_path(kind: str) -> Trace:
    logits = torch.randn(2, 3, 4).requires_grad_()
    if kind == "choices":
        q = Independent(OneHotCategorical(logits=logits[..., None, :]), 1)
    else:
        q = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(torch.randn(2, 3, 4, 1), 1.0), 1))
    latent = Latent("z", q, q, draw(q))
    return Trace(torch.zeros(3, 1), Independent(Normal(torch.zeros(2, 3, 1), 1.0), 1), (latent,))


@pytest.mark.parametrize("make", [DReG, lambda: PIWAE(2), PathKL], ids=["dreg", "piwae", "path"])
@pytest.mark.parametrize("kind", ["choices", "mixture"])
def test_draws_without_a_path_are_refused(make: Callable[[], Term], kind: str) -> None:
    with pytest.raises(ValueError, match=r"posterior=normal"):
        make().check(without_path(kind))


@pytest.mark.parametrize(
    "q",
    [
        Normal(torch.randn(3), 1.3), Laplace(torch.randn(3), 0.4), Independent(Normal(torch.randn(3, 2), 0.2), 1),
        MultivariateNormal(torch.randn(3), torch.eye(3) + 0.3),
    ],
    ids=lambda q: type(q).__name__,
)  # fmt: skip
def test_a_distribution_held_still_is_the_same_and_knows_only_its_value(q: Any) -> None:
    leaf = torch.zeros((), requires_grad=True)
    q = type(q)(q.base_dist, 1) if isinstance(q, Independent) else q
    value = q.sample().requires_grad_()
    torch.testing.assert_close(detached(q).log_prob(value), q.log_prob(value), rtol=1e-13, atol=1e-13)
    moving = Normal(leaf + 1.0, (leaf + 1.0).exp())
    (by_value, by_leaf) = torch.autograd.grad(detached(moving).log_prob(value).sum(), [value, leaf], allow_unused=True)
    assert by_leaf is None
    torch.testing.assert_close(by_value, -(value.detach() - 1.0) / np.exp(2.0))


def test_arguments_out_of_range_are_refused() -> None:
    for make in (MIWAE, PIWAE):
        with pytest.raises(ValueError, match="groups is 0, expected 1 or more"):
            make(0)
        with pytest.raises(ValueError, match=r"6 draws do not fall into 4 groups"):
            make(4)(trace_of(parameters(OFF, 2), torch.randn(6, 2, 1)))
        with pytest.raises(ValueError, match=r"6 draws do not fall into 4 groups"):
            make(4).check(trace_of(parameters(OFF, 2), torch.randn(6, 2, 1)))
    with pytest.raises(ValueError, match=r"beta is 1.5, expected a share from 0"):
        CIWAE(1.5)


def test_only_what_bounds_the_evidence_is_called_a_bound() -> None:
    roles = {"positive": RenyiBound(0.5), "negative": RenyiBound(-1.0), "max": LargestWeight(), "miwae": MIWAE(2)}
    found = Objective(roles).roles
    assert found == {"positive": Role.BOUND, "negative": Role.OTHER, "max": Role.OTHER, "miwae": Role.BOUND}


def test_the_largest_weight_trains_with_its_draw_alone() -> None:
    noise = torch.randn(5, 30, 1)
    trace = trace_of(parameters(OFF, 30), noise)
    torch.testing.assert_close(LargestWeight()(trace), -trace.log_w.max(0).values, rtol=0, atol=0)
    best = trace.log_w.argmax(0)
    alone = noise[best, torch.arange(30)][None]
    for name, one in gradients(LargestWeight(), OFF, noise).items():
        torch.testing.assert_close(one, gradients(ImportanceBound(), OFF, alone)[name], rtol=1e-12, atol=1e-12)
