"""The gaps of a linear-Gaussian model against their closed forms, and what must not change them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from vaekit.conditionals import Delta, Normal
from vaekit.data import ProbabilisticPCA
from vaekit.data.batch import Split
from vaekit.data.transforms import Dynamic, Scale
from vaekit.errors import ConfigError
from vaekit.evaluation import Plan, bound_terms, gap_estimates, gaps, overfitting_estimates
from vaekit.evaluation.each import Ledger, each
from vaekit.likelihoods import Bernoulli
from vaekit.models import flat
from vaekit.networks import MLP, Conditioned, OneHot
from vaekit.priors import StandardNormal

SHIFT, WIDEN = torch.tensor([0.4, -0.6], dtype=torch.float64), torch.tensor([1.8, 0.5], dtype=torch.float64)


@pytest.fixture
def pca() -> ProbabilisticPCA:
    """Two latents that do much the same, so that they depend on each other given the data: correlation about -0.8."""
    weight = torch.tensor([[1.0, 0.8], [0.7, 1.1], [0.9, 0.5], [0.2, 0.4], [-0.8, -1.0]])
    return ProbabilisticPCA(weight, torch.randn(5), 0.7)


def values(numbers: Mapping[str, Any]) -> Tensor:
    """Numbers and their errors: a mean over examples hides which of them a number belongs to, and its error does not."""
    return torch.tensor([(number.value, number.standard_error) for number in numbers.values()])


def binary(n: int) -> Split:
    stored = torch.rand(n, 5, generator=torch.Generator().manual_seed(2))
    return Split(stored, (Scale(1.0, torch.float64), Dynamic()))


def closed(pca: Any, shift: Tensor, widen: Tensor) -> dict[str, float]:
    """KLs to the exact posterior, of which all have one covariance: of the encoder's, and of the best diagonal normal."""
    precision = torch.eye(2) + pca.weight.T @ pca.weight / pca.sigma**2
    best = 1.0 / precision.diagonal()
    exact = MultivariateNormal(torch.zeros(2), precision_matrix=precision)
    encoder = float(kl_divergence(MultivariateNormal(shift, torch.diag(widen * best)), exact))
    diagonal = float(kl_divergence(MultivariateNormal(torch.zeros(2), torch.diag(best)), exact))
    return {"amortisation_gap": encoder - diagonal, "approximation_gap": diagonal, "inference_gap": encoder}


def test_the_gaps_of_a_linear_gaussian_model_are_its_divergences(mean_field: Any, pca: Any, split: Any) -> None:
    """A perturbed encoder, and a posterior whose dimensions depend on each other. Four standard errors: false alarm 6e-5 each."""
    truth = closed(pca, SHIFT, WIDEN)
    assert truth["amortisation_gap"] > 0.5
    assert truth["approximation_gap"] > 0.4
    numbers = gap_estimates(mean_field(SHIFT, WIDEN), split(pca.sample(60)), Plan(60), steps=150, samples=1000)
    for name, value in truth.items():
        found = numbers[name]
        assert abs(found.value - value) < 4 * found.standard_error + 0.005, name  # the search ends this near
        assert found.standard_error < 0.03, name
        assert (found.unit, found.n) == ("nats", 60)
    both = numbers["amortisation_gap"].value + numbers["approximation_gap"].value
    assert both == pytest.approx(numbers["inference_gap"].value, abs=1e-12)


def test_the_best_encoder_has_no_amortisation_gap_and_is_kept(mean_field: Any, pca: Any, split: Any) -> None:
    """No example looks better by chance: where the end of the search is no better on fresh draws, the gap is 0 exactly."""
    numbers = gap_estimates(mean_field(), split(pca.sample(40)), Plan(40), steps=60, samples=200)
    found = numbers["amortisation_gap"]
    assert abs(found.value) < 4 * found.standard_error + 0.003
    assert "q itself where their end is no better (" in found.estimator
    assert "of 40)" in found.estimator


def test_an_end_that_is_worse_is_not_taken(
    mean_field: Any, pca: Any, split: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for end in (5.0, float("nan")):
        monkeypatch.setattr(gaps, "_searched", lambda few, start, seed, steps, end=end: torch.full_like(start, end))
        found = gap_estimates(mean_field(), split(pca.sample(10)), Plan(10), samples=20)["amortisation_gap"]
        assert (found.value, found.standard_error) == (0.0, 0.0)
        assert "no better (10 of 10)" in found.estimator


def test_the_choice_is_made_on_other_draws_than_the_numbers(mean_field: Any, pca: Any, split: Any) -> None:
    streams = (gaps._STEPS, gaps._STEPS + 10_000, gaps._CHOICE, gaps._NUMBERS)
    batch = split(pca.sample(3)).batch(torch.arange(3))
    few = gaps._Examples(mean_field(), batch)
    drawn = torch.stack([few.noise(0, stream, 50).flatten() for stream in streams])
    assert float(torch.corrcoef(drawn).fill_diagonal_(0.0).abs().max()) < 0.3  # 5.2 standard errors


def test_the_batch_size_changes_nothing(tiny_vae: Any) -> None:
    """Float64: to 1e-10, through all steps of a search in which each example has its own noise and its own moments."""
    data = binary(12)
    whole, *parts = (gap_estimates(tiny_vae, data, Plan(b), steps=25, samples=40) for b in (12, 1, 7, 100))
    assert whole["amortisation_gap"].value > 0.0
    for numbers in parts:
        torch.testing.assert_close(values(numbers), values(whole), rtol=1e-10, atol=1e-10)


def test_numbers_at_a_time_change_nothing(tiny_vae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = binary(20)
    whole = gap_estimates(tiny_vae, data, Plan(20), steps=5, samples=50)
    monkeypatch.setattr(gaps, "_VALUES", 400)
    parts = gap_estimates(tiny_vae, data, Plan(20), steps=5, samples=50)
    torch.testing.assert_close(values(parts), values(whole), rtol=1e-10, atol=1e-10)


def test_a_measurement_that_was_stopped_goes_on_and_leaves_the_model_alone(tiny_vae: Any, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    def keep(name: str, settings: Mapping[str, Any]) -> Ledger:
        return Ledger(tmp_path, name, settings)

    before = {name: value.clone() for name, value in tiny_vae.state_dict().items()}
    tiny_vae.train()
    settings: dict[str, Any] = {"train": binary(40), "steps": 5, "samples": 20}
    whole = gap_estimates(tiny_vae, binary(20), Plan(5), **settings)
    with pytest.raises(KeyboardInterrupt):
        gap_estimates(tiny_vae, binary(20), Plan(5), keep=keep, tell=stop, **settings)
    assert gap_estimates(tiny_vae, binary(20), Plan(5), keep=keep, **settings) == whole
    assert tiny_vae.training
    assert all(parameter.grad is None for parameter in tiny_vae.parameters())
    assert all(torch.equal(value, before[name]) for name, value in tiny_vae.state_dict().items())


def test_the_overfitting_gap_is_the_difference_of_two_bounds(inexact: Any, pca: Any, split: Any) -> None:
    """Of any posterior with a density: examples of one distribution have none, and near ones have a better bound."""
    x = pca.sample(300)
    seen, unseen = x[:200], x[200:]
    assert not torch.equal(seen[:100], unseen)
    found = overfitting_estimates(inexact, split(unseen), Plan(50, 4), train=split(seen))["overfitting_gap"]
    assert found.n == 100
    assert abs(found.value) < 4 * found.standard_error
    same = overfitting_estimates(inexact, split(unseen), Plan(50, 4), train=split(unseen))["overfitting_gap"]
    assert same.value == 0.0
    near = overfitting_estimates(inexact, split(unseen), Plan(50, 4), train=split(0.1 * seen + 0.9 * pca.bias))[
        "overfitting_gap"
    ]
    assert near.value > 4 * near.standard_error
    terms = [bound_terms(inexact, split(part), Plan(50, 4)) for part in (0.1 * seen[:100] + 0.9 * pca.bias, unseen)]
    elbos = [-(term.distortion + term.rate) for term in terms]
    direct = overfitting_estimates(inexact, split(unseen), Plan(50, 4), train=split(0.1 * seen[:100] + 0.9 * pca.bias))[
        "overfitting_gap"
    ]
    assert direct.value == pytest.approx(float(elbos[0].mean() - elbos[1].mean()), abs=1e-9)
    spread = float(elbos[0].var() + elbos[1].var())
    assert direct.standard_error == pytest.approx((spread / 100) ** 0.5, rel=1e-9)


def test_models_without_a_diagonal_normal_are_refused_in_one_line(exact: Any, pca: Any, split: Any) -> None:
    with pytest.raises(ConfigError, match=r"MultivariateNormal.*train one with posterior=normal"):
        gap_estimates(exact, split(pca.sample(5)), Plan())
    points = flat(
        lambda in_shape, out_shape: torch.nn.Linear(5, 3),
        lambda in_shape, out_shape: torch.nn.Linear(3, 5),
        Delta((3,)),
        StandardNormal((3,)),
        Bernoulli((5,)),
    )
    for measure in (gap_estimates, overfitting_estimates):
        with pytest.raises(ConfigError, match="encodes to points"):
            measure(points, binary(5), Plan(), train=binary(5))
    with pytest.raises(ConfigError, match="expected 1 or more"):
        gap_estimates(exact, split(pca.sample(5)), Plan(), steps=0)


def test_conditional_models_are_told_what_their_examples_are() -> None:
    """The log-evidence of each example is that of the importance-weighted bound of another module, under its own class."""

    def network(in_shape: Any, out_shape: Any) -> Conditioned:
        return Conditioned(in_shape, out_shape, lambda **shapes: MLP(**shapes, hidden_dims=(8,)), OneHot(4))

    model = flat(network, network, Normal((2,)), StandardNormal((2,)), Bernoulli((5,)))
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
    data, labels = binary(12), torch.arange(12) % 4
    told, other = (Split(data.stored, data.transforms, given) for given in (labels, (labels + 1) % 4))
    found = each(model, told, Plan(5), partial(gaps._measure, steps=5, samples=500))["evidence"]
    right, wrong = (bound_terms(model, part, Plan(5, 500)).importance for part in (told, other))
    assert float((found - right).abs().max()) < 0.1
    assert float((found - wrong).abs().median()) > 0.3
