"""Binarised pixels follow their probabilities, and their noise belongs to the examples."""

import math

import numpy as np
import pytest
import torch

from vaekit import data
from vaekit.data.door import Parts, Wishes, admit
from vaekit.data.transforms import Scale
from vaekit.distributions import noise


def dataset(values, binarisation, seed=0):
    split = data.Split(torch.as_tensor(values), (Scale(1.0, torch.float64),))
    parts = Parts((split, split, split), scaling="as stored", splitting="three times the same")
    return admit("test", parts, Wishes(binarisation, seed), rescale="data.scale=7")


def test_threshold_sends_one_half_to_zero():
    x = dataset([[0.0, 0.5, np.nextafter(0.5, 1), 1.0]], "threshold").train.batch(torch.tensor([0])).x
    assert x.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("binarisation", ["dynamic", "static"])
@pytest.mark.parametrize("probability", [0.0, 0.01, 0.3, 0.5, 1.0])
def test_pixels_are_one_with_their_probability(binarisation, probability):
    n = 200_000
    torch.manual_seed(1)
    split = dataset(torch.full((n // 100, 100), probability, dtype=torch.float64), binarisation).train
    x = split.batch(torch.arange(len(split))).x
    assert set(x.unique().tolist()) <= {0.0, 1.0}
    standard_error = math.sqrt(probability * (1 - probability) / n)
    # false alarm: 6e-5 for each of the 6 fixed seeds with noise in them
    assert abs(x.mean().item() - probability) <= 4 * standard_error


def test_dynamic_is_drawn_anew_and_static_is_not():
    index = torch.arange(4)
    half = torch.full((4, 100), 0.5, dtype=torch.float64)
    dynamic, static = dataset(half, "dynamic").train, dataset(half, "static").train
    assert not torch.equal(dynamic.batch(index).x, dynamic.batch(index).x)
    assert torch.equal(static.batch(index).x, static.batch(index).x)


def test_dynamic_noise_of_an_example_does_not_depend_on_its_batch():
    split = dataset(torch.full((10, 50), 0.5, dtype=torch.float64), "dynamic").train

    def shown(index):
        with noise.use(noise.PerExample(3, index)):
            return split.batch(index).x

    whole = shown(torch.arange(10))
    torch.testing.assert_close(shown(torch.tensor([7, 2])), whole[[7, 2]], rtol=0, atol=0)
    assert not torch.equal(whole[0], whole[1])


def test_a_pixel_of_value_one_survives_noise_that_rounds_up_to_one(monkeypatch):
    monkeypatch.setattr("vaekit.data.transforms.uniform", lambda shape, **_: torch.ones(shape))
    assert data.Dynamic()(torch.tensor([[1.0, 0.5]])).tolist() == [[1, 0]]


@pytest.mark.usefixtures("untouched")
def test_static_is_fixed_by_its_seed_and_differs_between_parts():
    half = torch.full((5, 100), 0.5, dtype=torch.float64)
    one, again, other = (dataset(half, "static", seed) for seed in (1, 1, 2))
    assert one.fingerprint() == again.fingerprint()
    assert one.fingerprint() != other.fingerprint()
    assert one.train.stored.dtype == torch.uint8
    assert not torch.equal(one.train.stored, one.test.stored)
    assert not torch.equal(one.train.stored, one.validation.stored)


def test_values_seen_are_stated():
    grey = [[0.25, 0.75]]
    seen = {name: dataset(grey, name) for name in data.BINARISATIONS}
    assert {name: (d.low, d.high, d.binary) for name, d in seen.items()} == {
        "none": (0.25, 0.75, False),
        "threshold": (0, 1, True),
        "dynamic": (0, 1, True),
        "static": (0, 1, True),
    }
    assert dataset([[0.0, 1.0]], "none").binary
    assert "x > 0.5" in seen["threshold"].description


@pytest.mark.parametrize("binarisation", ["threshold", "dynamic", "static"])
def test_values_outside_the_unit_interval_are_not_binarised(binarisation):
    with pytest.raises(
        ValueError, match=r"expects values in \[0, 1\], received values in \[0, 7\].*Write data.scale=7"
    ):
        dataset([[0.0, 7.0]], binarisation)
    with pytest.raises(ValueError, match=r"in \[-1, 1\] from test. Write data.binarisation=none."):
        dataset([[-1.0, 1.0]], binarisation)


def test_remedies_are_there_when_dividing_would_help():
    assert dataset([[0.0, 7.0]], "none").remedies == {"scale": "data.scale=7"}
    assert dataset([[-1.0, 7.0]], "none").remedies == {}
    assert dataset([[0.0, 1.0]], "none").remedies == {}


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(
        ValueError, match=r"'statik', expected one of none, threshold, dynamic, static.*binarisation=static"
    ):
        data.named("digits", binarisation="statik")


@pytest.mark.parametrize("divisor", [0, -1, math.inf, math.nan])
def test_scale_refuses_what_is_no_divisor(divisor):
    with pytest.raises(ValueError, match=r"data.scale=255"):
        Scale(divisor)
