"""Annealed importance sampling against models whose evidence is known."""

# C chains, N examples, L dimensions of all latents

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.conditionals import Delta, EMACodebook, Quantized, RelaxedCategorical
from vaekit.conditionals import Normal as NormalPosterior
from vaekit.data import probabilistic_pca
from vaekit.data.batch import Split
from vaekit.data.transforms import Dynamic, Scale
from vaekit.errors import ConfigError
from vaekit.evaluation import annealed
from vaekit.evaluation import chains as chains_module
from vaekit.evaluation.annealed import ais_estimates, bidirectional_estimates, simulated
from vaekit.evaluation.chains import Annealing, Sampler, schedule
from vaekit.evaluation.each import Ledger
from vaekit.evaluation.passes import Plan
from vaekit.likelihoods import Bernoulli, LearnedScaleNormal, Normal
from vaekit.math.importance import importance_bound
from vaekit.models import VAE, flat, residual_growing, two_layers
from vaekit.networks import MLP, Conditioned, Growth, OneHot
from vaekit.priors import Mixture, StandardNormal, UniformCategorical, UniformCodes
from vaekit.schedules import advance

STARTS = ("prior", "posterior")
FEW = {"chains": 3, "steps": 4, "leapfrog": 2}


def together(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    """Anneal the chains of so many examples at a time."""
    monkeypatch.setattr(annealed, "_BUSY", {"cpu": (examples * FEW["chains"], 1 << 19)})


def mlp(**shapes: Any) -> MLP:
    return MLP(**shapes, hidden_dims=(7,), activation="tanh")


@pytest.fixture(autouse=True)
def _briefly_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Step sizes are found in a moment: what is true of the weights is true whatever they are."""
    monkeypatch.setattr(chains_module, "_WARM_UP", 6)
    monkeypatch.setattr(chains_module, "_SHORT", 10)


@pytest.fixture
def vague() -> Any:
    """Noise so strong that prior and posterior are not far apart: weights have a variance that 3000 of them can show."""
    return probabilistic_pca(features=5, latents=2, sigma=2.0, seed=3)


@pytest.fixture
def askew(vague: Any, linear_gaussian: Any) -> Any:
    """The model that made such data, with a posterior that is shifted and too wide."""
    return linear_gaussian(vague.weight, vague.bias, vague.sigma, shift=0.3, widen=1.5)


def sampler(model: VAE, x: Tensor, seed: int = 0, **settings: Any) -> Sampler:
    model = annealed._in_float64(model).eval()
    with torch.no_grad():
        return Sampler(model, x, None, Annealing(**settings), seed, torch.arange(len(x)))


def within(values: Tensor, truth: float | Tensor, errors: float = 4.0) -> bool:
    """Whether the mean of the values is the truth, to so many standard errors; four: false alarm 6e-5."""
    difference = values - truth
    return bool(difference.mean().abs() < errors * difference.std() / len(difference) ** 0.5)


def test_the_schedule_is_a_sigmoid_from_0_to_1() -> None:
    temperatures = torch.tensor(schedule(10))
    raw = torch.sigmoid(torch.linspace(-4.0, 4.0, 11))
    torch.testing.assert_close(temperatures, (raw - raw[0]) / (raw[-1] - raw[0]))
    assert (temperatures[0], temperatures[-1]) == (0.0, 1.0)
    assert schedule(1) == [0.0, 1.0]


def test_from_the_exact_posterior_every_weight_is_the_evidence(exact: Any, pca: Any) -> None:
    """The path is constant but for a factor, so whatever the chains do, all changes of density add up to log p(x)."""
    x = pca.sample(5)
    chains = sampler(exact, x, **FEW, start="posterior")
    with torch.no_grad():
        log_w, acceptance = chains.forward(chains.tuned())
    torch.testing.assert_close(log_w, pca.evidence(x).expand(3, 5), rtol=1e-10, atol=1e-10)
    assert 0.1 < acceptance.mean() < 1.0


@pytest.mark.parametrize("start", STARTS)
def test_it_meets_the_evidence(start: Any, askew: Any, vague: Any, split: Any) -> None:
    """Within 0.01 nats of the mean log p(x) of 60 examples from q, and 0.02 from the prior, which has further to go.

    The standard error over examples is that of log p(x) itself.
    """
    x = vague.sample(60, seed=5)
    evidence = vague.evidence(x)
    numbers = ais_estimates(askew, split(x), Plan(), chains=32, steps=80, leapfrog=3, start=start)
    assert numbers["ais"].value == pytest.approx(float(evidence.mean()), abs={"posterior": 0.01, "prior": 0.02}[start])
    assert numbers["ais"].standard_error == pytest.approx(float(evidence.std()) / 60**0.5, rel=0.02)
    assert (numbers["ais"].unit, numbers["ais"].n) == ("nats", 60)
    assert f"from {chains_module.PATHS[start].name} over 80 temperatures" in numbers["ais"].estimator
    assert 24 < numbers["ais_effective_chains"].value < 32
    assert 0.5 < numbers["ais_acceptance"].value < 0.8


@pytest.mark.parametrize("start", STARTS)
def test_forward_and_reverse_bracket_the_evidence(start: Any, askew: Any, vague: Any) -> None:
    """Two temperatures leave a gap on either side, by four standard errors; thirty halve it, and none turns round.

    One chain each, 400 simulated examples.
    """
    with torch.no_grad():
        gaps = []
        for steps in (2, 30):
            x, z = simulated(askew, None, 3, torch.arange(400))
            chains = sampler(askew, x, chains=1, steps=steps, leapfrog=3, start=start)
            sizes, truth = chains.tuned(), vague.evidence(x)
            below = truth - importance_bound(chains.forward(sizes)[0])
            above = -importance_bound(chains.reverse(z, sizes)[0]) - truth
            for gap in (below, above):
                error = gap.std() / 400**0.5
                assert gap.mean() > (4 if steps == 2 else -4) * error
            gaps.append(float((below + above).mean()))
    assert gaps[1] < 0.5 * gaps[0]


def test_simulated_data_are_draws_of_the_model_and_the_latents_of_their_posterior(askew: Any, vague: Any) -> None:
    """Moments of 4000 draws: means and variances of x, and of what is left of z after the exact posterior mean."""
    with torch.no_grad():
        x, z = simulated(askew, None, 0, torch.arange(4000))
    assert z.shape == (1, 4000, 2)
    posterior = vague.posterior(x)
    left = z[0] - posterior.loc
    covariance = (
        posterior.covariance_matrix[0] if posterior.covariance_matrix.dim() > 2 else posterior.covariance_matrix
    )
    for d in range(2):
        assert within(left[:, d], 0.0, 5)
        assert within(left[:, d].square(), covariance[d, d], 5)
    variance = (vague.weight @ vague.weight.T).diagonal() + vague.sigma**2
    for d in range(5):
        assert within(x[:, d], vague.bias[d], 5)
        assert within((x[:, d] - vague.bias[d]).square(), variance[d], 5)


@pytest.mark.parametrize("start", STARTS)
def test_the_weights_are_unbiased_however_few_the_temperatures(start: Any, askew: Any, vague: Any) -> None:
    """E[w] = p(x) and, in reverse, E[1/w] = 1/p(x): 3000 chains of three temperatures, whose logarithms are far below."""
    with torch.no_grad():
        x, z = simulated(askew, None, 7, torch.arange(3000))
        truth = vague.evidence(x)
        chains = sampler(askew, x, chains=1, steps=3, leapfrog=2, start=start)
        sizes = chains.tuned()
        up = chains.forward(sizes)[0][0] - truth
        down = chains.reverse(z, sizes)[0][0] + truth
    assert within(up.exp(), 1.0)
    assert within(down.exp(), 1.0)
    assert not within(up, 0.0, 6)
    assert not within(down, 0.0, 6)


@pytest.mark.parametrize("start", STARTS)
def test_it_is_the_evidence_of_a_model_that_is_not_gaussian(start: Any) -> None:
    """A mixture as prior and a network as decoder, one latent: E[w] against numerical integration, 1500 chains of one example."""
    model = flat(mlp, mlp, NormalPosterior((1,)), Mixture((1,), components=3), Bernoulli((4,)))
    with torch.no_grad():
        model.hierarchy.levels[0].prior.loc.mul_(2.0)  # type: ignore[union-attr, operator]
        for parameter in (*model.decoder.parameters(), *model.encoder.parameters()):
            parameter.mul_(2.0)
        x = torch.tensor([1.0, 0.0, 1.0, 1.0])
        grid = torch.linspace(-15.0, 15.0, 20_001)[:, None, None]
        joint = model.log_joint(x.expand(1, 4), grid)[:, 0]
        evidence = joint.logsumexp(0) + torch.tensor(30.0 / 20_000).log()
        chains = sampler(model, x.expand(1500, 4), chains=1, steps=4, leapfrog=2, start=start)
        log_w = chains.forward(chains.tuned())[0][0]
    assert within((log_w - evidence).exp(), 1.0)
    assert (log_w - evidence).std() > 0.02


def test_one_temperature_is_plain_importance_sampling(tiny_vae: Any, split: Any) -> None:
    """No transition at all, so the weights are those of the draws of q."""
    x = (torch.rand(6, 5) > 0.5).double()
    chains = sampler(tiny_vae, x, chains=4, steps=1, start="posterior")
    with torch.no_grad():
        log_w, acceptance = chains.forward(chains.tuned())
        point = chains._started(chains_module.FORWARD, range(4))
        trace = chains.path.model.trace_at(x, point.z)
    torch.testing.assert_close(log_w, trace.log_w)
    assert acceptance.isnan().all()
    # of which nothing can be said, and so nothing is
    assert set(ais_estimates(tiny_vae, split(x), Plan(), chains=4, steps=1)) == {"ais", "ais_effective_chains"}


@pytest.mark.parametrize(
    ("start", "precision", "sizes"),
    [
        ("posterior", torch.float64, (1, 7, 100)),
        ("prior", torch.float64, (4, 100)),
        ("posterior", torch.float32, (4, 100)),
    ],
)
def test_noise_is_of_the_examples_and_not_of_their_batch(
    start: Any, precision: torch.dtype, sizes: tuple[int, ...], tiny_vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1, 7, 100 examples together, and all: to 1e-10, for a model in float32 as well, as chains are always in float64."""
    model = tiny_vae.to(precision).train()
    data = Split(torch.rand(9, 5, generator=torch.Generator().manual_seed(1)), (Scale(1.0, precision), Dynamic()))
    numbers = []
    for size in sizes:
        together(monkeypatch, size)
        numbers.append(
            ais_estimates(model, data, Plan(), **FEW, start=start)
            | bidirectional_estimates(model, data, Plan(), **FEW, start=start)
        )
    for other in numbers[1:]:
        for name, number in numbers[0].items():
            assert other[name].value == pytest.approx(number.value, rel=1e-10, abs=1e-10), name
            assert other[name].standard_error == pytest.approx(number.standard_error, rel=1e-10, abs=1e-10), name
    assert model.training
    assert all(parameter.dtype == precision and parameter.requires_grad for parameter in model.parameters())
    another = ais_estimates(model, data, Plan(seed=1), **FEW, start=start)
    assert another["ais"].value != pytest.approx(numbers[0]["ais"].value, abs=1e-6)


def test_the_batch_size_of_the_plan_changes_no_bit(tiny_vae: Any, split: Any) -> None:
    """Long trajectories blow the last bit up, in which products of different shapes differ: so it decides no shape."""
    data = split((torch.rand(9, 5) > 0.5).double())
    for estimates in (ais_estimates, bidirectional_estimates):
        assert estimates(tiny_vae, data, Plan(batch_size=1), **FEW) == estimates(tiny_vae, data, Plan(), **FEW)


def test_chains_may_run_a_few_at_a_time(tiny_vae: Any, split: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and the numbers stay."""
    data = split((torch.rand(4, 5) > 0.5).double())
    settings = {"chains": 7, "steps": 4, "leapfrog": 2}
    whole = ais_estimates(tiny_vae, data, Plan(), **settings)
    seen: list[int] = []
    at = chains_module.Path.at
    monkeypatch.setattr(
        chains_module.Path, "at", lambda self, z, b: (seen.append(z.shape[:2].numel()), at(self, z, b))[1]
    )
    monkeypatch.setattr(chains_module, "_VALUES", 4 * 4 * 5)
    parts = ais_estimates(tiny_vae, data, Plan(), **settings)
    assert max(seen) == 16
    assert parts["ais"].value == pytest.approx(whole["ais"].value, rel=1e-12)


def test_one_that_was_killed_goes_on(
    tiny_vae: Any, split: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = split((torch.rand(9, 5) > 0.5).double())
    asked: list[tuple[str, Any]] = []

    def keep(name: str, settings: Any) -> Ledger:
        asked.append((name, dict(settings)))
        return Ledger(tmp_path, name, settings)

    def kill(done: int, total: int) -> None:
        assert total == 9
        if done >= 4:
            raise KeyboardInterrupt

    for estimates in (ais_estimates, bidirectional_estimates):
        whole = estimates(tiny_vae, data, Plan(), **FEW)
        together(monkeypatch, 2)
        with pytest.raises(KeyboardInterrupt):
            estimates(tiny_vae, data, Plan(), **FEW, keep=keep, tell=kill)
        together(monkeypatch, 5)
        left: list[int] = []
        again = estimates(tiny_vae, data, Plan(), **FEW, keep=keep, tell=lambda done, _, left=left: left.append(done))
        assert left == [4, 9]
        for name, number in whole.items():
            assert again[name].value == pytest.approx(number.value, rel=1e-10), name
    assert [name for name, _ in asked] == ["ais", "ais", "bdmc", "bdmc"]
    assert asked[0][1] == {**FEW, "start": "posterior"}


def told(in_shape: Any, out_shape: Any) -> Conditioned:
    return Conditioned(in_shape, out_shape, mlp, OneHot(3))


def conditional() -> VAE:
    return flat(told, told, NormalPosterior((2,)), StandardNormal((2,)), Bernoulli((5,)))


def two() -> VAE:
    upper, lower = NormalPosterior((2,)), NormalPosterior((3,))
    return two_layers(mlp, mlp, upper, StandardNormal((2,)), Normal((5,)), mlp, mlp, lower, NormalPosterior((3,)))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("make", [conditional, two])
def test_other_structures_agree_with_many_importance_samples(make: Callable[[], VAE], start: Any) -> None:
    """A conditional model and two layers: 30 examples, both numbers within 0.05 nats of each other."""
    model = make().eval()
    data = Split((torch.rand(30, 5) > 0.5).double(), (Scale(1.0, torch.float64),), labels=torch.arange(30) % 3)
    number = ais_estimates(model, data, Plan(), chains=8, steps=10, leapfrog=3, start=start)["ais"]
    with torch.no_grad():
        bound = importance_bound(model(data.dense, 3000, data.labels).log_w).mean()
    assert number.value == pytest.approx(float(bound), abs=0.05)
    both = bidirectional_estimates(model, data, Plan(), chains=4, steps=12, leapfrog=3, start=start)
    assert abs(both["bdmc_gap"].value) < 0.1


def residual() -> VAE:
    growth = Growth(2, 4, epochs_per_stage=2, fadein_ratio=0.5, steps_per_epoch=4)
    model = residual_growing(
        lambda: NormalPosterior((2,)), lambda: StandardNormal((2,)), lambda: NormalPosterior((2,)), Bernoulli,
        LearnedScaleNormal, growth, (1, 4, 4), 4, 3,
    )  # fmt: skip
    advance(model, 99)
    return model.eval()


def test_a_model_of_several_views_is_annealed_but_not_simulated(split: Any) -> None:
    model, data = residual(), split(torch.rand(6, 1, 4, 4))
    number = ais_estimates(model, data, Plan(), chains=4, steps=8, leapfrog=3)["ais"]
    with torch.no_grad():
        bound = importance_bound(model(data.dense, 2000).log_w).mean()
    assert number.value == pytest.approx(float(bound), abs=0.05)
    with pytest.raises(ConfigError, match="several views of an image together") as refusal:
        bidirectional_estimates(model, data, Plan(), **FEW)
    assert "\n" not in str(refusal.value)


def codes() -> VAE:
    posterior = Quantized((3,), lambda dim: EMACodebook(dim, 4))
    return flat(mlp, mlp, posterior, UniformCodes((3,), posterior.codebook), Bernoulli((5,)))


REFUSED = {
    "point": (lambda: flat(mlp, mlp, Delta((2,)), StandardNormal((2,)), Bernoulli((5,))), "no density"),
    "codes": (codes, "codes, categories"),
    "categories": (
        lambda: flat(mlp, mlp, RelaxedCategorical((2, 3)), UniformCategorical((2, 3)), Bernoulli((5,))),
        "codes, categories",
    ),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_gradient_or_no_density_is_refused(make: Callable[[], VAE], words: str, split: Any) -> None:
    for estimates in (ais_estimates, bidirectional_estimates):
        with pytest.raises(ConfigError, match=words) as refusal:
            estimates(make(), split(torch.rand(3, 5)), Plan(), **FEW)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"chains": 0}, "chains is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"leapfrog": -1}, "leapfrog is -1"),
        ({"steps": 2_000_000}, "a million or fewer"),
        ({"start": "middle"}, "start is 'middle', expected one of prior, posterior"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: Any, words: str, tiny_vae: Any, split: Any) -> None:
    with pytest.raises(ConfigError, match=words):
        ais_estimates(tiny_vae, split(torch.rand(3, 5)), Plan(), **wrong)
