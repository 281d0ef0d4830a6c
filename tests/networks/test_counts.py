"""Networks for counts: what is divided among the genes adds up to the library, and what a cell is conditioned on arrives."""

# K samples, B batch, P rows, F numbers of a condition

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.networks import (
    MLP,
    BatchDispersion,
    Compositional,
    Conditioned,
    Covariates,
    LatentCompositional,
    LogCounts,
    Network,
    OneHot,
)

pytestmark = pytest.mark.usefixtures("float64")

# two cells of the first batch and one of the second, and one covariate
CONTEXT = torch.tensor([[3.0, 1.0, 0.0, 0.7], [5.0, 1.0, 0.0, -1.0], [1.0, 0.0, 1.0, 0.2]], dtype=torch.float64)


def mlp(in_shape: Sequence[int], out_shape: Sequence[int]) -> MLP:
    return MLP(in_shape, out_shape, hidden_dims=(5,))


def told(in_shape: Sequence[int], out_shape: Sequence[int]) -> Conditioned:
    return Conditioned(in_shape, out_shape, mlp, Covariates(4))


def compositional(in_shape: Sequence[int], out_shape: Sequence[int]) -> Compositional:
    return Compositional(in_shape, out_shape, told)


def test_what_stands_behind_the_library_is_what_a_network_is_told() -> None:
    covariates = Covariates(4)
    assert covariates.width == 3
    assert torch.equal(covariates(CONTEXT), CONTEXT[:, 1:])


def test_nothing_may_stand_behind_the_library() -> None:
    assert Covariates(1).width == 0
    network = Conditioned((2,), (4,), mlp, Covariates(1))
    x = torch.randn(2, 3, 2)
    assert torch.equal(network(x, CONTEXT[:, :1]), network.network(x))


@pytest.mark.parametrize("event", [(6,), (2, 3)])
@pytest.mark.parametrize("lead", [(3,), (2, 3)])
def test_means_add_up_to_the_library(lead: tuple[int, ...], event: tuple[int, ...]) -> None:
    network = Compositional((2,), (1, *event), told)
    out = network(torch.randn(*lead, 2), CONTEXT)
    assert out.shape == (*lead, 1, *event)
    torch.testing.assert_close(out.exp().flatten(-len(event) - 1).sum(-1), CONTEXT[:, 0].exp().expand(lead))


def test_further_rows_pass_as_they_are() -> None:
    network = compositional((2,), (3, 6))
    x = torch.randn(2, 3, 2)
    inner = network.network(x, CONTEXT)
    out = network(x, CONTEXT)
    assert torch.equal(out[..., 1:, :], inner[..., 1:, :])
    torch.testing.assert_close(out[..., 0, :], inner[..., 0, :].log_softmax(-1) + CONTEXT[:, :1])


def test_a_latent_library_stands_in_the_place_of_the_observed_one() -> None:
    network = LatentCompositional((3,), (2, 6), told)
    state = torch.randn(2, 3, 3)
    out = network(state, CONTEXT)
    assert out.shape == (2, 3, 2, 6)
    torch.testing.assert_close(out[..., 0, :].logsumexp(-1), state[..., -1])
    changed = CONTEXT.clone()
    changed[:, 0] += 1.0
    assert torch.equal(network(state, changed), out)


def test_each_batch_has_its_dispersion() -> None:
    network = BatchDispersion((2,), (3, 6), compositional, batches=2)
    network.log_theta.data.normal_()
    x = torch.randn(2, 3, 2)
    out = network(x, CONTEXT)
    assert out.shape == (2, 3, 3, 6)
    assert torch.equal(out[..., :2, :], network.network(x, CONTEXT))
    assert torch.equal(out[..., 2, :], network.log_theta[[0, 0, 1]].expand(2, 3, 6))
    unknown = CONTEXT.clone()
    unknown[:, 1:3] = 0.0
    torch.testing.assert_close(network(x, unknown)[..., 2, :], network.log_theta.mean(0).expand(2, 3, 6))


def test_counts_are_seen_on_a_logarithm_scale() -> None:
    network = LogCounts((6,), (4,), mlp)
    x = torch.poisson(3.0 * torch.rand(2, 3, 6))
    assert torch.equal(network(x), network.network((1.0 + x).log()))
    assert torch.equal(LogCounts((6,), (4,), told)(x, CONTEXT), network(x)) is False


@pytest.mark.parametrize("make", [compositional, lambda i, o: BatchDispersion(i, o, compositional, 2)])
def test_a_decoder_begins_at_the_shares_of_the_data(make: Any) -> None:
    rows = 1 if make is compositional else 2
    network = make((2,), (rows, 6))
    mean = torch.tensor([0.1, 0.5, 2.0, 7.0, 0.01, 1.0])
    network.begin_at(torch.cat([mean.log()[None], torch.zeros(rows - 1, 6)]))
    shares = network(0.1 * torch.randn(500, 3, 2), CONTEXT)[..., 0, :].softmax(-1)
    # a tenth of what a fresh network depends on its input by is left
    torch.testing.assert_close(shares.mean((0, 1)).log(), (mean / mean.sum()).log(), rtol=0, atol=0.2)


def test_they_say_that_they_are_conditional() -> None:
    assert [network((2,), (2, 6)).conditional for network in (mlp, told, compositional)] == [False, True, True]
    assert not LogCounts.conditional
    assert BatchDispersion.conditional
    assert isinstance(compositional((2,), (1, 6)), Network)


@pytest.mark.parametrize(
    "context", [None, torch.tensor([0, 1, 2]), torch.zeros(3, 0), torch.zeros(3), torch.zeros(3, 2, 1)]
)
def test_a_context_without_a_library_is_refused(context: Tensor | None) -> None:
    with pytest.raises(ValueError, match=r"library size.*data=cells data\.path=FILE"):
        Compositional((2,), (1, 6), mlp)(torch.randn(1, 3, 2), context)


def test_a_context_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(cells, 4\), received an array of torch\.float64 and shape \(3, 3\)"):
        Covariates(4)(CONTEXT[:, :3])


def test_data_without_a_library_are_refused() -> None:
    with pytest.raises(ValueError, match="no library size"):
        Covariates(0)


def test_data_without_batches_have_no_dispersion_of_a_batch() -> None:
    with pytest.raises(ValueError, match=r"data\.batch=COLUMN"):
        BatchDispersion((2,), (2, 6), compositional, batches=0)
    with pytest.raises(ValueError, match="likelihood=negative_binomial_given or zinb_given"):
        BatchDispersion((2,), (1, 6), compositional, batches=2)


@pytest.mark.parametrize("kind", [Compositional, LatentCompositional])
def test_a_likelihood_of_other_values_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="network=mlp"):
        kind((3,), (6,), mlp)


def test_a_latent_library_wants_a_model_that_has_one() -> None:
    with pytest.raises(ValueError, match=r"architecture\.kind=models\.latent_library"):
        LatentCompositional((1,), (1, 6), mlp)


def test_labels_are_still_labels() -> None:
    """Networks for counts change nothing for those that are conditioned on classes."""
    assert Conditioned((3,), (2,), mlp, OneHot(4)).conditional
