"""Priors that are fitted to latents: what they are before and after, and that what they find is there."""

from __future__ import annotations

import copy
import itertools
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, multivariate_normal
from sklearn.mixture import GaussianMixture

from vaekit.conditionals import EMACodebook
from vaekit.distributions import draw
from vaekit.distributions.noise import PerExample, use
from vaekit.distributions.quantized import codes_of, vectors_of
from vaekit.priors import Fitted, FittedAutoregressive, FittedFlow, FittedMixture, FittedNormal, StandardNormal

pytestmark = pytest.mark.usefixtures("float64")

MAKE: dict[str, Callable[[tuple[int, ...]], Fitted]] = {
    "normal": FittedNormal,
    "mixture": partial(FittedMixture, components=3),
    "flow": partial(FittedFlow, transforms=1, hidden_dims=(8,), steps=20),
}


@pytest.fixture(params=MAKE.values(), ids=MAKE.keys())
def make(request: pytest.FixtureRequest) -> Callable[[tuple[int, ...]], Fitted]:
    return request.param


def blank(*lead: int) -> torch.Tensor:
    return torch.zeros(*lead, 0)


def two_clusters(n: int, event: tuple[int, ...]) -> torch.Tensor:
    z = 0.4 * torch.randn(n, *event)
    z[: n // 3] += 3.0
    return 5.0 * z + 100.0


@pytest.mark.parametrize("event", [(1,), (3,), (2, 2)])
def test_fitted_priors_have_the_shapes_of_priors(make: Any, event: tuple[int, ...]) -> None:
    prior = make(event)
    assert prior.context_shape == (0,)
    p = prior(blank(2, 5), None)
    assert not prior.is_fitted
    prior.fit(two_clusters(60, event))
    assert prior.is_fitted
    assert p.batch_shape == (2, 5)
    assert p.event_shape == event
    drawn = draw(p)
    assert drawn.value.shape == p.mean.shape == p.variance.shape == (2, 5, *event)
    assert drawn.log_prob.shape == p.log_prob(drawn.value[:1]).shape == (2, 5)
    assert p.sample((3,)).shape == (3, 2, 5, *event)
    assert not any(parameter.requires_grad for parameter in prior.parameters())


def test_before_fitting_nothing_can_be_asked_but_a_model_can_be_traced(make: Any) -> None:
    prior = make((2,))
    p = prior(blank(1, 3), None)
    for ask in (p.sample, lambda: draw(p), lambda: p.log_prob(torch.zeros(1, 3, 2)), lambda: p.mean):
        with pytest.raises(RuntimeError, match=f"vaekit prior RUN {prior.kind}"):
            ask()


def test_a_fit_is_repeatable_and_leaves_the_generators_alone(make: Any) -> None:
    z, states = two_clusters(60, (2,)), []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        prior = make((2,))
        before = torch.get_rng_state()
        prior.fit(z, seed=2**40 + 7)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(prior.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_state_dict_carries_the_fit(make: Any) -> None:
    one, other = make((2,)), make((2,))
    one.fit(two_clusters(60, (2,)))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert other.is_fitted
    value = torch.randn(1, 4, 2)
    assert torch.equal(one(blank(1, 4), None).log_prob(value), other(blank(1, 4), None).log_prob(value))


def test_draws_belong_to_the_examples(make: Any) -> None:
    prior = make((2,))
    prior.fit(two_clusters(60, (2,)))
    with use(PerExample(3, torch.arange(6))):
        whole = draw(prior(blank(2, 6), None)).value
    with use(PerExample(3, torch.tensor([5, 2]))):
        torch.testing.assert_close(draw(prior(blank(2, 2), None)).value, whole[:, [5, 2]])


def test_a_density_of_one_dimension_integrates_to_one_and_draws_follow_it(make: Any) -> None:
    """Kolmogorov-Smirnov: false alarm 1e-6."""
    prior = make((1,))
    prior.fit(two_clusters(300, (1,)))
    x = torch.linspace(-60, 260, 64_001)
    density = prior(blank(1, 1), None).log_prob(x[:, None, None])[:, 0].exp()
    heights = torch.cumsum(density, 0) * (x[1] - x[0])
    assert float(heights[-1]) == pytest.approx(1.0, abs=1e-4)
    draws = draw(prior(blank(1, 4000), None)).value.flatten()
    assert kstest(draws.numpy(), lambda v: np.interp(v, x.numpy(), heights.numpy())).pvalue > 1e-6


def test_two_clusters_are_found_by_all_but_the_normal() -> None:
    z, held = two_clusters(600, (2,)), two_clusters(600, (2,))
    nats = {}
    for name, make in MAKE.items():
        prior = FittedFlow((2,), transforms=1, hidden_dims=(16,), steps=200) if name == "flow" else make((2,))
        prior.fit(z)
        nats[name] = float(prior(blank(1, 600), None).log_prob(held[None]).mean())
    weights = np.log([1 / 3, 2 / 3])[:, None]
    parts = [multivariate_normal(np.full(2, m), 4.0 * np.eye(2)).logpdf(held.numpy()) for m in (115.0, 100.0)]
    entropy = float(np.logaddexp.reduce(weights + parts).mean())
    assert nats["normal"] < nats["flow"] < entropy + 0.1
    assert abs(nats["mixture"] - entropy) < 0.1


def test_the_normal_is_scipys_with_the_moments_of_the_latents() -> None:
    z = torch.randn(200, 2, 2) @ torch.randn(2, 2) + 7
    prior = FittedNormal((2, 2))
    prior.fit(z)
    flat = z.flatten(1).numpy()
    expected = multivariate_normal(flat.mean(0), np.cov(flat.T, ddof=0)).logpdf(flat)
    torch.testing.assert_close(
        prior(blank(1, 200), None).log_prob(z[None])[0], torch.from_numpy(expected), rtol=1e-3, atol=1e-3
    )
    draws = draw(prior(blank(1, 50_000), None)).value[0].flatten(1)
    assert np.abs(draws.mean(0).numpy() - flat.mean(0)).max() < 6 * flat.std() / 50_000**0.5
    np.testing.assert_allclose(np.cov(draws.T.numpy()), np.cov(flat.T, ddof=0), atol=6 * 2 * flat.var() / 50_000**0.5)


def test_the_normal_has_a_density_even_where_the_latents_have_no_spread() -> None:
    prior = FittedNormal((5,))
    prior.fit(torch.cat([torch.randn(3, 4), torch.zeros(3, 1)], 1))  # fewer than dimensions, and one that is dead
    p = prior(blank(1, 10), None)
    assert p.log_prob(p.sample()).isfinite().all()


def test_the_mixture_is_scikit_learns() -> None:
    z = two_clusters(300, (3,))
    prior = FittedMixture((3,), components=2)
    prior.fit(z, seed=4)
    scaled = ((z - z.mean(0)) / z.std(0, correction=0)).numpy()
    model = GaussianMixture(2, random_state=4, max_iter=500).fit(scaled)
    expected = model.score_samples(scaled) - float(z.std(0, correction=0).log().sum())
    torch.testing.assert_close(prior(blank(1, 300), None).log_prob(z[None])[0], torch.from_numpy(expected))


def test_the_density_of_the_flow_has_the_jacobian_of_its_scaling() -> None:
    """Latents in other units are the same latents: the density changes by the log of the unit, up to the digits of the fit."""
    z = two_clusters(200, (2,))
    nats = []
    for unit in (1.0, 4.0):
        prior = MAKE["flow"]((2,))
        prior.fit(unit * z, seed=1)
        nats.append(float(prior(blank(1, 200), None).log_prob(unit * z[None]).mean()) + 2 * math.log(unit))
    assert nats[0] == pytest.approx(nats[1], abs=1e-2)


def test_the_flow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(RuntimeError, match=r"pip install 'vaekit\[flow\]'"):
        FittedFlow((2,))


@pytest.mark.parametrize("wrong", [torch.zeros(1, 2), torch.zeros(9, 3), torch.full((9, 2), math.nan)])
def test_what_no_prior_can_be_fitted_to_is_refused(make: Any, wrong: torch.Tensor) -> None:
    prior = make((2,))
    with pytest.raises(ValueError, match=r"two or more latents of shape|not finite"):
        prior.fit(wrong)
    assert not prior.is_fitted


def test_a_mixture_needs_as_many_latents_as_components() -> None:
    with pytest.raises(ValueError, match="components=4"):
        FittedMixture((2,), components=9).fit(torch.randn(4, 2))


def codes_prior(positions: tuple[int, ...] = (2,), codes: int = 3, steps: int = 150) -> FittedAutoregressive:
    book = EMACodebook(dim=2, codes=codes)
    with torch.no_grad():
        book.vectors.copy_(torch.randn_like(book.vectors))
    return FittedAutoregressive((2, *positions), book, width=16, layers=1, steps=steps)


def patterned(n: int, prior: FittedAutoregressive) -> torch.Tensor:
    """Vectors of two positions: the second code is the first or the one after it, so positions alone say log 3 + log 3."""
    first = torch.randint(3, (n,))
    second = (first + (torch.rand(n) < 0.25).long()) % 3
    return vectors_of(torch.stack([first, second], 1)[None], prior.codebook)[0]


def test_the_autoregressive_prior_sums_to_one_and_its_draws_follow_it() -> None:
    """Chi-squared over all pairs of codes: false alarm 1e-6."""
    prior = codes_prior(steps=30)
    prior.fit(patterned(100, prior))
    pairs = torch.tensor(list(itertools.product(range(3), repeat=2)))
    probabilities = prior.log_prob_of_codes(pairs).exp()
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0))
    value = draw(prior(blank(1, 4000), None)).value
    drawn = codes_of(value, prior.codebook)[0]
    counts = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9)
    assert chisquare(counts.numpy(), (4000 * probabilities).numpy()).pvalue > 1e-6
    torch.testing.assert_close(prior(blank(1, 4000), None).log_prob(value)[0], prior.log_prob_of_codes(drawn))


def test_the_autoregressive_prior_finds_what_codes_say_of_each_other() -> None:
    prior = codes_prior()
    prior.fit(patterned(2000, prior))
    held = patterned(2000, prior)
    nats = float(prior(blank(1, 2000), None).log_prob(held[None]).mean())
    entropy = math.log(3) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert nats == pytest.approx(-entropy, abs=0.1)
    assert nats > -2 * math.log(3) + 0.3


def test_no_position_sees_what_comes_after() -> None:
    prior = codes_prior((2, 2), codes=5)
    codes = torch.randint(5, (1, 3))
    logits = prior.network(codes)
    for changed in range(3):
        other = codes.clone()
        other[0, changed] = (other[0, changed] + 1) % 5
        differs = (prior.network(other) != logits).any(-1)[0].tolist()
        assert differs == [False] * (changed + 1) + [True] * (3 - changed)


def test_the_codes_are_fitted_repeatably() -> None:
    prior = codes_prior(steps=20)
    z, states = patterned(50, prior), []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        prior.fit(z, seed=3)
        states.append(copy.deepcopy(prior.state_dict()))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not [name for name in states[0] if "codebook" in name]
    with pytest.raises(ValueError, match="multiple of 4"):
        FittedAutoregressive((2, 2), EMACodebook(dim=2), width=6)


def test_a_prior_that_fits_scores_better_than_one_that_does_not() -> None:
    from vaekit.conditionals import Normal
    from vaekit.evaluation.encoded import score
    from vaekit.likelihoods import Bernoulli
    from vaekit.models import flat
    from vaekit.networks import MLP

    prior = FittedNormal((2,))
    z = torch.randn(2, 500, 2) * 0.5 + 1
    prior.fit(z.flatten(0, 1))
    model = flat(MLP, MLP, Normal((2,)), StandardNormal((2,)), Bernoulli((3,)))
    fitted, own = score(prior, z, model), score(model.hierarchy.open()[0].prior, z, model)
    by_hand = StandardNormal((2,))(blank(2, 500), None).log_prob(z).mean(0)
    assert own.value == pytest.approx(float(by_hand.mean()))
    assert own.standard_error == pytest.approx(float(by_hand.std()) / 500**0.5)
    assert own.n == 500
    assert fitted.value > own.value + 1
