"""The spectrum of the latent dimensions against numpy, the closed form of the KL, and the number of active units."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from vaekit.conditionals import Delta
from vaekit.data.batch import Split
from vaekit.evaluation import Plan, active_units, kl_per_dimension
from vaekit.evaluation.passes import encodings
from vaekit.evaluation.spectrum import spectrum
from vaekit.likelihoods import Bernoulli
from vaekit.models import flat
from vaekit.priors import StandardNormal


def data(n: int = 101) -> Split:
    return Split((torch.rand(n, 5, generator=torch.Generator().manual_seed(2)) < 0.5).double(), ())


def test_the_spectrum_is_that_of_numpy(tiny_vae: Any) -> None:
    found = spectrum(tiny_vae, data(), Plan(40))
    means, scales = (part.numpy() for part in encodings(tiny_vae, data(), Plan(40)))
    squares = (means - means.mean(0)) ** 2
    np.testing.assert_allclose(found.variance, means.var(0), rtol=1e-10)
    np.testing.assert_allclose(found.variance_error, squares.std(0, ddof=1) / math.sqrt(101), rtol=1e-10)
    kl = 0.5 * (means**2 + scales**2 - 1 - 2 * np.log(scales))
    assert found.kl is not None
    assert found.kl_error is not None
    np.testing.assert_allclose(found.kl, kl.mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.kl_error, kl.std(0, ddof=1) / math.sqrt(101), rtol=1e-9)
    torch.testing.assert_close(found.kl, kl_per_dimension(tiny_vae, data(), Plan(40)))
    assert found.names == ("z[0]", "z[1]", "z[2]")
    assert not found.shared


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_batch_size_changes_nothing(size: int, tiny_vae: Any, exact: Any, pca: Any, split: Any) -> None:
    for model, part in ((tiny_vae, data()), (exact, split(pca.sample(101)))):
        whole, parts = (spectrum(model, part, Plan(b)) for b in (101, size))
        torch.testing.assert_close(parts.variance, whole.variance, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(parts.variance_error, whole.variance_error, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        spectrum(tiny_vae, data(), Plan(size)).kl, spectrum(tiny_vae, data(), Plan(101)).kl, rtol=1e-10, atol=1e-10
    )


def test_as_many_are_active_as_active_units_counts(tiny_vae: Any) -> None:
    with torch.no_grad():
        last = tiny_vae.encoder.layers[-1]
        last.weight[1] *= 1e-3
    found = spectrum(tiny_vae, data(), Plan())
    count = active_units(encodings(tiny_vae, data(), Plan())[0]).value
    assert int(found.active.sum()) == count == 2
    assert not found.active[1]


def test_as_json_the_dimensions_are_sorted_and_whole(tiny_vae: Any, exact: Any, pca: Any, split: Any) -> None:
    told = json.loads(json.dumps(spectrum(tiny_vae, data(), Plan()).as_dict(), allow_nan=False))
    variances = [row["variance"] for row in told["dimensions"]]
    assert variances == sorted(variances, reverse=True)
    assert {row["dimension"] for row in told["dimensions"]} == {"z[0]", "z[1]", "z[2]"}
    assert told["threshold"] == 0.01
    assert (told["n"], told["kl"]) == (101, "nats")
    assert "equal share" in spectrum(exact, split(pca.sample(20)), Plan()).as_dict()["kl"]  # not diagonal
    alone = json.loads(json.dumps(spectrum(tiny_vae, data(1), Plan()).as_dict(), allow_nan=False))
    assert alone["dimensions"][0]["variance_error"] is None


def test_codes_that_are_points_have_variances_and_no_kl() -> None:
    model = flat(
        lambda in_shape, out_shape: torch.nn.Linear(5, 3),
        lambda in_shape, out_shape: torch.nn.Linear(3, 5),
        Delta((3,)),
        StandardNormal((3,)),
        Bernoulli((5,)),
    )
    found = spectrum(model, data(), Plan())
    assert found.kl is None
    assert found.as_dict()["dimensions"][0]["kl"] is None
    assert bool((found.variance > 0).all())
