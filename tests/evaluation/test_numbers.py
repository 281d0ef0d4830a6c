"""The numbers against closed forms, numpy, and each other."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from vaekit.data.batch import Split
from vaekit.data.transforms import Dynamic, Scale
from vaekit.evaluation import (
    Estimate,
    Plan,
    active_units,
    bits_per_dimension,
    bound_estimates,
    bound_terms,
    kl_per_dimension,
    passes,
    pictures,
)
from vaekit.evaluation.units import mean

N = 203  # no multiple of any batch size below: the last batch is smaller and must be there


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_with_the_exact_posterior_every_bound_is_the_evidence(samples: int, exact: Any, pca: Any, split: Any) -> None:
    x = pca.sample(N)
    evidence = pca.evidence(x)
    terms = bound_terms(exact, split(x), Plan(batch_size=50, samples=samples))
    torch.testing.assert_close(terms.importance, evidence)
    torch.testing.assert_close(-(terms.distortion + terms.rate), evidence)
    numbers = bound_estimates(terms, samples)
    assert numbers["elbo"].value == pytest.approx(float(evidence.mean()), rel=1e-9)
    assert numbers[f"iwae_{samples}"].value == pytest.approx(float(evidence.mean()), rel=1e-9)
    assert numbers["elbo"].n == N
    expected_error = np.std(evidence.numpy(), ddof=1) / math.sqrt(N)
    assert numbers["elbo"].standard_error == pytest.approx(expected_error, rel=1e-9)


def test_the_bound_rises_with_the_samples_to_the_evidence(inexact: Any, pca: Any, split: Any) -> None:
    x = pca.sample(400)
    evidence = float(pca.evidence(x).mean())
    bounds = {}
    for samples in (1, 4, 16, 64, 1024):
        terms = bound_terms(inexact, split(x), Plan(samples=samples, seed=samples))
        bounds[samples] = mean(terms.importance, "nats")
    values = [bound.value for bound in bounds.values()]
    assert values == sorted(values)
    assert values[-1] < evidence + 1e-3
    assert evidence - values[-1] < 0.01
    elbo = mean(-(terms.distortion + terms.rate), "nats")
    # the first bound is an unbiased estimate of the ELBO: false alarm below 1e-4
    difference = bound_terms(inexact, split(x), Plan(samples=1, seed=1)).importance + terms.distortion + terms.rate
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / math.sqrt(400)
    assert elbo.value < values[1]


@pytest.mark.parametrize("values", [1, 160, 400])
def test_samples_in_chunks_are_the_same_samples(
    values: int, tiny_vae: Any, split: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = (torch.rand(30, 5) < 0.5).double()
    whole = bound_terms(tiny_vae, split(x), Plan(batch_size=10, samples=7))
    monkeypatch.setattr(passes, "_VALUES", values)
    chunked = bound_terms(tiny_vae, split(x), Plan(batch_size=10, samples=7))
    for name in ("distortion", "rate", "importance"):
        torch.testing.assert_close(getattr(chunked, name), getattr(whole, name))


@pytest.mark.parametrize("size", [1, 7, 202, 1000])
def test_the_batch_size_changes_nothing(size: int, tiny_vae: Any) -> None:
    stored = torch.rand(N, 5, generator=torch.Generator().manual_seed(2))
    data = Split(stored, (Scale(1.0, torch.float64), Dynamic()))  # binarised anew, and still the same
    whole, parts = (bound_terms(tiny_vae, data, Plan(b, 3)) for b in (N, size))
    for name in ("distortion", "rate", "importance"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
        assert getattr(parts, name).shape == (N,)
    torch.testing.assert_close(kl_per_dimension(tiny_vae, data, Plan(size)), kl_per_dimension(tiny_vae, data, Plan(N)))


def test_measuring_leaves_the_model_and_the_users_generator_as_they_were(
    tiny_vae: Any, inexact: Any, split: Any
) -> None:
    x = torch.rand(20, 5)
    before = torch.get_rng_state()
    for model in (tiny_vae, inexact):  # the second draws by itself, from torch's own generator
        for mode in (True, False):
            model.train(mode)
            first, second = (bound_terms(model, split(x), Plan(7, 3)) for _ in range(2))
            assert model.training is mode
            assert torch.equal(first.importance, second.importance)  # dropout is off, and the noise is the same
            assert all(parameter.grad is None for parameter in model.parameters())
            torch.rand(1)  # numbers do not depend on the user's state either
    torch.set_rng_state(before)
    bound_terms(inexact, split(x), Plan(7, 3))
    pictures.samples(tiny_vae, 3, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_kl_of_the_dimensions_adds_up(tiny_vae: Any, exact: Any, pca: Any, split: Any) -> None:
    x = (torch.rand(N, 5) < 0.5).double()
    parts = kl_per_dimension(tiny_vae, split(x), Plan(50))
    assert parts.shape == (3,)
    assert (parts >= 0).all()
    assert float(parts.sum()) == pytest.approx(
        float(bound_terms(tiny_vae, split(x), Plan(50, 1)).rate.mean()), rel=1e-9
    )
    q = tiny_vae.eval().posterior(x)
    mu, sigma = q.base_dist.loc[0].detach(), q.base_dist.scale[0].detach()
    expected = 0.5 * (mu.square() + sigma.square() - 1 - 2 * sigma.log()).mean(0)
    torch.testing.assert_close(parts, expected)
    shared = kl_per_dimension(exact, split(pca.sample(N)), Plan(50))  # full covariance: equal shares
    assert float(shared[0]) == pytest.approx(float(shared[1]))


def test_active_units_of_a_constructed_case() -> None:
    numbers = torch.Generator().manual_seed(0)
    noise = torch.randn(1000, 4, generator=numbers)
    noise = (noise - noise.mean(0)) / noise.std(0, correction=0)
    means = noise * torch.tensor([1.0, 0.2, 0.05, 0.0]) + torch.tensor([0.0, 100.0, 0.0, 7.0])
    found = active_units(means)
    assert (found.value, found.unit, found.n) == (2, "dimensions", 1000)
    assert found.standard_error == 0.0  # 0.04 and 0.0025 are far from 0.01 with a thousand examples
    assert active_units(means) == found
    edge = active_units(noise * 0.1)  # variances of 0.01 exactly: each is above in about half of the resamples
    assert 0.5 < edge.standard_error < 1.5
    permuted = active_units(means[torch.randperm(1000)])
    assert permuted.value == found.value
    assert active_units(torch.zeros(1, 3)).value == 0


def test_bits_per_dimension() -> None:
    nats = Estimate(-784 * math.log(2.0), 7.84 * math.log(2.0), "nats", 10, "words")
    bits = bits_per_dimension(nats, 784)
    assert (bits.value, bits.unit, bits.n) == (pytest.approx(1.0), "bits/dim", 10)
    assert bits.standard_error == pytest.approx(0.01)


def test_a_mean_and_its_error_are_those_of_numpy() -> None:
    values = torch.randn(37, generator=torch.Generator().manual_seed(1), dtype=torch.float32) * 3 + 1000
    estimate = mean(values, "nats")
    array = values.numpy().astype(np.float64)
    assert estimate.value == pytest.approx(array.mean(), rel=1e-12)
    assert estimate.standard_error == pytest.approx(array.std(ddof=1) / math.sqrt(37), rel=1e-12)
    assert math.isnan(mean(values[:1], "nats").standard_error)
    assert json.loads(json.dumps(estimate.as_dict()))["n"] == 37


def test_a_number_that_is_not_finite_is_null_in_json_and_says_why() -> None:
    entry = Estimate(math.inf, math.nan, "dB", 3, "mean of the examples' own").as_dict()
    assert entry == {
        "value": None, "standard_error": None, "unit": "dB", "n": 3, "estimator": "mean of the examples' own; null as it was inf",
    }  # fmt: skip
    back = Estimate.from_dict(entry)
    assert math.isnan(back.value)
    assert math.isnan(back.standard_error)
    assert (back.unit, back.n) == ("dB", 3)
    single = mean(torch.ones(1), "nats")
    assert single.as_dict() == {"value": 1.0, "standard_error": None, "unit": "nats", "n": 1, "estimator": ""}
    exact = Estimate(0.1, 0.2, "nats", 3, "so")
    assert Estimate.from_dict(exact.as_dict()) == exact
    for wrong in ({"value": 1.0}, {**exact.as_dict(), "more": 1}):
        with pytest.raises(TypeError):
            Estimate.from_dict(wrong)


@pytest.mark.parametrize(
    ("setting", "said"),
    [({"batch_size": 0}, "batch_size is 0"), ({"samples": 0}, "samples is 0"), ({"seed": -1}, "seed is -1"),
     ({"seed": 2**64}, "seed")],
)  # fmt: skip
def test_a_plan_refuses_what_cannot_be(setting: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Plan(**setting)


def test_samples_do_not_depend_on_how_many_are_drawn(tiny_vae: Any) -> None:
    few, many = pictures.samples(tiny_vae, 3, 5), pictures.samples(tiny_vae, 300, 5)
    torch.testing.assert_close(few, many[:3])
    assert not torch.equal(few, pictures.samples(tiny_vae, 3, 6))
    assert torch.equal(pictures.noisy_samples(tiny_vae, 3, 5), pictures.noisy_samples(tiny_vae, 300, 5)[:3])


def test_the_manifold_is_at_equal_steps_of_probability() -> None:
    from vaekit.conditionals import Normal
    from vaekit.likelihoods import Normal as NormalLikelihood
    from vaekit.models import flat
    from vaekit.priors import StandardNormal

    class Same(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z.reshape(*z.shape[:-1], 1, 1, 2)

    model = flat(
        lambda in_shape, out_shape: torch.nn.Sequential(torch.nn.Flatten(-3), torch.nn.Linear(2, 4)),
        lambda in_shape, out_shape: Same(), Normal((2,)), StandardNormal((2,)), NormalLikelihood((1, 1, 2)),
    )  # fmt: skip
    images, coordinates = pictures.manifold(model, rows=4)
    torch.testing.assert_close(torch.special.ndtr(coordinates), torch.tensor([0.125, 0.375, 0.625, 0.875]))
    for row in range(4):
        for column in range(4):
            wanted = torch.stack([coordinates[column], coordinates[3 - row]])
            torch.testing.assert_close(images[row, column].flatten(), wanted)


def test_the_view_takes_the_two_dimensions_with_the_largest_kl() -> None:
    means = torch.arange(12.0).reshape(3, 4)
    view = pictures.latent_view(means, torch.tensor([0.1, 3.0, 0.2, 2.0]))
    assert view is not None
    assert view.dimensions == (1, 3)
    assert torch.equal(view.points, means[:, [1, 3]])
    assert view.axes == ("z[1], KL 3.00 nats", "z[3], KL 2.00 nats")
    assert pictures.latent_view(means[:, :1], torch.ones(1)) is None
