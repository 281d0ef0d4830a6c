"""Likelihoods of counts: where a decoder begins, what a reader is told, and which data they are for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit.compose import compose, data_node
from vaekit.errors import ConfigError
from vaekit.likelihoods import (
    GivenNegativeBinomial,
    GivenZeroInflatedNegativeBinomial,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
)
from vaekit.recipe import make_session, open_data, resolved

ALL = [
    Poisson,
    NegativeBinomial,
    GivenNegativeBinomial,
    ZeroInflatedNegativeBinomial,
    GivenZeroInflatedNegativeBinomial,
]
COUNTS = ["poisson", "negative_binomial", "negative_binomial_given", "zinb", "zinb_given"]
DENSITIES = ["normal", "normal_pixel", "laplace_learned"]

every_kind = pytest.mark.parametrize("kind", ALL, ids=[kind.__name__ for kind in ALL])


@every_kind
def test_the_decoder_begins_at_the_logarithm_of_the_mean(kind: Any) -> None:
    mean = torch.tensor([0.004, 2.0, 0.0, 70.0])
    beginning = kind((4,)).beginning(mean)
    assert beginning.shape == (kind.rows, 4)
    torch.testing.assert_close(beginning[0].exp(), torch.tensor([0.004, 2.0, 0.002, 70.0]))
    px = kind((4,))(beginning[None, None], None)
    torch.testing.assert_close(px.mean[0, 0], beginning[0].exp(), rtol=0.02, atol=0)


@every_kind
def test_data_without_any_count_have_a_beginning(kind: Any) -> None:
    assert kind((4,)).beginning(torch.zeros(4)).isfinite().all()


@pytest.mark.parametrize("kind", [NegativeBinomial, ZeroInflatedNegativeBinomial])
def test_a_dispersion_is_learned_and_reported(kind: Any) -> None:
    part = kind((5,), theta=3.0)
    assert part.parameters_of_note == {"median_theta": pytest.approx(3.0)}
    px = part(torch.zeros(1, 2, kind.rows, 5), None)
    px.log_prob(torch.tensor([0.0, 1.0, 2.0, 0.0, 9.0])).sum().backward()
    assert (part.log_theta.grad != 0).all()
    for theta in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="theta=1"):
            kind((5,), theta=theta)


@pytest.mark.parametrize("given", [GivenNegativeBinomial, GivenZeroInflatedNegativeBinomial])
def test_given_dispersions_are_those_of_the_last_row(given: Any) -> None:
    learned = {GivenNegativeBinomial: NegativeBinomial, GivenZeroInflatedNegativeBinomial: ZeroInflatedNegativeBinomial}
    context = torch.randn(2, 3, given.rows, 4)
    context[..., -1, :] = math.log(0.6)
    x = torch.tensor([0.0, 1.0, 5.0, 0.0])
    expected = learned[given]((4,), theta=0.6)(context[..., :-1, :], None).log_prob(x)
    torch.testing.assert_close(given((4,))(context, None).log_prob(x), expected)


def begun(file: Path, *overrides: str) -> Any:
    """As `vaekit train` begins."""
    config = compose(["data=cells", f"data.path={file}", *overrides])
    dataset = open_data(data_node(config))
    return make_session(resolved(config, dataset), dataset, torch.device("cpu"))


@pytest.mark.parametrize(
    ("likelihood", "expression"),
    [*((name, "log1p") for name in COUNTS), ("zinb", "normalised"), ("zinb", "standardised")],
)
def test_counts_under_a_transform_are_refused(cells_file: Path, likelihood: str, expression: str) -> None:
    with pytest.raises(
        ConfigError, match=r"expects counts.*Write expression=counts, or model=vae, or likelihood=normal"
    ) as caught:
        begun(cells_file, "model=scvi", f"likelihood={likelihood}", f"expression={expression}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("likelihood", DENSITIES)
def test_raw_counts_under_a_density_are_refused(cells_file: Path, likelihood: str) -> None:
    with pytest.raises(ConfigError, match=r"Write expression=log1p, or likelihood=negative_binomial\.$") as caught:
        begun(cells_file, "model=mlp", f"likelihood={likelihood}", "data.expression=counts")
    assert "\n" not in str(caught.value)


def test_the_remedy_helps(cells_file: Path) -> None:
    begun(cells_file, "model=mlp", "likelihood=normal", "data.expression=log1p")


def test_raw_counts_are_no_grey_values(cells_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"values in \[0, 1\].*Write likelihood=negative_binomial\.$"):
        begun(cells_file, "model=mlp", "likelihood=bernoulli", "data.expression=counts")


@pytest.mark.parametrize("likelihood", COUNTS)
def test_counts_are_accepted(cells_file: Path, likelihood: str) -> None:
    session = begun(cells_file, "model=scvi", f"likelihood={likelihood}")
    assert session.model.conditional


@pytest.mark.parametrize("likelihood", ["negative_binomial_given", "zinb_given"])
def test_a_dispersion_for_each_gene_and_batch(cells_file: Path, likelihood: str) -> None:
    chosen = ("model=scvi", "network=counts_batch_dispersion", f"likelihood={likelihood}")
    session = begun(cells_file, *chosen, "data.batch=plate")
    assert session.model.decoder.log_theta.shape == (2, 40)
    with pytest.raises(ConfigError, match=r"data\.batch=COLUMN"):
        begun(cells_file, *chosen)


def test_data_without_a_library_get_a_remedy() -> None:
    config = compose(["data=digits", "model=scvi"])
    dataset = open_data(data_node(config))
    with pytest.raises(ConfigError, match="no library size"):
        make_session(resolved(config, dataset), dataset, torch.device("cpu"))
