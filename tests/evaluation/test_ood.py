"""Out-of-distribution scores: closed forms of a linear-Gaussian model, and the failure that they are known for."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from scipy.stats import f as f_distribution
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from torch import Tensor

from vaekit.conditionals import Delta, Normal
from vaekit.data.augment import RandomFlip
from vaekit.data.batch import Split
from vaekit.data.transforms import Dynamic, Scale
from vaekit.errors import ConfigError
from vaekit.evaluation import Plan
from vaekit.evaluation.complexity import compressed_bits
from vaekit.evaluation.each import Ledger
from vaekit.evaluation.ood import _scored, ood_estimates, ood_scores
from vaekit.evaluation.separation import Scores, ranked, write_scores
from vaekit.likelihoods import Normal as FixedNormal
from vaekit.math.mahalanobis import mahalanobis
from vaekit.models import flat
from vaekit.networks import MLP
from vaekit.objectives import KL, Objective, Reconstruction
from vaekit.priors import StandardNormal

PLAN = Plan(batch_size=64, samples=3)


def drawn(pca: Any, n: int, seed: int, stretch: float = 1.0) -> Tensor:
    """Examples whose distance from the mean of the model is stretched."""
    return pca.bias + stretch * (pca.sample(n, seed) - pca.bias)


def test_the_scores_of_a_linear_gaussian_model_are_what_can_be_written_down(
    exact: Any, pca: Any, split: Any, linear_gaussian: Any
) -> None:
    inside, outside, train = drawn(pca, 60, 1), drawn(pca, 50, 2, 2.0), drawn(pca, 300, 3)
    background = linear_gaussian(torch.zeros_like(pca.weight), pca.bias, 1.5)  # knows the mean and nothing else
    scores = ood_scores(exact, split(inside), split(outside), split(train), PLAN, background=background)
    fitted = LedoitWolf().fit(pca.posterior(train).mean.numpy())
    for x, found in ((inside, scores.inside), (outside, scores.outside)):
        evidence, means = pca.evidence(x), pca.posterior(x).mean
        plain = torch.distributions.Normal(pca.bias, 1.5).log_prob(x).sum(1)
        rebuilt = means @ pca.weight.T + pca.bias
        expected = {
            "negative_bound": -evidence,
            "typicality": (evidence - pca.evidence(train).mean()).abs(),
            "likelihood_ratio": plain - evidence,
            "mahalanobis": torch.from_numpy(fitted.mahalanobis(means.numpy())).sqrt(),
            "reconstruction": (rebuilt - x).square().mean(1),
        }
        assert set(found) == set(expected)
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=1e-8, atol=1e-8, msg=name)
    assert set(scores.left_out) == {"complexity", "regret"}
    assert "continuous" in scores.left_out["complexity"]


def test_the_area_of_the_bound_is_that_of_two_chi_squares(exact: Any, pca: Any, split: Any) -> None:
    """-log p(x) orders examples by (x - b)' C^-1 (x - b): chi-square with D degrees inside, and s^2 times it outside."""
    n, stretch = 3000, 1.3
    sides = split(drawn(pca, n, 1)), split(drawn(pca, n, 2, stretch))
    numbers = ood_estimates(exact, *sides, split(drawn(pca, 50, 3)), Plan(1000, 1))
    area = numbers["ood_negative_bound_auroc"]
    truth = f_distribution(5, 5).cdf(stretch**2)  # P(inner < s^2 outer)
    assert abs(area.value - truth) < 4 * area.standard_error < 0.04
    assert area.n == 2 * n
    assert "out is positive: 3,000 in, 3,000 out, base rate 0.5" in area.estimator
    rate = numbers["ood_negative_bound_fpr95"]  # the share of the inside beyond the 5 % point of the outside
    assert abs(rate.value - chi2(5).sf(stretch**2 * chi2(5).ppf(0.05))) < 4 * rate.standard_error < 0.05


def test_regret_is_what_the_encoder_leaves(split: Any, linear: Any) -> None:
    """Where the exact posterior is diagonal, and q is moved and too wide, it is KL(q || exact): the same for every x."""
    sigma, sizes, moved, wider = 0.7, torch.tensor([1.0, 2.0]), 0.5, 1.5
    W = torch.cat([torch.diag(sizes), torch.zeros(1, 2)])  # orthogonal columns
    variance = 1 / (1 + sizes.square() / sigma**2)
    gain = torch.cat([variance[:, None] * W.T / sigma**2, torch.zeros(2, 3)])
    spread = variance.log() + 2 * math.log(wider)
    offset = torch.cat([moved * torch.ones(2), spread])
    model = flat(
        linear(gain, offset), linear(W, torch.zeros(3)), Normal((2,)), StandardNormal((2,)), FixedNormal((3,), sigma)
    )
    x = torch.randn(12, 3)
    scores = ood_scores(model, split(x), split(3 * x), split(x), PLAN, regret_examples=10)
    kl = 0.5 * (moved**2 / variance + wider**2 - 1 - 2 * math.log(wider)).sum()
    for side in (scores.inside["regret"], scores.outside["regret"]):
        known = side[~side.isnan()]
        assert len(known) == 10
        assert abs(float(known.mean() - kl)) < 4 * float(known.std()) / math.sqrt(10) + 0.02 < 0.8
    assert ranked(scores, 20)["ood_regret_auroc"].n == 20


def rolled_digits() -> Tensor:
    """Digits of 17 levels, each moved around the torus at random, so that no pixel is darker than another on average."""
    images = torch.from_numpy(load_digits().images).to(torch.uint8)
    numbers = np.random.default_rng(0)
    moves = numbers.integers(0, 8, (len(images), 2))
    return torch.stack([torch.roll(i, tuple(m), (0, 1)) for i, m in zip(images, moves.tolist(), strict=True)])[:, None]


@pytest.fixture(scope="module")
def digits_vae() -> tuple[Any, Split, Split]:
    """A small VAE of rolled digits after a second of training; its test examples, and its training examples."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    stored = rolled_digits()
    train, test = (Split(part, (Scale(16.0, torch.float64),)) for part in (stored[:1500], stored[1500:]))
    model = flat(
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [32]),
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [32]),
        Normal((4,)),
        StandardNormal((4,)),
        FixedNormal((1, 8, 8), 0.3),
    ).double()
    objective = Objective({"reconstruction": Reconstruction(), "kl": KL()})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        batch = train.batch(torch.randint(len(train), (64,)))
        optimizer.zero_grad()
        objective(model(batch.x)).total.backward()
        optimizer.step()
    return model.eval(), test, train


def test_constant_images_have_a_higher_likelihood_than_data_and_their_simplicity_gives_them_away(
    digits_vae: tuple[Any, Split, Split],
) -> None:
    model, test, train = digits_vae
    level = torch.arange(2, 9, dtype=torch.uint8).repeat_interleave(10)  # around the mean of all pixels, 4.9 of 16
    constant = replace(test, stored=level[:, None, None, None].expand(-1, 1, 8, 8).contiguous())
    scores = ood_scores(model, test, constant, train, Plan(500, 4), levels=17, regret_examples=0)
    numbers = ranked(scores)
    assert numbers["ood_negative_bound_auroc"].value < 0.1
    assert numbers["ood_complexity_auroc"].value > 0.95
    assert scores.outside["negative_bound"].mean() < scores.inside["negative_bound"].mean()
    assert set(scores.left_out) == {"likelihood_ratio", "regret"}
    # bits: a density of values between 0 and 1 becomes a probability of 17 levels by the width of a level
    x = constant.batch(torch.arange(70)).x
    expected = (scores.outside["negative_bound"] + 64 * math.log(16)) / math.log(2) - compressed_bits(x, 17)
    torch.testing.assert_close(scores.outside["complexity"], expected)


def test_the_bits_of_an_example_are_its_own_and_noise_has_as_many_as_it_holds() -> None:
    noise = torch.randint(0, 256, (4, 3, 16, 16)) / 255
    blank = torch.zeros(4, 3, 16, 16)
    bits = compressed_bits(torch.cat([noise, blank]), 256)
    assert bits.dtype == torch.float64
    assert (bits[:4] >= 8 * 3 * 16 * 16).all()  # of nothing but noise, no code is shorter than it
    assert (bits[:4] < 8 * 3 * 16 * 16 + 8 * 80).all()  # nor need it be longer than that and a header
    assert (bits[4:] < 8 * 80).all()
    assert torch.equal(bits[1:2], compressed_bits(noise[1:2], 256))
    coins = (torch.rand(3, 1, 64, 64) < 0.5).float()
    assert (compressed_bits(coins, 2) < 1.3 * 64 * 64).all()  # a bit a pixel, where a byte each would be eight
    counts = torch.zeros(2, 400)
    counts[1] = torch.randint(0, 70_000, (400,)).float()  # beyond two bytes
    few, many = compressed_bits(counts, None).tolist()
    assert few < 250 < 400 * 16 < many


GREY = Dynamic()


def pieces(n: int, seed: int) -> Split:
    stored = torch.rand(n, 5, generator=torch.Generator().manual_seed(seed))
    return Split(stored, (Scale(1.0, torch.float64), GREY))  # binarised anew, and still the same


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_batch_size_changes_no_score(size: int, tiny_vae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaekit.evaluation.ood.REGRET_STEPS", 5)

    def scores(batch_size: int) -> Scores:
        splits = pieces(23, 1), pieces(19, 2), pieces(40, 3)
        return ood_scores(tiny_vae, *splits, Plan(batch_size, 2), levels=2, background=tiny_vae, regret_examples=3)

    whole, parts = scores(40), scores(size)
    assert set(whole.inside) == {
        "negative_bound", "typicality", "complexity", "likelihood_ratio", "regret", "mahalanobis", "reconstruction",
    }  # fmt: skip
    for name, values in whole.outside.items():
        torch.testing.assert_close(parts.outside[name], values, rtol=1e-10, atol=1e-10, equal_nan=True, msg=name)
    assert not whole.inside["likelihood_ratio"].any()  # its own background: ratio 1


def test_what_is_done_is_kept_and_other_settings_are_other_files(
    tmp_path: Path, tiny_vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaekit.evaluation.ood.REGRET_STEPS", 5)
    splits = pieces(23, 1), pieces(19, 2), pieces(40, 3)
    told: list[tuple[int, int]] = []

    def keep(name: str, settings: Any) -> Ledger:
        return Ledger(tmp_path, name, settings)

    def scores(samples: int = 2, **given: Any) -> Scores:
        return ood_scores(tiny_vae, *splits, Plan(8, samples), levels=2, regret_examples=2, **given)

    fresh = scores(tell=lambda done, of: told.append((done, of)))
    # an example that is searched takes another time: these are counted by themselves
    assert [place for place in told if place[1] == 82][-1] == (23 + 19 + 40, 82)
    assert [place for place in told if place[1] == 4] == [(0, 4), (2, 4), (2, 4), (4, 4)]
    assert [of for _, of in told] == sorted((of for _, of in told), reverse=True)
    first = scores(keep=keep)
    assert len(list(tmp_path.iterdir())) == 5
    monkeypatch.setattr(type(tiny_vae), "encode", None)  # nothing is encoded again
    again = scores(keep=keep)
    for one, two in ((fresh, first), (first, again)):
        assert all(torch.equal(one.inside[k].nan_to_num(), two.inside[k].nan_to_num()) for k in one.inside)
    with pytest.raises(TypeError):
        scores(3, keep=keep)


def test_the_training_examples_are_seen_as_they_are() -> None:
    """Augmented ones would have another mean; a random part is the same every time."""
    from vaekit.evaluation.ood import _some, _unchanged

    split = Split(torch.rand(50, 1, 2, 2), (Scale(1.0), RandomFlip()))
    assert _unchanged(split).transforms == split.transforms[:1]
    few = _some(split, 7)
    assert len(few) == 7
    assert torch.equal(few.dense, _some(split, 7).dense)
    assert len(_some(split, 50)) == 50


def test_a_model_without_a_density_has_the_scores_that_need_none(split: Any) -> None:
    from vaekit.priors import FittedNormal

    autoencoder = flat(
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [4]),
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [4]),
        Delta((2,)), FittedNormal((2,)), FixedNormal((5,), 1.0),
    )  # fmt: skip
    splits = [split(torch.randn(n, 5)) for n in (9, 8, 30)]
    scores = ood_scores(autoencoder, *splits, PLAN)
    assert set(scores.inside) == {"mahalanobis", "reconstruction"} == set(scores.words) & set(scores.inside)
    assert scores.left_out["negative_bound"] == scores.left_out["regret"] == "the ELBO of this model bounds nothing"
    with pytest.raises(ConfigError, match="background model has no density"):
        ood_scores(autoencoder, *splits, PLAN, background=autoencoder)


def test_what_cannot_be_scored_is_said_in_one_line(exact: Any, pca: Any, split: Any, tiny_vae: Any) -> None:
    good, wrong = split(pca.sample(5)), split(torch.zeros(5, 4))
    for splits, message in (
        ((good, wrong, good), r"outside examples have the shape \(4,\), and the model takes \(5,\)"),
        ((split(torch.zeros(0, 5)), good, good), "no inside examples"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            ood_scores(exact, *splits, PLAN)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="a probability of examples"):
        ood_scores(exact, good, good, good, PLAN, background=tiny_vae)


def test_points_of_a_cloud_that_is_a_point_have_no_distance() -> None:
    assert mahalanobis(torch.randn(3, 2), torch.ones(9, 2)) is None
    assert mahalanobis(torch.randn(3, 2), torch.randn(1, 2)) is None
    assert mahalanobis(torch.randn(3, 2), torch.tensor([[0.0, 1.0], [1.0, math.nan], [2.0, 3.0]])) is None
    shifted = mahalanobis(torch.tensor([[5.0, 0.0]]), torch.randn(4000, 2) * torch.tensor([2.0, 1.0]))
    assert shifted is not None
    assert float(shifted) == pytest.approx(2.5, rel=0.1)


def test_a_mean_that_is_not_finite_is_no_centre() -> None:
    """One training example without a bound leaves typicality out, and does not make all scores of it alike."""
    numbers = {"bound": torch.tensor([-1.0, -2.0], dtype=torch.float64), "error": torch.ones(2)}
    whole = _scored(numbers, {"bound": torch.tensor([-1.0, -3.0])}, {}, None, 0.0)
    assert torch.equal(whole["typicality"], torch.tensor([1.0, 0.0], dtype=torch.float64))
    broken = _scored(numbers, {"bound": torch.tensor([-1.0, -math.inf])}, {}, None, 0.0)
    assert set(whole) - set(broken) == {"typicality"}


def test_a_score_that_is_no_number_is_out_and_one_that_was_not_measured_is_left_out(tmp_path: Path) -> None:
    inf, nan = math.inf, math.nan
    scores = Scores(
        {"a": torch.tensor([0.0, 1.0, 2.0]), "b": torch.tensor([nan, 0.25, nan])},
        {"a": torch.tensor([3.0, inf]), "b": torch.tensor([0.5, nan])},
        {"a": "one", "b": "two"},
    )
    numbers = ranked(scores, 20)
    assert numbers["ood_a_auroc"].value == numbers["ood_a_auprc"].value == 1.0
    assert numbers["ood_a_fpr95"].value == 0.0
    assert numbers["ood_a_auprc"].standard_error == 0.5  # one over the smaller set, in place of 0
    assert (numbers["ood_b_auroc"].n, numbers["ood_a_auroc"].n) == (2, 5)
    assert "1 in, 1 out, base rate 0.5" in numbers["ood_b_fpr95"].estimator
    with write_scores(scores, tmp_path / "deep" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == ["in"] * 3 + ["out"] * 2
    assert rows[1] == {"set": "in", "index": "1", "a": "1.0", "b": "0.25"}
    assert rows[4] == {"set": "out", "index": "1", "a": "inf", "b": ""}
