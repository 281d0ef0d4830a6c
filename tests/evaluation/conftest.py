"""What the tests of the numbers share: splits of plain tensors and a model of known evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vaekit.data import probabilistic_pca
from vaekit.data.batch import Split
from vaekit.data.transforms import Scale


@pytest.fixture(autouse=True)
def _float64(float64: None) -> None:
    """All of these tests compute in float64."""


@pytest.fixture
def split() -> Callable[[torch.Tensor], Split]:
    return lambda x: Split(x, (Scale(1.0, torch.float64),))


@pytest.fixture
def pca() -> Any:
    return probabilistic_pca(features=5, latents=2, sigma=0.7, seed=3)


@pytest.fixture
def exact(pca: Any, linear_gaussian: Any) -> Any:
    """The model that made the data, with its exact posterior."""
    return linear_gaussian(pca.weight, pca.bias, pca.sigma)


@pytest.fixture
def inexact(pca: Any, linear_gaussian: Any) -> Any:
    """The same with a posterior that is shifted and too wide."""
    return linear_gaussian(pca.weight, pca.bias, pca.sigma, shift=0.3, widen=2.0)


@pytest.fixture
def tiny_vae() -> Any:
    """An untrained VAE with a diagonal posterior that depends on the data, five binary values, three latents."""
    from vaekit.conditionals import Normal
    from vaekit.likelihoods import Bernoulli
    from vaekit.models import flat
    from vaekit.networks import MLP
    from vaekit.priors import StandardNormal

    torch.manual_seed(1)
    model = flat(
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [16], dropout=0.5),
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [16]),
        Normal((3,)),
        StandardNormal((3,)),
        Bernoulli((5,)),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


@pytest.fixture
def mean_field(pca: Any, linear: Any) -> Callable[..., Any]:
    """The model that made the data, with the best diagonal posterior moved by `shift` and its variances times `widen`."""
    from vaekit.conditionals import Normal
    from vaekit.likelihoods import Normal as Observed
    from vaekit.models import flat
    from vaekit.priors import StandardNormal

    def make(shift: Any = 0.0, widen: Any = 1.0, prior: Any = None) -> Any:
        features, size = pca.weight.shape
        precision = torch.eye(size) + pca.weight.T @ pca.weight / pca.sigma**2
        gain = torch.linalg.solve(precision, pca.weight.T) / pca.sigma**2
        log_variance = (torch.as_tensor(widen) / precision.diagonal()).log()
        return flat(
            encoder=linear(
                torch.cat([gain, torch.zeros(size, features)]),
                torch.cat([torch.as_tensor(shift) - gain @ pca.bias, log_variance]),
            ),
            decoder=linear(pca.weight, pca.bias),
            posterior=Normal((size,)),
            prior=StandardNormal((size,)) if prior is None else prior,
            likelihood=Observed((features,), scale=pca.sigma),
        )

    return make
