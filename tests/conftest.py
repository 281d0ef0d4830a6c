"""What all tests share: seeds, precision, and models whose evidence is known in closed form."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# the same examples in every run: a test that fails once fails again
settings.register_profile("vaekit", deadline=None, derandomize=True, database=None)
settings.load_profile("vaekit")


def pytest_collection_finish() -> None:
    """What is loaded by now stays to the end: the collector of garbage need not look at it again every few seconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    if "torch" in sys.modules:  # a test without torch stays without it
        sys.modules["torch"].manual_seed(0)


@lru_cache(maxsize=256)
def _chosen(hydra: Callable[[list[str]], Any], folder: Path, choices: tuple[str, ...]) -> Any:
    return hydra(list(choices))


@pytest.fixture(scope="session")
def shortcut() -> Callable[[Any, list[str]], Any]:
    """What Hydra composes of the words, with the files of the same parts read once: this takes it a tenth of a second each time.

    The settings are put on top by Hydra itself. What has an error, or a folder of the user's own, is Hydra's from the start.
    """

    def composed(hydra: Callable[[list[str]], Any], words: list[str]) -> Any:
        from hydra._internal.config_loader_impl import ConfigLoaderImpl
        from hydra.core.override_parser.overrides_parser import OverridesParser

        module = sys.modules["vaekit.compose"]
        if any(word.startswith("hydra") for word in words):
            return hydra(words)
        choices = [word for word in words if word.lstrip("+~").partition("=")[0].partition("@")[0] in module.GROUPS]
        try:
            config = deepcopy(_chosen(hydra, module.CONF, tuple(choices)))
            settings = OverridesParser.create().parse_overrides([word for word in words if word not in choices])
            ConfigLoaderImpl._apply_overrides_to_config(settings, config)
        except Exception:
            return hydra(words)
        return config

    return composed


@pytest.fixture(autouse=True, scope="module")
def _composed_once(shortcut: Callable[[Any, list[str]], Any]) -> Iterator[None]:
    """Compositions take the shortcut, all but those of tests/test_compose.py, which shows that it ends at the same place."""
    module = sys.modules.get("vaekit.compose")
    if module is None:  # a test without it stays without it
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_hydra", partial(shortcut, module._hydra))
        yield


@contextmanager
def _without_pictures() -> Iterator[None]:
    from vaekit import api

    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_gallery", "animate"):
            patch.setattr(api, name, lambda *_: None)
        for name in ("Snapshots", "Stages"):
            patch.setattr(api, name, lambda *_: api.Callback())
        yield


@pytest.fixture(scope="session")
def without_pictures() -> Callable[[], AbstractContextManager[None]]:
    """Where trainings draw nothing: it would take longer than a tiny training. Their pages are written all the same."""
    return _without_pictures


@pytest.fixture
def no_pictures() -> Iterator[None]:
    """None in this test."""
    with _without_pictures():
        yield


@pytest.fixture(scope="module")
def no_pictures_here() -> Iterator[None]:
    """None in this file, which must take no run of a longer life than its own."""
    with _without_pictures():
        yield


@pytest.fixture(scope="module")
def float64() -> Iterator[None]:
    """Tensors made without a dtype are float64; one thread, as tensors this small only wait for more of them."""
    import torch

    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def cells_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts of 40 genes in 400 cells of four types (`kind`) and two batches (`plate`), in the form of scipy.sparse.save_npz.

    Negative binomial with theta 2; the types differ in the genes that they use, the batches by a factor for each gene, and
    libraries by a factor of 20 that has nothing to do with either.
    """
    draw = np.random.default_rng(7)
    kind, plate = draw.integers(0, 4, 400), draw.integers(0, 2, 400)
    shares = np.exp(1.5 * draw.normal(size=(4, 40)))[kind] * np.exp(0.7 * draw.normal(size=(2, 40)))[plate]
    library = np.exp(draw.uniform(np.log(20), np.log(400), size=(400, 1)))
    mean = library * shares / shares.sum(1, keepdims=True)
    x = draw.poisson(draw.gamma(2.0, mean / 2.0))
    x[:, 0] += x.sum(1) == 0
    rows, columns = x.nonzero()
    file = tmp_path_factory.mktemp("cells") / "counts.npz"
    starts = np.searchsorted(rows, np.arange(401))
    matrix = {
        "data": x[rows, columns],
        "indices": columns,
        "indptr": starts,
        "shape": np.array(x.shape),
        "format": b"csr",
    }
    np.savez(file, **matrix, kind=np.array(list("abcd"))[kind], plate=np.array(["left", "right"])[plate])
    return file


@pytest.fixture(scope="session")
def multivariate() -> Callable[..., Any]:
    """A conditional N(weight @ context + bias, covariance): what the exact posterior of a linear-Gaussian model is."""
    import torch
    from torch.distributions import MultivariateNormal

    from vaekit.conditionals import Conditional

    class Multivariate(Conditional):
        def __init__(self, weight: torch.Tensor, bias: torch.Tensor, covariance: torch.Tensor) -> None:
            super().__init__(bias.shape)
            self.register_buffer("weight", weight)
            self.register_buffer("bias", bias)
            self.register_buffer("tril", torch.linalg.cholesky(covariance))

        @property
        def context_shape(self) -> torch.Size:
            return self.weight.shape[1:]

        def forward(self, context: torch.Tensor, model: Any) -> MultivariateNormal:
            return MultivariateNormal(context @ self.weight.T + self.bias, scale_tril=self.tril, validate_args=False)

    return Multivariate


@pytest.fixture(scope="session")
def linear(multivariate: Callable[..., Any]) -> Callable[..., Any]:
    """A network that is one given linear map, as the factories of models want it."""
    import torch

    class Given(torch.nn.Module):
        def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
            super().__init__()
            self.weight, self.bias = torch.nn.Parameter(weight.clone()), torch.nn.Parameter(bias.clone())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight.T + self.bias

    return lambda weight, bias: lambda in_shape, out_shape: Given(weight, bias)


@pytest.fixture(scope="session")
def linear_gaussian(multivariate: Callable[..., Any], linear: Callable[..., Any]) -> Callable[..., Any]:
    """The VAE with x = W z + b + sigma * noise and its exact posterior, moved by `shift` and its covariance times `widen`.

    The posterior is N(S W^T (x - b) / sigma^2, S) with S = (I + W^T W / sigma^2)^-1; the evidence N(b, W W^T + sigma^2 I).
    """
    import torch

    from vaekit.likelihoods import Normal
    from vaekit.models import flat
    from vaekit.priors import StandardNormal

    def make(
        W: torch.Tensor, b: torch.Tensor, sigma: float, shift: torch.Tensor | float = 0.0, widen: float = 1.0
    ) -> torch.nn.Module:
        D, L = W.shape
        covariance = torch.linalg.inv(torch.eye(L) + W.T @ W / sigma**2)
        gain = covariance @ W.T / sigma**2
        return flat(
            encoder=linear(gain, -gain @ b),
            decoder=linear(W, b),
            posterior=multivariate(torch.eye(L), torch.zeros(L) + shift, covariance * widen),
            prior=StandardNormal((L,)),
            likelihood=Normal((D,), scale=sigma),
        )

    return make


@pytest.fixture(scope="session")
def sigma_points() -> Callable[[int], Any]:
    """Noise whose 2L samples are +-sqrt(L) e_i: their averages of quadratic functions are exact expectations."""
    import torch

    class SigmaPoints:
        """Given to `vaekit.distributions.noise.use` in place of random noise."""

        def __init__(self, dim: int) -> None:
            self.dim = dim

        def uniform(self, shape: torch.Size) -> torch.Tensor:
            points = self.dim**0.5 * torch.cat([torch.eye(self.dim), -torch.eye(self.dim)])
            assert shape[0] == len(points), "take 2 * dim samples"
            return torch.special.ndtr(points)[:, None].expand(shape)

    return SigmaPoints
