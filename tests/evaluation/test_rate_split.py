"""The parts of the rate: against closed forms, each other, and exact sums over discrete codes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vaekit.conditionals import Delta, EMACodebook, Normal, Quantized, RelaxedCategorical
from vaekit.data.batch import Split
from vaekit.data.transforms import Dynamic, Scale
from vaekit.errors import ConfigError
from vaekit.evaluation import Plan, bound_terms, rate_split_estimates
from vaekit.evaluation import rate_split as module
from vaekit.evaluation.each import Ledger
from vaekit.evaluation.rate_split import rate_split, split_estimates
from vaekit.likelihoods import Bernoulli
from vaekit.likelihoods import Normal as Observed
from vaekit.math.total_correlation import log_normal, normal_aggregate
from vaekit.models import flat, two_layers
from vaekit.networks import MLP
from vaekit.priors import Mixture, StandardNormal, UniformCategorical, UniformCodes

N = 203


def values(numbers: Mapping[str, Any]) -> Tensor:
    """Numbers and their errors: a mean over examples hides which of them a number belongs to, and its error does not."""
    return torch.tensor([(number.value, number.standard_error) for number in numbers.values()])


def binary(n: int = N) -> Split:
    stored = torch.rand(n, 5, generator=torch.Generator().manual_seed(2))
    return Split(stored, (Scale(1.0, torch.float64), Dynamic()))


def test_the_parts_add_up_to_the_kl(tiny_vae: Any) -> None:
    numbers = {name: number.value for name, number in rate_split_estimates(tiny_vae, binary(), Plan(50)).items()}
    kl = numbers["kl_drawn"]
    assert numbers["mutual_information"] + numbers["marginal_kl"] == pytest.approx(kl, abs=1e-12)
    assert numbers["mutual_information_high"] + numbers["marginal_kl_low"] == pytest.approx(kl, abs=1e-12)
    three = ("mutual_information", "total_correlation", "dimension_kl")
    assert sum(numbers[name] for name in three) == pytest.approx(kl, abs=1e-12)


def test_the_kl_of_the_draws_is_the_analytic_one(tiny_vae: Any) -> None:
    """Draws and not means, from the posterior of their own example. Four standard errors: false alarm 6e-5."""
    found = rate_split(tiny_vae, binary(), Plan(50))
    difference = found.log_q - found.log_p - bound_terms(tiny_vae, binary(), Plan(50, 1)).rate
    assert found.log_q.shape == (N,)
    assert float(difference.std()) > 0.01
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / N**0.5


def test_the_total_correlation_of_a_factorised_aggregate_posterior_is_0(linear: Any) -> None:
    """Ten independent latents that are each on one of two sides: all 1,024 examples, in no order."""
    data = torch.tensor(list(itertools.product([0.0, 1.0], repeat=10)))[torch.randperm(1024)]
    scales = torch.linspace(0.2, 1.1, 10)
    model = flat(
        encoder=linear(torch.cat([3.0 * torch.eye(10), torch.zeros(10, 10)]), torch.cat([-scales, 2.0 * scales.log()])),
        decoder=linear(torch.eye(10), torch.zeros(10)),
        posterior=Normal((10,)),
        prior=StandardNormal((10,)),
        likelihood=Observed((10,)),
    )
    numbers = rate_split_estimates(model, Split(data, ()), Plan(500), samples=1)
    found = numbers["total_correlation"]
    assert abs(found.value) < 4 * found.standard_error + 1e-12
    assert found.standard_error < 1e-10  # it is 0 at every draw
    # the KL of each dimension from its own integral
    line = torch.linspace(-9.0, 9.0, 4001)
    truth = 0.0
    for scale in scales:
        density = log_normal(line[:, None], torch.stack([-scale, 3.0 - scale]), scale).exp().mean(1)
        prior = log_normal(line, torch.zeros(()), torch.ones(()))
        truth += float((density * (density.clamp_min(1e-300).log() - prior)).sum() * (line[1] - line[0]))
    assert abs(numbers["dimension_kl"].value - truth) < 4 * numbers["dimension_kl"].standard_error


def test_the_two_sides_of_the_mutual_information_enclose_it(exact: Any, pca: Any, split: Any) -> None:
    """With exact posteriors q(z) is the prior: all of the KL is mutual information, half the log-determinant of I + W'W / s^2."""
    truth = 0.5 * float(torch.linalg.slogdet(torch.eye(2) + pca.weight.T @ pca.weight / pca.sigma**2).logabsdet)
    numbers = rate_split_estimates(exact, split(pca.sample(500)), Plan(250), samples=1)
    assert "total_correlation" not in numbers  # the posterior is not diagonal
    assert "in one piece" in numbers["marginal_kl"].estimator
    low, high = numbers["mutual_information"], numbers["mutual_information_high"]
    assert low.value - 4 * low.standard_error < truth < high.value + 4 * high.standard_error
    assert low.value < high.value < low.value + 0.1
    low, high = numbers["marginal_kl_low"], numbers["marginal_kl"]
    assert low.value - 4 * low.standard_error < 0.0 < high.value + 4 * high.standard_error
    assert abs(high.value) < 4 * high.standard_error + 0.05
    assert low.value < 0.0  # what is below 0 stays there


@pytest.mark.parametrize("several", [False, True])
def test_asking_the_model_for_each_pair_is_the_same_as_holding_the_normals(
    several: bool, tiny_vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"samples": 3, "components": 150}
    held = rate_split(tiny_vae, binary(), Plan(50), **settings)
    monkeypatch.setattr(module, "is_normal", lambda q: False)
    if several:  # every pair passes through the levels, as where the next depends on the last
        others = module._Others
        monkeypatch.setattr(module, "_Others", lambda *given: others(*given[:-1], True))
    asked = rate_split(tiny_vae, binary(), Plan(50), **settings)
    for name in ("log_q", "log_p", "aggregate", "aggregate_others"):
        torch.testing.assert_close(getattr(asked, name), getattr(held, name), rtol=1e-10, atol=1e-10)
    assert asked.dimensions is None


@pytest.mark.parametrize("components", [None, 20])
def test_the_batch_size_changes_nothing(components: int | None, tiny_vae: Any) -> None:
    data = binary(60)
    whole, *parts = (rate_split_estimates(tiny_vae, data, Plan(b), components=components) for b in (60, 1, 7, 100))
    for numbers in parts:
        torch.testing.assert_close(values(numbers), values(whole), rtol=1e-10, atol=1e-10)


def test_numbers_at_a_time_change_nothing(tiny_vae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = binary(40)
    for normal in (True, False):
        monkeypatch.setattr(module, "is_normal", lambda q, normal=normal: normal)
        monkeypatch.setattr(module, "_NUMBERS", 1 << 22)
        whole = rate_split_estimates(tiny_vae, data, Plan(40))
        monkeypatch.setattr(module, "_NUMBERS", 300)
        torch.testing.assert_close(
            values(rate_split_estimates(tiny_vae, data, Plan(40))), values(whole), rtol=1e-10, atol=1e-10
        )


def test_a_measurement_that_was_stopped_goes_on(tiny_vae: Any, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 100:
            raise KeyboardInterrupt

    def keep(name: str, settings: Mapping[str, Any]) -> Ledger:
        return Ledger(tmp_path, name, settings)

    whole = rate_split_estimates(tiny_vae, binary(), Plan(50))
    with pytest.raises(KeyboardInterrupt):
        rate_split_estimates(tiny_vae, binary(), Plan(50), keep=keep, tell=stop)
    told: list[int] = []
    resumed = rate_split_estimates(tiny_vae, binary(), Plan(50), keep=keep, tell=lambda done, of: told.append(done))
    assert resumed == whole
    assert min(told) >= 100
    assert told[-1] == N


def test_a_part_of_the_mixture_says_so_and_comes_near(tiny_vae: Any) -> None:
    whole, part = (rate_split_estimates(tiny_vae, binary(), Plan(50), components=m) for m in (None, 100))
    assert part["mutual_information"].value <= math.log(N)
    for name, number in part.items():
        assert number.value == pytest.approx(whole[name].value, abs=0.25), name
    assert "exactly" in whole["marginal_kl"].estimator
    assert "a random 100 of 203" in part["marginal_kl"].estimator
    assert "too low for all of them" in part["marginal_kl"].estimator


def test_categories_have_the_mutual_information_of_their_probabilities(linear: Any) -> None:
    """An exact sum over three categories. Four standard errors: false alarm 6e-5 each."""
    weight, bias = 2.0 * torch.randn(3, 5), torch.randn(3)
    model = flat(
        encoder=lambda in_shape, out_shape: torch.nn.Sequential(
            linear(weight, bias)(in_shape, out_shape), torch.nn.Unflatten(-1, (1, 3))
        ),
        decoder=lambda in_shape, out_shape: torch.nn.Sequential(
            torch.nn.Flatten(-2), linear(torch.randn(5, 3), torch.zeros(5))(in_shape, out_shape)
        ),
        posterior=RelaxedCategorical((1, 3)),
        prior=UniformCategorical((1, 3)),
        likelihood=Bernoulli((5,)),
    )
    x = (torch.rand(150, 5) < 0.5).double()
    q = (x @ weight.T + bias).softmax(1)
    numbers = rate_split_estimates(model, Split(x, ()), Plan(40), samples=16)
    entropy = torch.special.entr(q.mean(0)).sum()
    truth = {
        "mutual_information": float(entropy - torch.special.entr(q).sum(1).mean()),
        "marginal_kl": float(math.log(3) - entropy),
    }
    assert truth["mutual_information"] > 0.2
    for name, value in truth.items():
        assert abs(numbers[name].value - value) < 4 * numbers[name].standard_error, name
    assert "total_correlation" not in numbers


def test_codes_have_the_entropy_of_their_frequencies(linear: Any) -> None:
    """A quantised code is certain: I(x; z) is the entropy of the codes, and the marginal KL what it lacks to log M, exactly."""
    posterior = Quantized((2, 1), lambda dim: EMACodebook(dim=dim, codes=6))
    model = flat(
        encoder=lambda in_shape, out_shape: torch.nn.Sequential(
            linear(torch.randn(2, 5), torch.zeros(2))(in_shape, out_shape), torch.nn.Unflatten(-1, (2, 1))
        ),
        decoder=lambda in_shape, out_shape: torch.nn.Sequential(
            torch.nn.Flatten(-2), linear(torch.randn(5, 2), torch.zeros(5))(in_shape, out_shape)
        ),
        posterior=posterior,
        prior=UniformCodes((2, 1), posterior.codebook),
        likelihood=Observed((5,)),
    ).eval()
    posterior.codebook.vectors.data.copy_(torch.randn(6, 2))
    x = torch.randn(80, 5)
    counts = torch.bincount(model.posterior(x).codes.flatten(), minlength=6)
    assert (counts != 1).all()  # a code of one example has no density without it
    entropy = float(torch.special.entr(counts / 80).sum())
    numbers = rate_split_estimates(model, Split(x, ()), Plan(30))
    assert numbers["mutual_information"].value == pytest.approx(entropy, abs=1e-10)
    assert numbers["marginal_kl"].value == pytest.approx(math.log(6) - entropy, abs=1e-10)
    assert numbers["kl_drawn"].value == pytest.approx(math.log(6), abs=1e-10)
    assert "mutual_information_high" in numbers
    _, first = np.unique(model.posterior(x).codes.flatten().numpy(), return_index=True)
    rare = rate_split_estimates(model, Split(x[first], ()), Plan(30))  # each code once
    assert rare["mutual_information"].value == pytest.approx(math.log(len(first)), abs=1e-10)
    assert "mutual_information_high" not in rare
    assert "marginal_kl_low" not in rare


@pytest.mark.parametrize("samples", [1, 4])
def test_two_levels_count_as_one_latent(samples: int, multivariate: Any, linear: Any) -> None:
    """z1 ~ N(0, I), z2 | z1 ~ N(A z1, s^2 I), x | z2: exact posteriors, so all of the KL is mutual information."""
    from vaekit.models import VAE, Level, TopDown
    from vaekit.models.level import DrawOnly, FeaturesOnly

    class Both(torch.nn.Module):
        def forward(self, features: Tensor, state: Tensor) -> Tensor:
            return torch.cat([features, state], -1)

    D, s, sigma = 4, 0.8, 0.9
    A, W = torch.randn(2, 1), torch.randn(D, 2)
    to_x = W @ A
    covariance = to_x @ to_x.T + s**2 * W @ W.T + sigma**2 * torch.eye(D)
    upper = torch.linalg.inv(torch.eye(1) + to_x.T @ torch.linalg.inv(s**2 * W @ W.T + sigma**2 * torch.eye(D)) @ to_x)
    gain = upper @ to_x.T @ torch.linalg.inv(s**2 * W @ W.T + sigma**2 * torch.eye(D))
    lower = torch.linalg.inv(torch.eye(2) / s**2 + W.T @ W / sigma**2)
    q1 = multivariate(gain, torch.zeros(1), upper)
    q2 = multivariate(lower @ torch.cat([W.T / sigma**2, A / s**2], 1), torch.zeros(2), lower)
    p2 = multivariate(A, torch.zeros(2), s**2 * torch.eye(2))
    levels = [
        Level("z1", q1, StandardNormal((1,)), FeaturesOnly(), DrawOnly()),
        Level("z2", q2, p2, Both(), DrawOnly()),
    ]
    model = VAE(
        torch.nn.Identity(),
        TopDown(levels),
        linear(W, torch.zeros(D))(None, None),
        Observed((D,), scale=sigma),
    )
    x = torch.randn(300, D) @ torch.linalg.cholesky(covariance).T
    whole = rate_split_estimates(model, Split(x, ()), Plan(100), samples=samples, components=300)
    # I(x; z1, z2) = h(x) - h(x | z2)
    truth = 0.5 * float(torch.linalg.slogdet(covariance).logabsdet) - D * math.log(sigma)
    low, high = whole["mutual_information"], whole["mutual_information_high"]
    assert low.value - 4 * low.standard_error < truth < high.value + 4 * high.standard_error
    assert low.value < high.value < low.value + 0.6
    kl = whole["kl_drawn"]
    assert abs(kl.value - truth) < 4 * kl.standard_error
    assert low.value + whole["marginal_kl"].value == pytest.approx(kl.value, abs=1e-12)
    assert "total_correlation" not in whole


def test_latents_that_are_drawn_from_the_data_up_keep_their_own_values() -> None:
    """Both layers have one size, so that only the density tells whether each was given its own value."""

    def network(in_shape: Any, out_shape: Any) -> MLP:
        return MLP(in_shape, out_shape, [6])

    parts = [Normal((2,)), StandardNormal((2,)), Bernoulli((5,)), network, network, Normal((2,)), Normal((2,))]
    model = two_layers(network, network, *parts)  # type: ignore[arg-type]
    x, drawn = (torch.rand(8, 5) < 0.5).double(), []
    with torch.no_grad():
        latents = model.infer(x, 1, module._recorded(drawn))
        asked = module._Others(model, Split(x, ()), Plan(), torch.arange(8), True)
        nats = asked._pairs([value[0] for value in drawn], torch.arange(8))
    assert nats.shape == (8, 8)
    torch.testing.assert_close(nats.diagonal(), torch.stack([latent.log_q[0] for latent in latents]).sum(0))


def test_dimensions_that_depend_on_each_other_under_the_prior_have_no_kl_of_their_own(
    mean_field: Any, pca: Any, split: Any
) -> None:
    model = mean_field(prior=Mixture((2,), components=3))
    numbers = rate_split_estimates(model, split(pca.sample(50)), Plan(50))
    assert "total_correlation" in numbers
    assert "dimension_kl" not in numbers
    assert "depend on each other under this prior" in numbers["marginal_kl"].estimator


def test_what_cannot_be_split_is_refused_in_one_line(tiny_vae: Any) -> None:
    points = flat(
        lambda in_shape, out_shape: torch.nn.Linear(5, 3),
        lambda in_shape, out_shape: torch.nn.Linear(3, 5),
        Delta((3,)),
        StandardNormal((3,)),
        Bernoulli((5,)),
    )
    with pytest.raises(ConfigError, match="encodes to points"):
        rate_split_estimates(points, binary(), Plan())
    with pytest.raises(ConfigError, match="expected 2 or more"):
        rate_split_estimates(tiny_vae, binary(1), Plan())
    for wrong in ({"samples": 0}, {"components": 1}):
        with pytest.raises(ConfigError, match="expected"):
            rate_split_estimates(tiny_vae, binary(), Plan(), **wrong)


@pytest.mark.slow
def test_standard_errors_cover_repetitions() -> None:
    """300 sets of 200 examples and two correlated latents: 1.96 standard errors around each estimate cover the mean of all.

    Of 300, 95 % are 285 with a standard deviation of 3.8; the bounds leave room for the second order.
    """
    torch.manual_seed(0)
    sets = []
    for _ in range(300):
        loc = torch.randn(200, 2) @ torch.tensor([[0.8, 0.6], [0.0, 0.4]])
        scale = torch.full((200, 2), 0.5)
        z, whose = loc + scale * torch.randn(200, 2), torch.arange(200)
        densities = normal_aggregate(z, (loc, scale), (loc, scale), whose[:, None] == whose, 200)
        log_q, log_p = log_normal(z, loc, scale).sum(1), log_normal(z, torch.zeros(2), torch.ones(2)).sum(1)
        sets.append(split_estimates(module.RateSplit(log_q, log_p, *densities, True, 1, 200)))
    for name in sets[0]:
        found = np.array([(numbers[name].value, numbers[name].standard_error) for numbers in sets])
        covered = int((np.abs(found[:, 0] - found[:, 0].mean()) < 1.96 * found[:, 1]).sum())
        assert 267 <= covered <= 298, (name, covered)
