"""Numbers about generated images and reconstructions: closed forms, independent computations, and what they must not depend on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.ndimage import gaussian_filter

from vaekit.data.batch import Dataset, Split
from vaekit.data.transforms import Dynamic, Scale
from vaekit.errors import ConfigError
from vaekit.evaluation import features, generation, similarity
from vaekit.evaluation.generation import (
    Sets,
    frechet_estimate,
    generation_estimates,
    kernel_estimate,
    overlap_estimates,
)
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.pictures import samples
from vaekit.evaluation.units import Estimate

PLAN = Plan(batch_size=7, samples=1, seed=5)
NAMES = [
    *(f"{name}_efflite0" for name in ("fd", "kd", "precision", "recall", "density", "coverage")),
    *("mse", "psnr", "ssim"),
]


def image_vae(shape: tuple[int, ...] = (1, 8, 8)) -> Any:
    from vaekit.conditionals import Normal
    from vaekit.likelihoods import Bernoulli
    from vaekit.models import flat
    from vaekit.networks import MLP
    from vaekit.priors import StandardNormal

    torch.manual_seed(1)
    return flat(
        encoder=lambda in_shape, out_shape: MLP(in_shape, out_shape, hidden_dims=[8]),
        decoder=lambda in_shape, out_shape: MLP(in_shape, out_shape, hidden_dims=[8]),
        posterior=Normal((3,)),
        prior=StandardNormal((3,)),
        likelihood=Bernoulli(shape),
    )


def images(count: int = 30, shape: tuple[int, ...] = (1, 8, 8), *, dynamic: bool = False) -> Dataset:
    stored = torch.randint(256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    split = Split(stored, (Scale(255.0, torch.float64), *([Dynamic()] if dynamic else [])), torch.arange(count) % 3)
    return Dataset("noise", split, split, split, "noise", binary=dynamic, low=0.0, high=1.0)


def sets(real: torch.Tensor, fake: torch.Tensor, seed: int = 0) -> Sets:
    return Sets(real, fake, seed)


def normal(n: int, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Points whose mean and covariance are exactly `shift` and `scale` squared."""
    x = torch.randn(n, len(scale))
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T
    return x * scale + shift


def test_frechet_distance_of_known_normals() -> None:
    # diagonal covariances: the sum of squared differences of means and of standard deviations
    scales, shifts = torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, 0.5]]), torch.tensor([[0.0, 1.0, -1.0], [2.0, 1.0, 0.0]])
    made = sets(normal(50, scales[0], shifts[0]), normal(50, scales[1], shifts[1]))
    expected = float((shifts[0] - shifts[1]).square().sum() + (scales[0] - scales[1]).square().sum())
    assert frechet_estimate(made).value == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_against_scipy() -> None:
    real, fake = torch.randn(60, 5) @ torch.randn(5, 5), torch.randn(60, 5) @ torch.randn(5, 5) + 1.0
    a, b = np.cov(real.numpy().T), np.cov(fake.numpy().T)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = float((real.mean(0) - fake.mean(0)).square().sum()) + np.trace(a + b - 2 * root)
    assert frechet_estimate(sets(real, fake)).value == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_a_set_with_itself_is_nothing() -> None:
    x = torch.randn(40, 6)
    estimate = frechet_estimate(sets(x, x))
    assert abs(estimate.value) < 1e-10
    assert estimate.standard_error < 1e-10


def test_in_fewer_coordinates_no_distance_changes() -> None:
    real, fake = torch.randn(20, 100), torch.randn(20, 100) + 3.0
    small = generation.spanned(sets(real, fake))
    assert small.real.shape == small.fake.shape == (20, 40)
    torch.testing.assert_close(torch.cdist(small.real, small.fake), torch.cdist(real, fake), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.cdist(small.real, small.real), torch.cdist(real, real), rtol=1e-6, atol=1e-6)
    assert generation._frechet(small) == pytest.approx(generation._frechet(sets(real, fake)), rel=1e-7)


def unbiased(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Squared maximum mean discrepancy, written as the sums that define it."""

    def k(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x @ y / len(x) + 1.0) ** 3)

    m = len(real)
    pairs = [(i, j) for i in range(m) for j in range(m)]
    within = sum(k(real[i], real[j]) + k(fake[i], fake[j]) for i, j in pairs if i != j) / (m * (m - 1))
    return within - 2.0 * sum(k(real[i], fake[j]) for i, j in pairs) / m**2


def test_kernel_distance_by_its_definition() -> None:
    real, fake = torch.randn(40, 3), torch.randn(40, 3) * 1.5
    order = torch.randperm(40, generator=torch.Generator().manual_seed(9)).reshape(10, 4)
    blocks = torch.tensor([unbiased(real[index], fake[index]) for index in order])
    estimate = kernel_estimate(sets(real, fake, seed=9))
    assert estimate.value == pytest.approx(float(blocks.mean()), rel=1e-10)
    assert estimate.standard_error == pytest.approx(float(blocks.std()) / math.sqrt(10), rel=1e-10)
    assert "10 disjoint blocks of 4" in estimate.estimator


def test_kernel_distance_sees_a_spread_that_means_do_not_show() -> None:
    # a linear kernel would give 0 here
    estimate = kernel_estimate(sets(torch.randn(2000, 4), 2.0 * torch.randn(2000, 4)))
    assert estimate.value > 10 * estimate.standard_error


def test_kernel_distance_of_equal_distributions_is_nothing_within_its_error() -> None:
    estimates = [kernel_estimate(sets(torch.randn(200, 4), torch.randn(200, 4))) for _ in range(20)]
    mean = sum(e.value for e in estimates) / 20
    error = math.sqrt(sum(e.standard_error**2 for e in estimates)) / 20
    assert abs(mean) < 4.5 * error


def test_it_says_how_many_blocks_large_sets_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_kernel", lambda part: float(len(part.real)))
    assert (
        "12 disjoint blocks of 1041" in kernel_estimate(sets(torch.zeros(12_500, 1), torch.zeros(12_500, 1))).estimator
    )


MEASURES: dict[str, Callable[[Sets], Estimate]] = {
    "frechet": frechet_estimate,
    "kernel": kernel_estimate,
    **{
        name: lambda made, name=name: overlap_estimates(made)[f"{name}_efflite0"]  # type: ignore[misc]
        for name in ("precision", "recall", "density", "coverage")
    },
}


@pytest.mark.parametrize("name", MEASURES)
def test_standard_errors_are_the_spread_over_repetitions(name: str) -> None:
    made = [MEASURES[name](sets(torch.randn(80, 2), torch.randn(80, 2) * 0.8 + 0.5, seed)) for seed in range(50)]
    spread = torch.tensor([estimate.value for estimate in made]).std()
    said = torch.tensor([estimate.standard_error for estimate in made]).square().mean().sqrt()
    # 50 repetitions give the spread within 10 %. Overlaps are no smooth functions of the points, and the jackknife of such
    # numbers is cautious: 1.1 to 2 times the spread in simulations
    assert 0.7 < said / spread < (1.5 if name in ("frechet", "kernel") else 2.5)


def test_overlaps_are_those_of_the_sets() -> None:
    x = torch.randn(30, 4)
    same = overlap_estimates(sets(x, x))
    assert [estimate.value for estimate in same.values()] == [1.0, 1.0, 1.2, 1.0]
    # no image makes a difference here, which does not make a share of 30 images exact
    assert [estimate.standard_error for estimate in same.values()] == [1 / 30] * 4
    apart = overlap_estimates(sets(x, x + 100.0))
    assert [estimate.value for estimate in apart.values()] == [0.0] * 4


@pytest.mark.parametrize("dynamic", [False, True])
def test_all_numbers_of_a_model(dynamic: bool) -> None:
    found = generation_estimates(image_vae(), images(dynamic=dynamic), "test", PLAN)
    assert list(found) == NAMES
    assert all(math.isfinite(estimate.value) and math.isfinite(estimate.standard_error) for estimate in found.values())
    assert all(estimate.n == 30 for estimate in found.values())
    assert all(found[name].value > 0 for name in ("fd_efflite0", "mse", "psnr"))
    for name in NAMES[:6]:
        words = found[name].estimator
        for part in (
            "30 samples from the prior",
            "means of p(x|z)",
            "against 30 test images",
            "128 x 128",
            "antialiased",
            "error",
        ):
            assert part in words
        assert ("before their binarisation" in words) == dynamic
    json.dumps({name: estimate.as_dict() for name, estimate in found.items()}, allow_nan=False)


def test_numbers_follow_the_seed_and_neither_the_batch_size_nor_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "prepared", partial(features.prepared, side=32))
    model, data = image_vae(), images(40, dynamic=True)
    state = torch.get_rng_state()
    first = generation_estimates(model, data, "test", Plan(40, 1, 5), count=20)
    assert torch.equal(state, torch.get_rng_state())
    torch.randn(3)
    again = generation_estimates(model, data, "test", Plan(9, 1, 5), count=20)
    assert [again[name] for name in NAMES[:6]] == [first[name] for name in NAMES[:6]]
    for name in NAMES[6:]:
        assert again[name].value == pytest.approx(first[name].value, rel=1e-12)
    other = generation_estimates(model, data, "test", Plan(9, 1, 6), count=20)
    assert other["fd_efflite0"].value != first["fd_efflite0"].value


def test_the_kth_image_does_not_depend_on_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    model = image_vae()
    monkeypatch.setattr(generation, "_CHUNK", 4)
    many = generation.generated_images(model, 11, seed=3)
    assert many.shape == (11, 1, 8, 8)
    assert len(many.flatten(1).unique(dim=0)) == 11
    torch.testing.assert_close(many[:6], generation.generated_images(model, 6, seed=3), rtol=1e-12, atol=0)
    # and they are the images that a person is shown
    torch.testing.assert_close(many, samples(model, 11, 3), rtol=1e-12, atol=0)


def test_a_conditional_model_is_told_what_the_real_images_are(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[torch.Tensor | None] = []

    def drawn(model: Any, count: int, seed: int, context: torch.Tensor | None = None, first: int = 0) -> torch.Tensor:
        told.append(context)
        return torch.zeros(count, 1, 8, 8)

    monkeypatch.setattr(generation, "samples", drawn)
    monkeypatch.setattr(generation, "_CHUNK", 8)
    data = images(40)
    _, labels = generation.real_images(data.test, PLAN, 20)
    assert labels is not None
    chosen = torch.randperm(40, generator=torch.Generator().manual_seed(5))[:20].sort().values
    assert torch.equal(labels, chosen % 3)
    generation.generated_images(image_vae(), 20, 0, labels)
    assert torch.equal(torch.cat([part for part in told if part is not None]), labels)


def test_all_images_are_taken_where_all_are_wanted_and_grey_ones_before_their_binarisation() -> None:
    data = images(25, dynamic=True)
    found, _ = generation.real_images(data.test, PLAN, 25)
    torch.testing.assert_close(found, data.test.stored / 255.0)
    some, _ = generation.real_images(data.test, PLAN, 20)
    assert len(some.flatten(1).unique(dim=0)) == 20


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.03, 0.9, (0, 1)), (-1.0, 1.0, (-1, 1)), (0.0, 255.0, (0, 255))]
)
def test_the_range_of_images(low: float, high: float, expected: tuple[float, float]) -> None:
    found = generation.limits(replace(images(), low=low, high=high))
    assert found == expected
    ends = generation.unit_interval(torch.tensor([found[0] - 1.0, *found, found[1] + 1.0]), *found)
    assert ends.tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("shape", "available", "count", "words"),
    [
        ((64,), 30, None, r"shape \(1 or 3, height, width\), and this model's examples have shape \(64,\)"),
        ((2, 8, 8), 30, None, r"have shape \(2, 8, 8\)"),
        ((1, 8, 8), 19, None, "at least 20 images in the split, which has 19"),
        ((1, 8, 8), 30, 31, "--count is 31, expected a number from 20 to 30"),
        ((1, 8, 8), 30, 19, "--count is 19, expected a number from 20 to 30"),
    ],
)
def test_what_is_refused(shape: tuple[int, ...], available: int, count: int | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        generation_estimates(image_vae(shape), images(available, shape), "test", PLAN, count)


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "find_spec", lambda name: None if name == "torchmetrics" else object())
    with pytest.raises(
        ConfigError, match=r"^The generation metrics need torchmetrics: pip install 'vaekit\[metrics\]'$"
    ):
        generation_estimates(image_vae(), images(), "test", PLAN)


class Copies:
    """A model whose reconstructions are the data plus a tenth, so that each number is known."""

    event_shape = torch.Size((1, 12, 12))
    training = False

    def train(self, mode: bool = True) -> None: ...
    def eval(self) -> None: ...

    def reconstruct(self, x: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        return x + 0.1


def test_reconstructions_of_known_error() -> None:
    data = images(30, (1, 12, 12)).test
    found = similarity.reconstruction_estimates(Copies(), data, PLAN, 0.0, 1.0)  # type: ignore[arg-type]
    assert found["mse"].value == pytest.approx(0.01, rel=1e-12)
    assert found["psnr"].value == pytest.approx(20.0, rel=1e-12)  # 10 log10(1 / 0.01)
    assert found["psnr"].unit == "dB"
    wider = similarity.reconstruction_estimates(Copies(), data, PLAN, -1.0, 1.0)  # type: ignore[arg-type]
    assert wider["psnr"].value == pytest.approx(20.0 + 20.0 * math.log10(2.0), rel=1e-12)
    assert "data range 2" in wider["psnr"].estimator


def wang(x: np.ndarray, y: np.ndarray, span: float) -> float:
    """Equation 13 of Wang et al. with scipy's Gaussian of 11 x 11 pixels, images reflected at their edges."""

    def mean(image: np.ndarray) -> np.ndarray:
        return np.asarray(gaussian_filter(image, 1.5, radius=5, mode="mirror"))

    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return float(((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


@pytest.mark.parametrize(("height", "width", "span"), [(28, 28, 1.0), (12, 11, 2.0), (8, 8, 1.0), (6, 9, 255.0)])
def test_ssim_against_scipy(height: int, width: int, span: float) -> None:
    given = span * torch.rand(4, 1, height, width)
    made = given * 0.8 + 0.1 * span * torch.rand(4, 1, height, width)
    found = similarity.per_example(made, given, span)["ssim"]
    expected = [wang(a[0].numpy(), b[0].numpy(), span) for a, b in zip(made, given, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_of_a_single_example_and_of_equal_images(channels: int) -> None:
    image = torch.rand(1, channels, 8, 8)
    assert similarity.per_example(image, image, 1.0)["ssim"].tolist() == [pytest.approx(1.0, abs=1e-12)]


def test_ssim_of_images_that_cannot_be_reflected_is_left_out() -> None:
    assert list(similarity.per_example(torch.rand(4, 1, 5, 9), torch.rand(4, 1, 5, 9), 1.0)) == ["mse", "psnr"]
