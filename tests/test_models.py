"""Whole models learn, and survive being written down."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from vaekit.conditionals import Normal as NormalPosterior
from vaekit.distributions.noise import PerExample, use
from vaekit.likelihoods import Bernoulli, LearnedScaleNormal, Likelihood, Normal, OptimalScaleNormal
from vaekit.models import VAE, flat
from vaekit.networks import MLP, ConvDecoder, ConvEncoder
from vaekit.objectives import KL, MonteCarloKL, Objective, Reconstruction
from vaekit.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("float64")

SHAPE = (1, 8, 7)
STEPS = 30


def model(encoder: Callable[..., object], decoder: Callable[..., object], likelihood: type[Likelihood]) -> VAE:
    return flat(encoder, decoder, NormalPosterior((4,)), StandardNormal((4,)), likelihood(SHAPE))


MLP_PAIR = (partial(MLP, hidden_dims=(32,)), partial(MLP, hidden_dims=(32,)))
CONV_PAIR = (partial(ConvEncoder, channels=(8, 8), hidden_dim=32), partial(ConvDecoder, channels=(8, 8), hidden_dim=32))
MODELS = {
    f"{name}, {likelihood.__name__}": partial(model, *pair, likelihood)
    for name, pair in {"mlp": MLP_PAIR, "conv": CONV_PAIR}.items()
    for likelihood in (Bernoulli, Normal, LearnedScaleNormal, OptimalScaleNormal)
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def made(request: pytest.FixtureRequest) -> Callable[[], VAE]:
    return request.param


def bars() -> Tensor:
    """64 binary images, each of one vertical bar of width 3 at one of five places: two bits of structure and no noise."""
    x = torch.zeros(64, *SHAPE)
    for i in range(64):
        x[i, :, :, i % 5 : i % 5 + 3] = 1.0
    return x


def loss(made: VAE, x: Tensor, objective: Objective) -> float:
    """At noise that belongs to the examples, in evaluation mode: one number for one set of weights."""
    made.eval()
    with torch.no_grad(), use(PerExample(0, torch.arange(len(x)))):
        return float(objective(made(x, samples=4)).total)


def train(made: VAE, x: Tensor, objective: Objective, lr: float = 1e-2) -> None:
    optimizer = torch.optim.Adam(made.parameters(), lr=lr)
    made.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        objective(made(x)).total.backward()
        optimizer.step()


@pytest.mark.parametrize("kl", [KL, MonteCarloKL])
def test_thirty_steps_improve_the_loss(made: Callable[[], VAE], kl: type) -> None:
    """By two nats and more: a normal likelihood of scale 1 has little more to give, the others gain ten or a hundred."""
    network, x = made(), bars()
    objective = Objective({"reconstruction": Reconstruction(), "kl": kl()})
    before = loss(network, x, objective)
    train(network, x, objective)
    after = loss(network, x, objective)
    assert after < before - 2.0, f"{before:.2f} -> {after:.2f} nats"


@pytest.mark.parametrize("likelihood", [Bernoulli, Normal, LearnedScaleNormal, OptimalScaleNormal])
def test_reconstructions_come_to_know_more_than_the_mean_image(likelihood: type[Likelihood]) -> None:
    """A model whose code says nothing has the error of the mean image; thirty steps bring these below a third of it."""
    network, x = model(*MLP_PAIR, likelihood), bars()
    train(network, x, Objective({"reconstruction": Reconstruction(), "kl": KL()}, {"kl": 0.1}))
    error = (network.reconstruct(x) - x).square().mean()
    assert error < (x - x.mean(0)).square().mean() / 3


def test_a_state_dict_carries_the_whole_model(made: Callable[[], VAE]) -> None:
    network, x = made(), bars()
    train(network, x, Objective({"reconstruction": Reconstruction(), "kl": KL()}))
    other = made()
    missing = other.load_state_dict({name: value.clone() for name, value in network.state_dict().items()})
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    for which in (network, other):
        which.eval()

    def outputs(which: VAE) -> list[Tensor]:
        with torch.no_grad(), use(PerExample(5, torch.arange(len(x)))):
            trace = which(x, samples=2)
        return [trace.log_w, trace.kl(), which.encode(x), which.encode_scale(x), which.reconstruct(x)]

    for a, b in zip(outputs(network), outputs(other), strict=True):
        assert torch.equal(a, b)
    torch.manual_seed(9)
    drawn = network.sample(3)
    torch.manual_seed(9)
    assert torch.equal(other.sample(3), drawn)


def test_training_is_repeatable(made: Callable[[], VAE]) -> None:
    x, states = bars(), []
    for _ in range(2):
        torch.manual_seed(4)
        network = made()
        train(network, x, Objective({"reconstruction": Reconstruction(), "kl": KL()}))
        states.append(network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
