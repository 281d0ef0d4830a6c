"""The model whose library size is latent: the prior of the data, a posterior that begins there, and all the rest of a model."""

# K samples, B batch, L latent dimensions

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from vaekit.compose import compose, data_node
from vaekit.conditionals import Normal
from vaekit.likelihoods import ZeroInflatedNegativeBinomial
from vaekit.models import VAE, latent_library
from vaekit.models.library import LibraryPosterior, LibraryPrior, log_library_moments
from vaekit.networks import MLP, Conditioned, Covariates, LatentCompositional, LogCounts
from vaekit.priors import StandardNormal
from vaekit.recipe import make_session, open_data, resolved
from vaekit.training import fit

pytestmark = pytest.mark.usefixtures("float64")

L, GENES = 3, 7


@pytest.fixture
def model() -> VAE:
    def mlp(**shapes: torch.Size) -> MLP:
        return MLP(**shapes, hidden_dims=(5,))

    def told(**shapes: torch.Size) -> Conditioned:
        return Conditioned(**shapes, network=mlp, condition=Covariates(2))

    return latent_library(
        encoder=lambda **shapes: LogCounts(**shapes, network=mlp),
        decoder=lambda **shapes: LatentCompositional(**shapes, network=told),
        posterior=Normal((L,)),
        prior=StandardNormal((L,)),
        likelihood=ZeroInflatedNegativeBinomial((GENES,)),
    )


def counts(n: int) -> Tensor:
    return 1.0 + torch.poisson(30.0 * torch.rand(n, GENES))


def told_rows(n: int) -> Tensor:
    return torch.randn(n, 2)


def begun(model: VAE) -> Tensor:
    x = counts(500)
    for part in model.modules():
        if hasattr(part, "begin"):
            part.begin(x)
    return x


def test_the_prior_is_that_of_the_data(model: VAE) -> None:
    logs = begun(model).sum(1).log()
    p = model.hierarchy.levels[1].prior(torch.zeros(2, 4, L), model)
    assert p.batch_shape == (2, 4)
    assert p.event_shape == (1,)
    expected = norm.logpdf(3.3, logs.mean(), logs.std(correction=0))
    torch.testing.assert_close(p.log_prob(torch.tensor([3.3])), torch.full((2, 4), float(expected)))


def test_a_fresh_posterior_is_near_the_prior() -> None:
    x = counts(500)
    q, p = LibraryPosterior(), LibraryPrior()
    for part in (q, p):
        part.begin(x)
    at_zero, prior = q(torch.zeros(1, 2, 2), None), p(torch.zeros(1, 2, 0), None)
    torch.testing.assert_close(at_zero.mean, prior.mean)
    torch.testing.assert_close(at_zero.stddev, prior.stddev)
    moved = q(torch.tensor([[[0.3, 2.0 * math.log(0.1)]]]), None)
    torch.testing.assert_close(moved.mean, prior.mean[:, :1] + 0.3)
    torch.testing.assert_close(moved.stddev, prior.stddev[:, :1] * 0.1)


def test_libraries_that_are_all_alike_still_have_a_prior() -> None:
    _, scale = log_library_moments(torch.ones(5, GENES))
    assert scale == 0.01


def test_there_are_two_latents_and_the_library_is_the_last(model: VAE) -> None:
    begun(model)
    x, context = counts(4), told_rows(4)
    trace = model(x, 5, context)
    assert [latent.name for latent in trace.latents] == ["z", "log_library"]
    assert [latent.draw.value.shape for latent in trace.latents] == [(5, 4, L), (5, 4, 1)]
    assert trace.log_w.shape == (5, 4)
    assert model.encode(x, context).shape == (4, L + 1)
    assert model.posterior(x, context).event_shape == (L,)
    assert model.sample(4, context).shape == (4, GENES)


def test_means_add_up_to_the_latent_library(model: VAE) -> None:
    begun(model)
    z = torch.randn(4, L + 1)
    total = model.decode(z, told_rows(4)).log_mean[0].logsumexp(-1)
    torch.testing.assert_close(total, z[:, -1])


def test_what_began_is_kept_in_the_weights(model: VAE) -> None:
    begun(model)
    state = model.state_dict()
    x, context = counts(4), told_rows(4)
    code = model.encode(x, context)
    begun(model)
    assert not torch.equal(model.encode(x, context), code)
    model.load_state_dict(state)


def test_it_finds_the_libraries(cells_file: Path) -> None:
    """They differ by a factor of 20, and nothing but the counts tells the encoder."""
    torch.set_default_dtype(torch.float32)
    try:
        config = compose([
            "data=cells", f"data.path={cells_file}", "model=scvi_latent_library", "hidden_dim=32", "training.batch_size=32",
            "optimizer.lr=0.003", "device=cpu", "training.epochs=30",
        ])  # fmt: skip
        dataset = open_data(data_node(config))
        session = make_session(resolved(config, dataset), dataset, torch.device("cpu"))
        with session.generators.borrowed():
            fit(session.model, session.objective, session.players, session.stream, steps=200, steps_per_epoch=10)
        batch = dataset.test.batch(torch.arange(len(dataset.test)))
        found = session.model.eval().encode(batch.x, batch.context)[:, -1]
    finally:
        torch.set_default_dtype(torch.float64)
    assert torch.corrcoef(torch.stack([found, batch.x.sum(1).log()]))[0, 1] > 0.95
