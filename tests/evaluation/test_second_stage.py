"""Latents as data, and how a codebook is used by all of them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from vaekit.conditionals import Delta, EMACodebook, Normal, Quantized, RelaxedCategorical
from vaekit.errors import ConfigError
from vaekit.evaluation import Plan
from vaekit.evaluation.codebook import codebook_counts, codebook_estimates, codes
from vaekit.evaluation.encoded import encoded, fit_priors, only_level
from vaekit.likelihoods import Bernoulli
from vaekit.models import VAE, Level, TopDown, flat, quantized
from vaekit.models.level import DrawOnly, FeaturesOnly
from vaekit.networks import MLP
from vaekit.priors import FittedNormal, StandardNormal, UniformCategorical, UniformCodes
from vaekit.second_stage import NAMES, _made

NETWORK = partial(MLP, hidden_dims=(8,))


def vae(posterior: Any, prior: Any) -> VAE:
    return flat(NETWORK, NETWORK, posterior((2,)), prior((2,)), Bernoulli((1, 8, 8)))


def vq(codes: int = 6) -> VAE:
    posterior = partial(Quantized, codebook=partial(EMACodebook, codes=codes))
    model = quantized(NETWORK, NETWORK, posterior, UniformCodes, Bernoulli((1, 8, 8)), embedding_dim=3)
    model(torch.rand(30, 1, 8, 8).round())  # the codebook begins
    return model


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(23, 1, 8, 8).round()


def test_a_random_posterior_gives_several_latents_of_each_example(x: torch.Tensor, split: Any) -> None:
    model = vae(Normal, StandardNormal)
    z = encoded(model, split(x), Plan(batch_size=10, samples=1), draws=2000)
    assert z.shape == (2000, 23, 2)
    q = model.posterior(x)
    assert (z.mean(0) - q.mean[0]).abs().max() < 6 * q.stddev.max().item() / 2000**0.5
    torch.testing.assert_close(z.std(0), q.stddev[0].detach(), rtol=0.15, atol=0)
    other = encoded(model, split(x), Plan(batch_size=7, samples=1), draws=2000)
    torch.testing.assert_close(z, other)


@pytest.mark.parametrize("make", [lambda: vae(Delta, FittedNormal), vq], ids=["delta", "quantised"])
def test_a_certain_code_is_encoded_once_and_exactly(make: Any, x: torch.Tensor, split: Any) -> None:
    model = make().eval()
    z = encoded(model, split(x), Plan(batch_size=10))
    assert z.shape == (1, 23, *model.hierarchy.open()[0].event_shape)
    torch.testing.assert_close(z.flatten(2)[0], model.encode(x))


def test_the_models_own_prior_is_fitted_to_its_codes(x: torch.Tensor, split: Any) -> None:
    model = vae(Delta, FittedNormal)
    with pytest.raises(RuntimeError, match="vaekit prior RUN normal"):
        model.sample(3)
    assert fit_priors(model, split(x), Plan())
    prior = only_level(model).prior
    assert isinstance(prior, FittedNormal)
    torch.testing.assert_close(prior.loc, model.eval().encode(x).mean(0))
    assert model.sample(3).shape == (3, 1, 8, 8)
    assert not fit_priors(vae(Normal, StandardNormal), split(x), Plan())


def test_several_latents_are_refused(x: torch.Tensor, split: Any) -> None:
    levels = [Level(name, Delta((2,)), FittedNormal((2,)), FeaturesOnly(), DrawOnly()) for name in ("a", "b")]
    model = VAE(NETWORK((1, 8, 8), (2,)), TopDown(levels), NETWORK((2,), (1, 8, 8)), Bernoulli((1, 8, 8)))
    for ask in (encoded, fit_priors):
        with pytest.raises(ConfigError, match=r"several latents \(a, b\)"):
            ask(model, split(x), Plan())


@pytest.mark.parametrize("size", [1, 5, 23])
def test_codes_of_a_split_do_not_depend_on_the_batch_size(size: int, x: torch.Tensor, split: Any) -> None:
    """Nor on the mode that the model was in, which counts nothing."""
    model = vq().train()
    usage = only_level(model).posterior.codebook.usage.clone()
    found = codes(model, split(x), Plan(batch_size=size))
    assert found is not None
    values, count = found
    assert count == 6
    assert values.shape == (23, 4)
    assert torch.equal(values, model.eval().posterior(x).codes[0].flatten(1))
    assert torch.equal(only_level(model).posterior.codebook.usage, usage)
    assert codes(vae(Normal, StandardNormal), split(x), Plan()) is None


def test_perplexity_is_of_the_whole_split() -> None:
    """Four codes evenly and one never: 4 of 5; a single code: 1. By batches of one example each would be 1."""
    even = torch.arange(4).repeat(25)[:, None].expand(100, 3)
    assert codebook_counts(even, 5).tolist() == [75, 75, 75, 75, 0]
    numbers = codebook_estimates(even, 5)
    assert numbers["codebook_perplexity"].value == pytest.approx(4.0)
    assert numbers["codebook_used"].value == pytest.approx(0.8)
    assert numbers["codebook_used"].n == 100
    assert codebook_estimates(torch.zeros(10, 2, dtype=torch.int64), 5)["codebook_perplexity"].value == pytest.approx(
        1.0
    )
    uneven = torch.tensor([0, 0, 0, 1])[:, None]
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert codebook_estimates(uneven, 2)["codebook_perplexity"].value == pytest.approx(math.exp(entropy))


def test_the_bootstrap_error_is_that_of_repeated_samples() -> None:
    """Within a third of the spread over 200 data sets of 200 examples; the standard error of that ratio is about 0.09."""
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    sets = [torch.multinomial(probabilities, 200, replacement=True)[:, None] for _ in range(200)]
    values = torch.tensor([codebook_estimates(s, 4, resamples=2)["codebook_perplexity"].value for s in sets])
    error = codebook_estimates(sets[0], 4, resamples=200)["codebook_perplexity"].standard_error
    assert error == pytest.approx(float(values.std()), rel=1 / 3)


@pytest.mark.parametrize("name", NAMES)
def test_no_prior_is_fitted_to_categories(name: str) -> None:
    parts = RelaxedCategorical((2, 3)), UniformCategorical((2, 3))
    model = flat(NETWORK, NETWORK, *parts, Bernoulli((1, 8, 8)))
    with pytest.raises(ConfigError, match="are categories"):
        _made(model, name)
