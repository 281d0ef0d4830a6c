"""The objective: weights, reductions, and the beta that results."""

# K samples, B batch, D values of one example, L latent dimensions

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vaekit.distributions import draw
from vaekit.models import Latent, Trace
from vaekit.objectives import (
    KL,
    MeanReduction,
    MonteCarloKL,
    Objective,
    Reconstruction,
    SumReduction,
    Term,
    effective_beta,
)
from vaekit.schedules import Constant, Linear, advance, last_end

pytestmark = pytest.mark.usefixtures("float64")


def make_trace(x_shape: tuple[int, ...] = (3, 4), z_shape: tuple[int, ...] = (2,), K: int = 2, B: int = 5) -> Trace:
    def normal(loc: Tensor, scale: Tensor) -> Independent:
        return Independent(Normal(loc, scale), loc.dim() - 2)

    loc, scale = torch.randn(K, B, *z_shape), torch.rand(K, B, *z_shape) + 0.2
    q, p = normal(loc, scale), normal(torch.zeros_like(loc), torch.ones_like(loc))
    px = normal(torch.randn(K, B, *x_shape), torch.full((K, B, *x_shape), 0.5))
    return Trace(torch.randn(B, *x_shape), px, (Latent("z", q, p, draw(q)),))


def elbo_terms(**weights: float | Linear) -> dict[str, object]:
    return {"terms": {"reconstruction": Reconstruction(), "kl": KL()}, "weights": weights}


def test_the_default_is_the_negative_elbo_averaged_over_the_batch() -> None:
    trace = make_trace()
    loss = Objective({"reconstruction": Reconstruction(), "kl": MonteCarloKL()})(trace)
    torch.testing.assert_close(loss.total, -trace.log_w.mean(), rtol=1e-13, atol=1e-13)
    assert loss.total.shape == ()
    assert {name: part.shape for name, part in loss.parts.items()} == {"reconstruction": (), "kl": ()}
    torch.testing.assert_close(loss.parts["reconstruction"], -trace.log_px.mean())
    assert {name: float(c) for name, c in loss.coefficients.items()} == {"reconstruction": 1.0, "kl": 1.0}


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_beta_multiplies_the_kl_and_nothing_else(beta: float) -> None:
    trace = make_trace()
    objective = Objective(**elbo_terms(kl=beta))
    expected = -trace.log_px.mean() + beta * trace.kl().mean()
    torch.testing.assert_close(objective(trace).total, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(objective(trace).parts["kl"], trace.kl().mean())  # parts are nats before weights
    assert effective_beta(objective, trace) == beta


@pytest.mark.parametrize(("x_shape", "z_shape"), [((3, 4), (2,)), ((1, 28, 20), (7,)), ((5,), (2, 3))])
def test_mean_reduction_divides_each_term_by_its_own_numbers(
    x_shape: tuple[int, ...], z_shape: tuple[int, ...]
) -> None:
    """What scripts with reduction="mean" minimise, written out; and its beta from the gradients, not from the code."""
    trace = make_trace(x_shape, z_shape)
    objective = Objective(**elbo_terms(kl=0.3), reduction=MeanReduction())
    x, px, q = trace.x, trace.px, trace.latents[0].q
    per_pixel = -px.base_dist.log_prob(x).mean()
    per_latent = (0.5 * (q.mean**2 + q.variance - 1.0) - q.stddev.log()).mean()
    torch.testing.assert_close(objective(trace).total, per_pixel + 0.3 * per_latent, rtol=1e-12, atol=1e-12)
    D, L = torch.Size(x_shape).numel(), torch.Size(z_shape).numel()
    assert effective_beta(objective, trace) == pytest.approx(0.3 * D / L, rel=1e-12)
    # d total / d KL over d total / d reconstruction, in nats
    loss = objective(trace)
    slopes = {name: float(loss.coefficients[name]) for name in loss.parts}
    in_nats = {"reconstruction": per_pixel.item() * D, "kl": per_latent.item() * L}
    assert {name: part.item() for name, part in loss.parts.items()} == pytest.approx(in_nats, rel=1e-12)
    assert slopes["kl"] / slopes["reconstruction"] == pytest.approx(0.3 * D / L, rel=1e-12)


def test_beta_is_not_tied_to_the_image_size_unless_asked_for() -> None:
    small, large = make_trace((1, 4, 4)), make_trace((1, 8, 8))
    by_sum, by_mean = (Objective(**elbo_terms(kl=2.0), reduction=r) for r in (SumReduction(), MeanReduction()))
    assert effective_beta(by_sum, small) == effective_beta(by_sum, large) == 2.0
    assert effective_beta(by_mean, large) == pytest.approx(4.0 * effective_beta(by_mean, small))


def test_effective_beta_counts_every_kl_and_knows_when_there_is_none() -> None:
    trace = make_trace()
    two = Objective({"r": Reconstruction(), "a": KL(), "b": MonteCarloKL()}, {"r": 0.5, "a": 1.0, "b": 2.0})
    assert effective_beta(two, trace) == pytest.approx(6.0)
    assert effective_beta(Objective({"r": Reconstruction()}), trace) is None
    assert effective_beta(Objective({"kl": KL()}), trace) is None
    assert effective_beta(Objective(**elbo_terms(reconstruction=0.0)), trace) is None


def test_weights_follow_their_schedules_on_the_one_clock() -> None:
    trace = make_trace()
    objective = Objective(**elbo_terms(kl=Linear(start=0.0, stop=1.0, steps=10)))
    assert last_end(objective) == 10
    for step, beta in [(0, 0.0), (5, 0.5), (1000, 1.0), (2, 0.2)]:
        advance(objective, step)
        assert effective_beta(objective, trace) == pytest.approx(beta, rel=1e-12)
        expected = -trace.log_px.mean() + beta * trace.kl().mean()
        torch.testing.assert_close(objective(trace).total, expected, rtol=1e-12, atol=1e-12)
    assert objective.state_dict() == {}


def test_a_term_about_the_batch_as_a_whole_is_welcome() -> None:
    class Whole(Term):
        def forward(self, trace: Trace) -> Tensor:
            return trace.x.sum()

    trace = make_trace()
    loss = Objective({"whole": Whole()}, {"whole": Constant(3.0)})(trace)
    torch.testing.assert_close(loss.total, 3.0 * trace.x.sum())


def test_a_weight_without_a_term_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['klx'\].*\['kl', 'reconstruction'\]"):
        Objective(**elbo_terms(klx=1.0))
    with pytest.raises(ValueError, match="term"):
        Objective({})


def test_gradients_reach_what_the_loss_depends_on() -> None:
    trace = make_trace()
    loc = trace.px.base_dist.loc.requires_grad_()
    fresh = Trace(trace.x, Independent(Normal(loc, 0.5), 2), trace.latents)
    Objective(**elbo_terms())(fresh).total.backward()
    torch.testing.assert_close(loc.grad, (loc.detach() - trace.x) / 0.25 / 10, rtol=1e-12, atol=1e-12)  # K B = 10
