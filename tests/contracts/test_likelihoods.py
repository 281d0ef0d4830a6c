"""What is true of every likelihood beyond being a conditional."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 3, 4)])
def test_the_batch_is_what_leads_the_context(likelihood: Any, lead: tuple[int, ...]) -> None:
    part = likelihood.make((2, 3))
    context = torch.randn(*lead, *part.context_shape)
    px = part(context, model=None)
    assert px.batch_shape == lead
    x = torch.randint(0, 2, (*lead, 2, 3)).double()
    whole = part(context.reshape(1, -1, *part.context_shape), model=None).log_prob(x.reshape(1, -1, 2, 3))
    assert torch.equal(px.log_prob(x), whole.reshape(lead))


def test_data_in_the_unit_interval_are_accepted(likelihood: Any) -> None:
    likelihood.make((2,)).check(0.0, 1.0, {})
    likelihood.make((2,)).check(0.2, 0.2, {})


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-0.5, 1.0), (-1e-3, 0.5), (0.0, 1.001), (-3.0, 3.0)])
def test_data_outside_the_support_are_refused_with_a_remedy(likelihood: Any, low: float, high: float) -> None:
    part = likelihood.make((2,))
    if not likelihood.binary:
        part.check(low, high, {})
        return
    with pytest.raises(ValueError, match=r"\[0, 1\]") as caught:
        part.check(low, high, {"scale": "data.scale=255"})
    message = str(caught.value)
    assert f"[{low:.4g}, {high:.4g}]" in message
    assert "data.scale=255" in message
    assert "likelihood=normal" in message
    with pytest.raises(ValueError, match="Write likelihood=normal"):
        part.check(low, high, {})


def test_binary_data_with_nan_are_refused(likelihood: Any) -> None:
    """Elsewhere every finite value is in the support, and finiteness is checked where data come in."""
    for low, high in [(math.nan, 1.0), (0.0, math.nan), (math.nan, math.nan)]:
        with pytest.raises(ValueError, match="nan") if likelihood.binary else nullcontext():
            likelihood.make((2,)).check(low, high, {})


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
