"""The mixture and the VampPrior: densities against direct computation, and samples that follow them."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import kstest, norm

from vaekit.conditionals import Normal
from vaekit.distributions import draw, mixture
from vaekit.distributions.noise import PerExample, use
from vaekit.likelihoods import Bernoulli
from vaekit.models import VAE, flat
from vaekit.networks import MLP
from vaekit.objectives import KL, Objective, Reconstruction
from vaekit.priors import Mixture, Vamp

pytestmark = pytest.mark.usefixtures("float64")


def spread(event: tuple[int, ...], components: int = 4) -> Mixture:
    prior = Mixture(event, components)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return prior.requires_grad_(False)


def vae(prior: object, data: int = 6) -> VAE:
    network = partial(MLP, hidden_dims=(8,))
    return flat(network, network, Normal((2,)), prior, Bernoulli((data,)))  # type: ignore[arg-type]


@pytest.mark.parametrize("event", [(1,), (3,), (2, 2)])
def test_a_mixture_is_scipys(event: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    prior, z = spread(event), torch.randn(5, 7, *event)
    weights = prior.logits.softmax(0).numpy()
    parts = [
        math.log(w) + norm.logpdf(z.numpy(), loc.numpy(), np.exp(v.numpy() / 2)).reshape(5, 7, -1).sum(-1)
        for w, loc, v in zip(weights, prior.loc, prior.log_variance, strict=True)
    ]
    p = prior(torch.zeros(5, 7, 0), None)
    torch.testing.assert_close(p.log_prob(z), torch.from_numpy(logsumexp(parts, 0)))
    monkeypatch.setattr(mixture, "_NUMBERS", 1)
    torch.testing.assert_close(p.log_prob(z), torch.from_numpy(logsumexp(parts, 0)))


def integrated(p: torch.distributions.Distribution) -> None:
    """One, and mean and variance, by trapezoids: the batch shape of p is (1, 1), its event (1,)."""
    x = torch.linspace(-40, 40, 80_001)
    mass = torch.cat([p.log_prob(part[:, None, None]).exp() for part in x.split(20_000)])[:, 0] * (x[1] - x[0])
    torch.testing.assert_close(mass.sum(), torch.tensor(1.0), rtol=0, atol=1e-9)
    mean = (mass * x).sum()
    torch.testing.assert_close(p.mean.flatten(), mean[None], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(p.variance.flatten(), (mass * (x - mean) ** 2).sum()[None], rtol=1e-8, atol=1e-8)


def follows(draws: torch.Tensor, p: torch.distributions.Distribution) -> None:
    """Kolmogorov-Smirnov against the integral of the density: false alarm 1e-6."""
    x = torch.linspace(-40, 40, 40_001)
    heights = torch.cumsum(p.log_prob(x[:, None, None]).exp()[:, 0], 0) * (x[1] - x[0])
    assert kstest(draws.flatten().numpy(), lambda v: np.interp(v, x.numpy(), heights.numpy())).pvalue > 1e-6


def test_a_mixture_integrates_to_one_and_its_draws_follow_it() -> None:
    prior = spread((1,))
    one = prior(torch.zeros(1, 1, 0), None)
    integrated(one)
    many = prior(torch.zeros(2, 5000, 0), None)
    for draws in (draw(many).value, many.sample()):
        assert draws.shape == (2, 5000, 1)
        follows(draws, one)


def test_draws_belong_to_the_examples() -> None:
    prior = spread((3,))
    with use(PerExample(3, torch.arange(6))):
        whole = draw(prior(torch.zeros(2, 6, 0), None)).value
    with use(PerExample(3, torch.tensor([5, 2]))):
        assert torch.equal(draw(prior(torch.zeros(2, 2, 0), None)).value, whole[:, [5, 2]])


def test_the_vamp_prior_is_the_mean_of_the_posteriors_at_its_inputs() -> None:
    model = vae(Vamp((2,), (6,), components=5))
    prior = model.hierarchy.open()[0].prior
    assert isinstance(prior, Vamp)
    z = torch.randn(3, 4, 2)
    u = torch.sigmoid(prior.raw)
    context = model.encoder(u).detach()
    parts = [norm.logpdf(z.numpy(), c[:2].numpy(), np.exp(c[2:].numpy() / 2)).sum(-1) - math.log(5) for c in context]
    p = prior(torch.zeros(3, 4, 0), model)
    torch.testing.assert_close(p.log_prob(z).detach(), torch.from_numpy(logsumexp(parts, 0)))


def test_the_vamp_prior_integrates_to_one_and_samples_are_from_it() -> None:
    """Samples of the model are from the prior and not from N(0, I): the posteriors lie far away."""
    network = partial(MLP, hidden_dims=(8,))
    model = flat(network, network, Normal((1,)), Vamp((1,), (6,), components=3), Bernoulli((6,)))
    with torch.no_grad():
        model.encoder.layers[-1].bias.copy_(torch.tensor([20.0, -1.0]))  # type: ignore[union-attr, operator, index]
    prior = model.hierarchy.open()[0].prior
    with torch.no_grad():
        one = prior(torch.zeros(1, 1, 0), model)
        integrated(one)
        seen = []
        model.decoder.register_forward_hook(lambda module, given, out: seen.append(given[0]))
        model.sample(3000)
        follows(seen[0], one)
        many = prior(torch.zeros(2, 1500, 0), model)
        follows(draw(many).value, one)
        follows(many.sample(), one)
    assert seen[0].mean() > 15


def test_pseudo_inputs_begin_as_examples_and_can_move_from_there() -> None:
    """Binary data lie on the edge of their range, where a hard tanh has no gradient."""
    examples = torch.rand(20, 6).round()
    model = vae(Vamp((2,), (6,), components=8))
    prior = model.hierarchy.open()[0].prior
    assert isinstance(prior, Vamp)
    prior.begin(examples)
    assert torch.equal(prior.pseudo_inputs.round(), examples[:8])
    assert (prior.pseudo_inputs - examples[:8]).abs().max() < 0.06
    Objective({"kl": KL()})(model(examples)).total.backward()
    assert prior.raw.grad is not None
    assert bool((prior.raw.grad != 0).all())
    few = Vamp((2,), (6,), components=8)
    few.begin(torch.randn(3, 6) * 10)
    assert few.low < 0 < few.high
    torch.testing.assert_close(few.pseudo_inputs[:3], few.pseudo_inputs[3:6])


def test_the_gradient_of_the_vamp_prior_is_that_of_finite_differences() -> None:
    model = vae(Vamp((2,), (6,), components=3))
    prior = model.hierarchy.open()[0].prior
    z = torch.randn(1, 2, 2)

    def log_prob(raw: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(prior, {"raw": raw}, (torch.zeros(1, 2, 0), model)).log_prob(z)

    assert torch.autograd.gradcheck(log_prob, (prior.raw.detach().clone().requires_grad_(),), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("prior", [lambda: Mixture((2,), 3), lambda: Vamp((2,), (6,), 4)], ids=["mixture", "vamp"])
def test_a_model_learns_its_prior(prior: object) -> None:
    model, x = vae(prior()), torch.cat([torch.zeros(16, 6), torch.ones(16, 6)])  # type: ignore[operator]
    objective = Objective({"recon": Reconstruction(), "kl": KL()})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    own = model.hierarchy.open()[0].prior
    before = [parameter.detach().clone() for parameter in own.parameters()]
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = objective(model(x)).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.2
    assert all(not torch.equal(a, b) for a, b in zip(before, own.parameters(), strict=True))


@pytest.mark.parametrize("make", [lambda n: Mixture((2,), n), lambda n: Vamp((2,), (6,), n)])
def test_a_mixture_of_nothing_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match="components is 0"):
        make(0)  # type: ignore[operator]
