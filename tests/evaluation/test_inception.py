"""FID: the network is that of its definition, no other weights stand under its name, the distance is that of its features."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaekit.data.batch import Dataset, Split
from vaekit.data.transforms import Scale
from vaekit.errors import ConfigError
from vaekit.evaluation import features, generation, inception
from vaekit.evaluation.generation import generated_images, generation_estimates
from vaekit.evaluation.inception import InceptionV3, resized, with_weights
from vaekit.evaluation.passes import Plan

CPU = torch.device("cpu")
COUNTER = "num_batches_tracked"


def shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in sorted(InceptionV3().state_dict().items())}


def edges(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Where the uniform weights of a name end: so that activations neither die nor grow from block to block."""
    if name.endswith("running_var"):
        return 0.05, 1.95
    if name.endswith("bn.weight"):
        return 0.2, 1.1
    edge = math.sqrt(6.0 / math.prod(shape[1:])) if name.endswith(("conv.weight", "fc.weight")) else 0.3
    return -edge, edge


def made() -> dict[str, torch.Tensor]:
    """Weights from the raw numbers of a bit generator, whose stream no version of numpy changes, in the order of the names."""
    bits, weights = np.random.Philox(2015), {}
    for name, shape in shapes().items():
        if not name.endswith(COUNTER):
            low, high = edges(name, shape)
            unit = (bits.random_raw(math.prod(shape)) >> np.uint64(40)) / 2.0**24
            weights[name] = torch.tensor((low + (high - low) * unit).astype(np.float32).reshape(shape))
    return weights


def picture() -> torch.Tensor:
    """Noise of 20 x 30 pixels, (1, 3, 20, 30), values in [0, 1]."""
    values = (np.random.Philox(7).random_raw(3 * 20 * 30) >> np.uint64(56)).astype(np.uint8)
    return torch.tensor(values.reshape(1, 3, 20, 30)) / 255.0


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return made()


@pytest.fixture(scope="module")
def stored(weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "of_a_test.pth"
    torch.save(weights, path)
    yield path
    path.unlink()


@pytest.fixture
def known(stored: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that passes for the published one."""
    return pinned(stored, monkeypatch)


def pinned(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(features, "INCEPTION_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


# from torch-fidelity 0.4.0 (FeatureExtractorInceptionV3, torch 2.13.0, float32) with the weights of `made`, of the 8-bit `picture`:
# sums of 128 features each, and single ones
SUMS = [
    50.10067, 60.04903, 58.46347, 54.38327, 59.2457, 49.45917, 51.03838, 61.43084,
    56.3218, 45.27489, 56.25282, 43.74699, 66.23477, 55.63502, 67.20489, 60.54625,
]  # fmt: skip
SINGLE = {3: 0.45461, 400: 1.60446, 800: 0.01027, 1201: 1.333291, 1600: 0.062477, 2000: 1.780139}
# of its state: a line for each tensor, "name shape", in the order of the names
NAMES_SHA256 = "760681d791cb624e1bf7a2e802a68933dd17aa5e3109fcf498d9dfa521bc10d7"


def test_names_and_shapes_are_those_of_the_published_weights() -> None:
    lines = "\n".join(f"{name} {shape}" for name, shape in shapes().items())
    assert hashlib.sha256(lines.encode()).hexdigest() == NAMES_SHA256


def test_features_are_those_of_an_independent_implementation(known: Path) -> None:
    found = features.inception_features(known, CPU)(picture())
    assert found.shape == (1, InceptionV3.features)
    assert found.dtype == torch.float32
    # of another padding, pooling, epsilon, scale or resizing the sums differ by 1e-3 or more, of rounding by 1e-7
    np.testing.assert_allclose(found[0].double().reshape(16, 128).sum(1).numpy(), SUMS, rtol=1e-5)
    np.testing.assert_allclose(found[0, list(SINGLE)].numpy(), list(SINGLE.values()), rtol=1e-4, atol=1e-5)


def test_the_network_is_for_evaluation_and_nothing_is_drawn(weights: dict[str, torch.Tensor]) -> None:
    before = torch.get_rng_state()
    network = with_weights(weights)
    assert torch.equal(before, torch.get_rng_state())
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items() if name in weights)
    assert sum(tensor.numel() for tensor in weights.values()) == 23_885_392


def test_files_may_hold_counters_of_batches(weights: dict[str, torch.Tensor]) -> None:
    counted = weights | {name: torch.tensor(7) for name in shapes() if name.endswith(COUNTER)}
    assert len(counted) == len(weights) + 94
    network = with_weights(counted)
    assert int(network.Mixed_7c.branch1x1.bn.num_batches_tracked) == 7  # type: ignore[arg-type]


def test_pixels_are_read_where_tensorflow_1_reads_them() -> None:
    # two pixels at 0, 1/2, 1, and 3/2, where there is no further neighbour
    assert resized(torch.tensor([[[[0.0, 1.0]]]]), 4)[0, 0, 0].tolist() == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(("height", "width", "side"), [(3, 5, 7), (9, 4, 3), (6, 6, 6), (1, 13, 5)])
def test_resizing_by_its_definition(height: int, width: int, side: int) -> None:
    image = torch.rand(height, width)
    expected = torch.zeros(side, side)
    for i in range(side):
        for j in range(side):
            y, x = i * height / side, j * width / side
            rows = [(int(y), 1 - y % 1), (min(int(y) + 1, height - 1), y % 1)]
            columns = [(int(x), 1 - x % 1), (min(int(x) + 1, width - 1), x % 1)]
            expected[i, j] = sum(image[a, b] * u * v for a, u in rows for b, v in columns)
    torch.testing.assert_close(resized(image[None, None], side)[0, 0], expected)


def test_images_reach_the_network_as_stated() -> None:
    # (0 - 128) / 128 and (255 - 128) / 128; grey repeated; values rounded to 8 bits, and none wraps around
    levels = torch.tensor([0.0, 1.0, 0.5, 127.4 / 255, 1.01, -0.01])
    seen = features.prepared_for_inception(levels[:, None, None, None].expand(-1, 1, 5, 4))
    assert seen.shape == (6, 3, 299, 299)
    assert seen.dtype == torch.float32
    expected = (torch.tensor([0.0, 255.0, 128.0, 127.0, 255.0, 0.0]) - 128.0) / 128.0
    assert torch.equal(seen.double(), expected[:, None, None, None].expand_as(seen))


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("called")


def image_vae() -> Any:
    from vaekit.conditionals import Normal
    from vaekit.likelihoods import Bernoulli
    from vaekit.models import flat
    from vaekit.networks import MLP
    from vaekit.priors import StandardNormal

    def network(in_shape: Any, out_shape: Any) -> MLP:
        return MLP(in_shape, out_shape, hidden_dims=[8])

    return flat(network, network, Normal((3,)), StandardNormal((3,)), Bernoulli((1, 8, 8)))


def images(count: int = 20) -> Dataset:
    grey = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8)
    split = Split(grey, (Scale(255.0, torch.float64),))
    return Dataset("noise", split, split, split, "noise", binary=False, low=0.0, high=1.0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks see few pixels, as the tests are not about what they see."""
    monkeypatch.setattr(features, "prepared", partial(features.prepared, side=32))
    monkeypatch.setattr(features, "prepared_for_inception", partial(features.prepared_for_inception, side=75))


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Of N points in more dimensions: the trace of the root of C C' is the nuclear norm of the N x N products, by N - 1."""
    shift, x, y = x.mean(0) - y.mean(0), x - x.mean(0), y - y.mean(0)
    within = (x * x).sum() + (y * y).sum() - 2.0 * np.linalg.norm(x @ y.T, "nuc")
    return float((shift * shift).sum() + within / (len(x) - 1))


@pytest.mark.usefixtures("small")
def test_fid_is_the_distance_between_the_features_of_both_sets(known: Path, weights: dict[str, torch.Tensor]) -> None:
    model, data, plan = image_vae(), images(), Plan(batch_size=7, samples=1, seed=5)
    found = generation_estimates(model, data, "test", plan, inception_weights=known)
    assert list(found)[:2] == ["fid", "fd_efflite0"]
    network = with_weights(weights)
    sets = (data.test.stored / 255.0, (generated_images(model, 20, 5) * 255.0).round() / 255.0)
    with torch.no_grad():
        seen = [network((resized(x.float().expand(-1, 3, -1, -1) * 255.0, 75) - 128.0) / 128.0) for x in sets]
    expected = frechet(*(x.double().numpy() for x in seen))
    assert expected > 0.1
    assert found["fid"].value == pytest.approx(expected, rel=1e-4)
    assert found["fid"].n == 20
    assert found["fid"].standard_error > 0
    for part in (
        "Frechet distance, depends on n",
        "20 samples from the prior",
        "against 20 test images",
        "299 x 299 pixels (bilinear as in TensorFlow 1, not antialiased)",
        "Inception-v3 of 2015-12-05 (SHA-256 6726825d...)",
        "jackknife",
    ):
        assert part in found["fid"].estimator
    assert "Inception" not in found["fd_efflite0"].estimator


@pytest.mark.usefixtures("small")
def test_without_the_file_there_is_no_fid_and_no_network_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InceptionV3, "__init__", never)
    found = generation_estimates(image_vae(), images(), "test", Plan(batch_size=7, samples=1, seed=5))
    assert "fid" not in found
    assert "fd_efflite0" in found


def test_only_the_published_file_is_known() -> None:
    assert features.INCEPTION_SHA256 == "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
    for function in (features.inception_features, features.load_inception, inception.with_weights):
        (first, *_) = inspect.signature(function).parameters.values()
        assert first.default is inspect.Parameter.empty


def missing(folder: Path) -> Path:
    return folder / "weights.pth"


def other(folder: Path) -> Path:
    torch.save({"fc.bias": torch.zeros(1008)}, missing(folder))
    return missing(folder)


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (missing, "weights.pth is missing"),
    "of other content": (other, f"expected {features.INCEPTION_SHA256}"),
    "a folder": (lambda folder: folder, "cannot be read"),
}


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG.keys())
def test_any_other_file_is_refused_before_anything_is_read_or_drawn(
    make: Callable[[Path], Path], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    monkeypatch.setattr(torch, "load", never)
    monkeypatch.setattr(InceptionV3, "__init__", never)
    monkeypatch.setattr(generation, "generated_images", never)
    with pytest.raises(ConfigError, match=words) as refused:
        generation_estimates(image_vae(), images(), "test", Plan(7, 1, 5), inception_weights=path)
    said = str(refused.value)
    assert said.startswith(str(path))
    assert features.INCEPTION_FILE in said
    assert "--generation gives fd_efflite0" in said
    assert "\n" not in said


def test_other_names_are_refused_under_the_right_hash_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pinned(other(tmp_path), monkeypatch)
    monkeypatch.setattr(InceptionV3, "forward", never)
    with pytest.raises(ConfigError, match=r"does not hold the weights of this Inception-v3: .*fd_efflite0") as refused:
        features.inception_features(path, CPU)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", ["missing", "additional", "of another shape"])
def test_weights_that_do_not_fit_are_refused(weights: dict[str, torch.Tensor], change: str) -> None:
    changed = dict(weights)
    if change == "missing":
        del changed["fc.bias"]
    elif change == "additional":
        changed["AuxLogits.fc.bias"] = torch.ones(1)
    else:
        changed["fc.bias"] = torch.ones(1000)
    with pytest.raises(RuntimeError, match=r"fc\.bias"):
        with_weights(changed)
