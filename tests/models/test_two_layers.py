"""Two stochastic layers inferred from the data up: exact where all is linear and normal, and whole in a training."""

# K samples, B batch, D values of one example

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from vaekit.conditionals import Normal as Diagonal
from vaekit.data.batch import Split
from vaekit.distributions.noise import PerExample, use
from vaekit.evaluation.passes import Plan, encodings
from vaekit.likelihoods import Normal
from vaekit.math.importance import importance_bound
from vaekit.models import VAE, BottomUp, Level, Trace, two_layers
from vaekit.models.bottom_up import BelowOnly
from vaekit.models.level import DrawOnly, FeaturesOnly
from vaekit.networks import MLP
from vaekit.objectives import KL, FreeBits, MonteCarloKL
from vaekit.priors import StandardNormal, Vamp

Make = Callable[..., Any]
D = 5


class World:
    """h2 ~ N(0, I), h1 | h2 ~ N(A h2, s^2 I), x | h1 ~ N(W h1 + b, sigma^2 I), and everything about it in closed form."""

    s, sigma = 0.6, 0.5

    def __init__(self, multivariate: Make, linear: Make) -> None:
        self.A, self.W, self.b = torch.randn(3, 2), torch.randn(D, 3), torch.randn(D)
        self.multivariate, self.linear = multivariate, linear
        self.lower_prior = self.A @ self.A.T + self.s**2 * torch.eye(3)
        self.covariance = self.W @ self.lower_prior @ self.W.T + self.sigma**2 * torch.eye(D)

    def evidence(self, x: Tensor) -> Tensor:
        return MultivariateNormal(self.b, self.covariance).log_prob(x)

    def model(self, shift: float = 0.0, widen: float = 1.0) -> VAE:
        """With the exact q(h1|x) q(h2|h1), each moved by `shift` and its covariance times `widen`."""
        gain = self.lower_prior @ self.W.T @ torch.linalg.inv(self.covariance)
        lower = self.lower_prior - gain @ self.W @ self.lower_prior
        up = self.A.T @ torch.linalg.inv(self.lower_prior)
        upper = torch.eye(2) - up @ self.A
        q1 = self.multivariate(gain, shift - gain @ self.b, widen * lower)
        q2 = self.multivariate(up, torch.zeros(2) + shift, widen * upper)
        p1 = self.multivariate(self.A, torch.zeros(3), self.s**2 * torch.eye(3))
        levels = [
            Level("h2", q2, StandardNormal((2,)), BelowOnly(torch.nn.Identity()), DrawOnly()),
            Level("h1", q1, p1, FeaturesOnly(), DrawOnly()),
        ]
        decoder = self.linear(self.W, self.b)(None, None)
        return VAE(torch.nn.Identity(), BottomUp(levels), decoder, Normal((D,), scale=self.sigma))


@pytest.fixture
def world(float64: None, multivariate: Make, linear: Make) -> World:
    return World(multivariate, linear)


@pytest.mark.parametrize("samples", [1, 8])
def test_exact_posteriors_make_every_weight_the_evidence(world: World, samples: int) -> None:
    x = torch.randn(4, D)
    trace = world.model()(x, samples=samples)
    assert [latent.name for latent in trace.latents] == ["h2", "h1"]
    torch.testing.assert_close(trace.log_w, world.evidence(x).expand(samples, 4), rtol=1e-10, atol=1e-10)


def test_the_bound_of_wrong_posteriors_meets_the_evidence(world: World) -> None:
    x = torch.randn(32, D)
    log_w = world.model(shift=0.2, widen=1.3)(x, samples=10_000).log_w.detach()
    gap = world.evidence(x) - importance_bound(log_w)
    assert (world.evidence(x) - log_w.mean(0)).mean() > 0.1
    assert abs(gap.mean().item()) < 0.01  # its standard error is about 0.003


def test_the_kl_is_that_of_the_joint_posterior(world: World) -> None:
    """KL(q(h1, h2|x) || p(h1, h2)), both jointly normal, which the KL of both latents has as its mean."""
    model, x = world.model(shift=0.3, widen=1.4), torch.randn(1, D)
    q1, q2 = (level.posterior for level in reversed(model.hierarchy.open()))
    first = q1(x[None], None)
    tilt, lower, upper = q2.weight, first.covariance_matrix[0, 0], q2.tril @ q2.tril.T
    mean = torch.cat([first.mean[0, 0], tilt @ first.mean[0, 0] + q2.bias])
    covariance = torch.cat(
        [torch.cat([lower, lower @ tilt.T], 1), torch.cat([tilt @ lower, tilt @ lower @ tilt.T + upper], 1)]
    )
    prior = torch.cat([torch.cat([world.lower_prior, world.A], 1), torch.cat([world.A.T, torch.eye(2)], 1)])
    exact = kl_divergence(MultivariateNormal(mean, covariance), MultivariateNormal(torch.zeros(5), prior))
    draws = model(x, samples=20_000).kl().detach()[:, 0]
    assert abs(draws.mean() - exact) < 5 * draws.std() / 20_000**0.5  # false alarm: 6e-7


def diagonal_model() -> VAE:
    return two_layers(
        encoder=lambda **shapes: MLP(**shapes, hidden_dims=(6,), activation="tanh"),
        decoder=lambda **shapes: MLP(**shapes, hidden_dims=(6,), activation="tanh"),
        posterior=Diagonal((2,)),
        prior=StandardNormal((2,)),
        likelihood=Normal((D,)),
        upper_encoder=lambda **shapes: MLP(**shapes, hidden_dims=(4,), activation="tanh"),
        upper_decoder=lambda **shapes: MLP(**shapes, hidden_dims=(4,), activation="tanh"),
        lower_posterior=Diagonal((3,)),
        lower_prior=Diagonal((3,)),
    )


@pytest.mark.usefixtures("float64")
def test_the_closed_form_of_the_lower_kl_would_be_another_number() -> None:
    """p(h1|h2) hangs on h1 through h2: the KL of q(h1|x) to it is too large, and is not what is used."""
    model = diagonal_model()
    with torch.no_grad():
        for parameter in model.hierarchy.parameters():
            parameter.mul_(3.0)
    trace = model(torch.randn(1, D), samples=20_000)
    top, low = trace.latents
    assert (top.entangled, low.entangled) == (False, True)
    assert (top.chained, low.chained) == (True, False)
    torch.testing.assert_close(top.kl(), kl_divergence(top.q, top.p))
    torch.testing.assert_close(low.kl(), low.log_q - low.log_p)
    closed = kl_divergence(low.q, low.p)
    assert abs((closed - low.kl()).mean()) > 6 * (closed - low.kl()).std() / 20_000**0.5


@pytest.mark.usefixtures("float64")
def test_terms_and_dimensions_add_up() -> None:
    trace: Trace = diagonal_model()(torch.randn(7, D), samples=3)
    levels = [latent.kl_per_dimension() for latent in trace.latents]
    assert [tuple(level.shape) for level in levels] == [(3, 7, 2), (3, 7, 3)]
    torch.testing.assert_close(torch.cat(levels, -1).sum(-1), trace.kl())
    torch.testing.assert_close(KL()(trace), trace.kl().mean(0))
    top = trace.latents[0]
    torch.testing.assert_close(MonteCarloKL()(trace), trace.kl().mean(0) + (top.log_q - top.log_p - top.kl()).mean(0))
    assert FreeBits(0.0)(trace).shape == ()


def test_codes_rebuild_and_are_the_posterior_means(one_thread: None) -> None:
    model, x = diagonal_model().eval(), torch.randn(6, D)
    z = model.encode(x)
    assert z.shape == model.encode_scale(x).shape == (6, 5)
    assert torch.equal(model.decode(z).mean[0], model.reconstruct(x))
    assert torch.equal(model.posterior(x).mean[0], z[:, 2:])  # of the layer next to the data
    with pytest.raises(ValueError, match="5 dimensions in all"):
        model.decode(z[:, :4])
    assert model.sample(9).shape == (9, D)


def test_each_example_has_its_own_noise(one_thread: None) -> None:
    model, x = diagonal_model().eval(), torch.randn(6, D)
    with use(PerExample(3, torch.arange(6))):
        whole = model(x, samples=4).log_w
    with use(PerExample(3, torch.arange(2, 5))):
        part = model(x[2:5], samples=4).log_w
    torch.testing.assert_close(whole[:, 2:5], part, rtol=1e-5, atol=1e-5)


def test_codes_do_not_depend_on_the_batch(one_thread: None) -> None:
    model, split = diagonal_model(), Split(torch.randn(11, D), ())
    whole, parts = (encodings(model, split, Plan(batch_size=size))[0] for size in (11, 3))
    torch.testing.assert_close(whole, parts)


def test_a_prior_that_asks_for_the_upper_posterior_is_refused() -> None:
    shapes: dict[str, Any] = dict.fromkeys(("encoder", "decoder", "upper_encoder", "upper_decoder"), MLP)
    with pytest.raises(ValueError, match="write prior=standard or prior=mixture"):
        two_layers(
            **shapes,
            posterior=Diagonal((2,)),
            prior=Vamp((2,), (D,), 3),
            likelihood=Normal((D,)),
            lower_posterior=Diagonal((3,)),
            lower_prior=Diagonal((3,)),
        )


def test_levels_need_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="different names, received \\[\\]"):
        BottomUp([])


OVERRIDES = (
    *("model=two_layers", "objective=iwae", "training.samples=3", "training.epochs=3"),
    *("hidden_dim=12", "lower_dim=5", "upper_hidden_dim=6"),
)


def test_stopped_and_resumed_it_is_the_same_bit_for_bit(train: Make, same: Make) -> None:
    whole = train("whole", *OVERRIDES)
    same(whole, train("parts", *OVERRIDES, stops=(2, 7)))
    assert {"elbo", "kl", "active_units"} <= set(whole.metrics)
