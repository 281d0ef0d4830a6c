"""What is true of every likelihood beyond being a conditional."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import PerExample, use
from vaekit.likelihoods.base import DataRange

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 3, 4)])
def test_the_batch_is_what_leads_the_context(likelihood: Any, lead: tuple[int, ...]) -> None:
    part = likelihood.make((2, 3))
    context = torch.randn(*lead, *part.context_shape)
    px = part(context, model=None)
    assert px.batch_shape == lead
    x = likelihood.draw((*lead, 2, 3))
    whole = part(context.reshape(1, -1, *part.context_shape), model=None).log_prob(x.reshape(1, -1, 2, 3))
    assert torch.equal(px.log_prob(x), whole.reshape(lead))


def accepted(likelihood: Any) -> DataRange:
    """What data of its own kind look like."""
    if likelihood.support == "counts":
        return DataRange(0.0, 255.0, counts=True)
    return DataRange(0.0, 1.0, likelihood.levels if likelihood.discrete else None)


def test_it_says_whether_it_gives_probabilities(likelihood: Any) -> None:
    """Bits per dimension are of these only."""
    assert likelihood.make((2,)).discrete == likelihood.discrete


def test_data_of_its_kind_are_accepted(likelihood: Any) -> None:
    likelihood.make((2,)).check(accepted(likelihood))
    if likelihood.support not in ("levels", "counts"):
        likelihood.make((2,)).check(DataRange(0.2, 0.2))
        likelihood.make((2,)).check(DataRange(0.0, 1.0, 256))


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-0.5, 1.0), (-1e-3, 0.5), (0.0, 1.001), (-3.0, 3.0)])
def test_data_outside_the_support_are_refused_with_a_remedy(likelihood: Any, low: float, high: float) -> None:
    part = likelihood.make((2,))
    if likelihood.support == "real":
        part.check(DataRange(low, high))
        return
    if likelihood.support == "counts":
        return
    with pytest.raises(ValueError, match=r"\[0, 1\]") as caught:
        part.check(DataRange(low, high, remedies={"scale": "data.scale=255"}))
    message = str(caught.value)
    assert f"[{low:.4g}, {high:.4g}]" in message
    assert "data.scale=255" in message
    assert "likelihood=normal" in message
    with pytest.raises(ValueError, match="Write likelihood=normal"):
        part.check(DataRange(low, high))


def test_data_without_its_levels_are_refused_with_a_remedy(likelihood: Any) -> None:
    """A density at values that have probabilities, or probabilities at values that have a density, compare with nothing."""
    if likelihood.support != "levels":
        return
    part, M = likelihood.make((2,)), likelihood.levels
    with pytest.raises(ValueError, match=f"{M} levels.*likelihood=normal or likelihood=continuous_bernoulli") as caught:
        part.check(DataRange(0.125, 0.75))
    assert "[0.125, 0.75]" in str(caught.value)
    with pytest.raises(ValueError, match=r"received values with 256 levels.*Write likelihood\.levels=256"):
        part.check(DataRange(0.0, 1.0, 256))
    if M != 2:
        with pytest.raises(ValueError, match=r"each 0 or 1\. Write likelihood=bernoulli, or data\.binarisation=none"):
            part.check(DataRange(0.0, 1.0, 2))


def test_what_is_no_count_is_refused_with_a_remedy(likelihood: Any) -> None:
    if likelihood.support != "counts":
        return
    part = likelihood.make((2,))
    remedies = {"counts": "expression=counts", "logarithm": "expression=log1p"}
    for low, high in [(0.0, 7.5), (-3.0, 10.0), (0.0, 1.0), (0.0, 255.0)]:
        with pytest.raises(
            ValueError, match=r"counts.*Write expression=counts, or model=vae, or likelihood=normal"
        ) as caught:
            part.check(DataRange(low, high, remedies=remedies))
        assert f"[{low:.4g}, {high:.4g}]" in str(caught.value)
        with pytest.raises(
            ValueError, match=r"Write model=vae, or likelihood=normal with a network that is not for counts\.$"
        ):
            part.check(DataRange(low, high))


def test_counts_under_anything_else_are_refused_with_a_remedy(likelihood: Any) -> None:
    if likelihood.support == "counts":
        return
    remedies = {"counts": "expression=counts", "logarithm": "expression=log1p"}
    with pytest.raises(ValueError, match="likelihood=negative_binomial") as caught:
        likelihood.make((2,)).check(DataRange(0.0, 419.0, remedies=remedies, counts=True))
    assert "[0, 419]" in str(caught.value)
    if likelihood.support == "real":
        assert "Write expression=log1p, or likelihood=negative_binomial." in str(caught.value)


def test_data_with_nan_are_refused(likelihood: Any) -> None:
    """Where every finite value is in the support, finiteness is checked where data come in."""
    for low, high in [(math.nan, 1.0), (0.0, math.nan), (math.nan, math.nan)]:
        with nullcontext() if likelihood.support == "real" else pytest.raises(ValueError, match="nan"):
            likelihood.make((2,)).check(DataRange(low, high, accepted(likelihood).levels))


def test_values_may_stand_without_their_samples(likelihood: Any) -> None:
    part = likelihood.make((2, 3))
    px = part(torch.randn(4, 5, *part.context_shape), model=None)
    x = likelihood.draw((5, 2, 3))
    assert torch.equal(px.log_prob(x), px.log_prob(x.expand(4, 5, 2, 3)))


def test_the_mean_lies_where_values_can(likelihood: Any) -> None:
    """Pictures show it: (K, B, *x), and in [0, 1] where the data are, however far out the context."""
    part = likelihood.make((2, 3))
    mean = part(30.0 * torch.randn(4, 5, *part.context_shape), model=None).mean
    assert mean.shape == (4, 5, 2, 3)
    if likelihood.support != "real":
        assert mean.min() >= 0.0
    if likelihood.support not in ("real", "counts"):
        assert mean.max() <= 1.0


def test_a_draw_belongs_to_its_example_and_sample(likelihood: Any) -> None:
    """Whatever batch the example comes in, and in whatever chunks the samples are drawn."""
    part = likelihood.make((2, 3)).requires_grad_(False)
    context = torch.randn(4, 6, *part.context_shape)
    index = torch.tensor([5, 0, 17, 3, 99, 4])

    def drawn(samples: slice, rows: list[int]) -> torch.Tensor:
        with use(PerExample(3, index[rows], first_sample=samples.start)):
            return reparameterised(part(context[samples][:, rows], model=None))

    whole = drawn(slice(0, 4), [0, 1, 2, 3, 4, 5])
    for samples, rows in [(slice(0, 4), [4]), (slice(1, 3), [5, 2, 0]), (slice(3, 4), [0, 1, 2, 3, 4, 5])]:
        torch.testing.assert_close(drawn(samples, rows), whole[samples][:, rows], rtol=1e-12, atol=1e-12)
    assert not torch.equal(whole[0], whole[1])


def test_a_decoder_can_begin_at_the_mean_of_the_data(likelihood: Any) -> None:
    """Where a likelihood says so, its mean is nearly that of the data there."""
    part, mean = likelihood.make((2, 3)), 0.3 + 0.4 * torch.rand(2, 3)
    beginning = part.beginning(mean)
    if beginning is None:
        return
    assert beginning.shape == part.context_shape
    px = part(beginning[None, None], model=None)
    # a discrete variable of wide scale meets its ends
    torch.testing.assert_close(px.mean[0, 0], mean, rtol=0, atol=0.1 if likelihood.discrete else 1e-12)


def test_the_constant_depends_on_nothing(likelihood: Any) -> None:
    """It is a number of the event shape alone: D times that of one value, in either mode, whatever was seen."""
    part = likelihood.make((3, 4))
    before = part.constant
    assert isinstance(before, float)
    assert math.isclose(before, 12 * likelihood.make((1,)).constant, rel_tol=1e-12, abs_tol=1e-12)
    part.train()
    part.adapt(part(torch.randn(1, 5, *part.context_shape), model=None), torch.rand(5, 3, 4))
    for parameter in part.parameters():
        parameter.data.normal_(std=0.01)
    assert part.constant == before


def test_adapting_outside_training_changes_nothing(likelihood: Any) -> None:
    part = likelihood.make((2, 3)).eval()
    px = part(torch.randn(2, 5, *part.context_shape), model=None)
    state = {name: value.clone() for name, value in part.state_dict().items()}
    assert part.adapt(px, torch.rand(5, 2, 3)) is px
    assert all(torch.equal(state[name], value) for name, value in part.state_dict().items())
