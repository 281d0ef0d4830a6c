"""Walks through the latent space: the order of the dimensions, what is decoded, where it starts; nothing is drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vaekit.conditionals import Delta
from vaekit.evaluation import kl_per_dimension
from vaekit.evaluation.passes import Plan, encodings
from vaekit.evaluation.walks import (
    Relevance,
    aggregate_draws,
    interpolate,
    is_real,
    posterior_means,
    prior_mean,
    relevance,
    traverse,
)
from vaekit.likelihoods import Bernoulli
from vaekit.models import flat
from vaekit.networks import MLP
from vaekit.priors import StandardNormal

PLAN = Plan(batch_size=7, samples=1, seed=0)


@pytest.fixture
def data(split: Any) -> Any:
    torch.manual_seed(4)
    return split(torch.bernoulli(torch.full((40, 5), 0.5)))


def decode(model: Any, z: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model.decode(z).mean[0]


def test_the_dimensions_that_tell_most_come_first_and_say_how_much(tiny_vae: Any, data: Any) -> None:
    kl = kl_per_dimension(tiny_vae, data, PLAN)
    order = sorted(range(3), key=lambda d: -float(kl[d]))
    walk = traverse(tiny_vae, data, PLAN, dims=3, extent=(-3, 3))
    assert walk.rows == tuple(f"z[{d}], {kl[d]:.2f} nats" for d in order)
    moved = walk.codes.diff(dim=1).abs().sum(1)
    assert [int(row.argmax()) for row in moved] == order
    assert (kl[order].diff() <= 0).all()
    assert traverse(tiny_vae, data, PLAN, dims=2, extent=(-3, 3)).rows == walk.rows[:2]


def test_each_picture_is_what_its_code_decodes_to(tiny_vae: Any, data: Any) -> None:
    walk = traverse(tiny_vae, data, PLAN, dims=3, steps=5, extent=(-2, 2))
    assert walk.codes.shape == (3, 5, 3)
    assert walk.images.shape == (3, 5, 5)
    for row in range(3):
        for step, value in enumerate([-2, -1, 0, 1, 2]):
            wanted = torch.zeros(1, 3)
            wanted[0, relevance(tiny_vae, data, PLAN).order[row]] = value
            torch.testing.assert_close(walk.codes[row, step][None], wanted)
            torch.testing.assert_close(walk.images[row, step], decode(tiny_vae, wanted)[0])
    assert walk.columns == ("-2", "-1", "0", "1", "2")


def test_it_starts_from_the_code_of_an_example(tiny_vae: Any, data: Any) -> None:
    tiny_vae.eval()
    with torch.no_grad():
        code = tiny_vae.encode(data.stored[11:12])[0]
    walk = traverse(tiny_vae, data, PLAN, index=11, dims=3, steps=4, extent=(-2, 2))
    for row, dimension in enumerate(relevance(tiny_vae, data, PLAN).order):
        others = [d for d in range(3) if d != dimension]
        torch.testing.assert_close(walk.codes[row][:, others], code[others].expand(4, 2))
        torch.testing.assert_close(walk.codes[row, :, dimension], torch.linspace(-2, 2, 4))
    assert "the code of example 11" in walk.caption


def test_the_mean_of_a_prior(exact: Any, tiny_vae: Any) -> None:
    assert torch.equal(prior_mean(tiny_vae), torch.zeros(3))
    assert torch.equal(prior_mean(exact), torch.zeros(2))


def test_quantiles_are_those_of_the_aggregate_posterior(exact: Any, pca: Any, split: Any) -> None:
    """With the exact posterior it is the prior, so the quantiles are those of a standard normal."""
    torch.manual_seed(5)  # not 0, which evaluation gives to posteriors that draw by themselves
    n = 20_000
    x = torch.randn(n, 2) @ pca.weight.T + pca.bias + pca.sigma * torch.randn(n, 5)
    plan = Plan(batch_size=5000, samples=1, seed=0)
    drawn = aggregate_draws(exact, split(x), plan)
    assert abs(drawn.mean(0)).max() < 4 / n**0.5
    walk = traverse(exact, split(x), plan, dims=2, steps=3)
    assert walk.columns == ("1 %", "50 %", "99 %")
    for row, dimension in enumerate(relevance(exact, split(x), plan).order):
        values = walk.codes[row, :, dimension]
        wanted = torch.special.ndtri(torch.tensor([0.01, 0.5, 0.99]))
        density = torch.exp(-0.5 * wanted**2) / (2 * torch.pi) ** 0.5
        error = (torch.tensor([0.01 * 0.99, 0.25, 0.01 * 0.99]) / n).sqrt() / density
        assert ((values - wanted).abs() < 4.5 * error).all()  # false alarm: 4e-5


def test_the_silent_dimensions_are_told_in_words_and_not_drawn(tiny_vae: Any, data: Any, monkeypatch: Any) -> None:
    from vaekit.evaluation import walks

    monkeypatch.setattr(walks, "kl_per_dimension", lambda *_: torch.tensor([0.004, 2.0, 0.0099]))
    walk = traverse(tiny_vae, data, PLAN, extent=(-3, 3))
    assert walk.rows == ("z[1], 2.00 nats",)
    assert "2 of 3 are inactive (KL < 0.01 nats)" in walk.caption
    assert len(traverse(tiny_vae, data, PLAN, dims=2, extent=(-3, 3)).rows) == 2
    monkeypatch.setattr(walks, "kl_per_dimension", lambda *_: torch.tensor([0.01, 2.0, 5.0]))
    walk = traverse(tiny_vae, data, PLAN, dims=1, extent=(-3, 3))
    assert "2 more active ones not shown" in walk.caption
    assert "inactive" not in walk.caption
    monkeypatch.setattr(walks, "kl_per_dimension", lambda *_: torch.zeros(3))
    assert len(traverse(tiny_vae, data, PLAN, extent=(-3, 3)).rows) == 1  # a picture all the same


def test_equal_dimensions_keep_their_order() -> None:
    assert Relevance(torch.tensor([1.0, 2.0, 1.0, 2.0]), "nats").order == [1, 3, 0, 2]


@pytest.fixture
def autoencoder() -> Any:
    return flat(
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [16]),
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [16]),
        Delta((3,)),
        StandardNormal((3,)),
        Bernoulli((5,)),
    )


def test_a_model_of_points_goes_by_the_variance_of_its_codes(autoencoder: Any, data: Any) -> None:
    told = relevance(autoencoder, data, PLAN)
    means, _ = encodings(autoencoder, data, PLAN)
    torch.testing.assert_close(told.scores, means.var(0, correction=0))
    walk = traverse(autoencoder, data, PLAN, dims=3, steps=5)
    assert walk.rows[0] == f"z[{told.order[0]}], variance {told.scores.max():.3g}"
    assert "nats" not in walk.caption
    assert "the mean of all codes" in walk.caption
    # a point has one draw: quantiles are those of the codes
    assert torch.equal(aggregate_draws(autoencoder, data, PLAN), means)
    assert interpolate(autoencoder, data, PLAN, 3, 8).caption.startswith(
        "From the code of example 3 to that of example 8"
    )
    first = told.order[0]
    torch.testing.assert_close(walk.codes[0, 2, first], means[:, first].quantile(0.5))
    others = [d for d in range(3) if d != first]
    torch.testing.assert_close(walk.codes[0][:, others], means.mean(0)[others].expand(5, 2))


def test_an_interpolation_leads_between_posterior_means_and_ends_in_reconstructions(tiny_vae: Any, data: Any) -> None:
    walk = interpolate(tiny_vae, data, PLAN, 3, 8, steps=6)
    assert walk.images.shape == (2, 6, 5)
    assert walk.rows == ("linear", "spherical")
    assert walk.caption.startswith("From the posterior mean of example 3 to that of example 8")
    x = data.stored[[3, 8]]
    assert walk.ends is not None
    assert torch.equal(walk.ends, x)
    tiny_vae.eval()
    with torch.no_grad():
        codes, wanted = tiny_vae.encode(x), tiny_vae.reconstruct(x)
    for row in range(2):
        torch.testing.assert_close(walk.codes[row, [0, -1]], codes)
        torch.testing.assert_close(walk.images[row, [0, -1]], wanted)
        torch.testing.assert_close(walk.images[row], decode(tiny_vae, walk.codes[row]))
    torch.testing.assert_close(walk.codes[0, 1], codes[0] + (codes[1] - codes[0]) / 5)
    norms = torch.lerp(*codes.norm(dim=1), torch.linspace(0, 1, 6))
    torch.testing.assert_close(walk.codes[1].norm(dim=1), norms)
    only = interpolate(tiny_vae, data, PLAN, 3, 8, modes=["spherical"], steps=6)
    torch.testing.assert_close(only.images, walk.images[1:], rtol=1e-12, atol=1e-12)


def test_nothing_is_drawn(tiny_vae: Any, data: Any) -> None:
    """Posterior means, whatever the seed of the noise, the state of the generator or the mode of the model."""
    tiny_vae.train()
    other = Plan(batch_size=40, samples=9, seed=77)
    before = torch.random.get_rng_state()
    first = interpolate(tiny_vae, data, PLAN, 0, 1), traverse(tiny_vae, data, PLAN, index=2, extent=(-3, 3))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    second = interpolate(tiny_vae, data, other, 0, 1), traverse(tiny_vae, data, other, index=2, extent=(-3, 3))
    for one, two in zip(first, second, strict=True):
        torch.testing.assert_close(one.codes, two.codes, rtol=0, atol=0)
        torch.testing.assert_close(one.images, two.images, rtol=1e-12, atol=1e-12)
    assert tiny_vae.training


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m, d: traverse(m, d, PLAN, index=40), "no example 40: the split has 40"),
        (lambda m, d: traverse(m, d, PLAN, index=-1), "no example -1"),
        (lambda m, d: traverse(m, d, PLAN, dims=0), "dims is 0, expected 1 or more"),
        (lambda m, d: traverse(m, d, PLAN, steps=0), "steps is 0, expected 1 or more"),
        (lambda m, d: interpolate(m, d, PLAN, 0, 41), "no example 41"),
        (lambda m, d: interpolate(m, d, PLAN, 0, 1, steps=1), "steps is 1, expected 2 or more"),
    ],
)
def test_what_is_out_of_range_is_told(call: Any, told: str, tiny_vae: Any, data: Any) -> None:
    with pytest.raises(ValueError, match=told):
        call(tiny_vae, data)


def test_codes_of_a_codebook_are_not_traversed(tiny_vae: Any, autoencoder: Any, data: Any) -> None:
    from vaekit.conditionals import GradientCodebook, Quantized
    from vaekit.priors import UniformCodes

    posterior = Quantized((3,), lambda dim: GradientCodebook(dim, codes=8))
    model = flat(
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [16]),
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [16]),
        posterior, UniformCodes((3,), posterior.codebook), Bernoulli((5,)),
    )  # fmt: skip
    assert is_real(tiny_vae, data, PLAN)
    assert is_real(autoencoder, data, PLAN)
    assert not is_real(model, data, PLAN)
    with pytest.raises(ValueError, match="no range to traverse"):
        traverse(model, data, PLAN)
    with pytest.raises(ValueError, match="nothing lies between two of them"):
        interpolate(model, data, PLAN, 0, 1)


def test_codes_do_not_depend_on_the_other_examples_asked_for(tiny_vae: Any, data: Any) -> None:
    together, _ = posterior_means(tiny_vae, data, [5, 2, 5], PLAN)
    means, _ = encodings(tiny_vae, data, PLAN)
    torch.testing.assert_close(together, means[[5, 2, 5]])
