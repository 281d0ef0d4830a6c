"""From a run and other data to numbers, a file of scores and a picture."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from vaekit.conditionals import Normal
from vaekit.data import Dataset, Split
from vaekit.data.transforms import Scale
from vaekit.errors import ConfigError
from vaekit.evaluation import Plan
from vaekit.likelihoods import Bernoulli
from vaekit.models import flat
from vaekit.networks import MLP
from vaekit.out_of_distribution import must_be_alike, tell_apart
from vaekit.priors import StandardNormal


def binary(n: int, share: float) -> Split:
    return Split((torch.rand(n, 6) < share).to(torch.uint8), (Scale(1.0),))


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """What is asked of a run: its model, its data and its folder."""
    model = flat(
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [4]),
        lambda in_shape, out_shape: MLP(in_shape, out_shape, [4]),
        Normal((2,)), StandardNormal((2,)), Bernoulli((6,)),
    )  # fmt: skip
    data = Dataset("own", binary(40, 0.2), binary(5, 0.2), binary(20, 0.2), "", binary=True, low=0, high=1, levels=2)
    return SimpleNamespace(model=model, dataset=data, path=tmp_path)


def test_numbers_scores_and_picture_are_of_the_same_examples(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaekit.evaluation.ood.REGRET_STEPS", 3)
    called = "../Other <data>\n"
    told = tell_apart(run, run.dataset.test, binary(15, 0.8), called, Plan(7, 2), background=run)
    assert set(told.left_out) == set()
    assert len(told.metrics) == 7 * 3
    assert all("against Other <data>" in estimate.estimator for estimate in told.metrics.values())
    assert told.scores == run.path / "evaluation" / "ood_Other_data.csv"
    assert told.figure == run.path / "figures" / "ood_Other_data.png"
    with told.scores.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == ["in"] * 20 + ["out"] * 15
    inside, outside = ([float(row["negative_bound"]) for row in rows if row["set"] == side] for side in ("in", "out"))
    pairs = [(b > a) + 0.5 * (b == a) for a in inside for b in outside]
    assert told.metrics["ood_negative_bound_auroc"].value == pytest.approx(sum(pairs) / len(pairs))
    with Image.open(told.figure) as image:
        assert image.size[0] == 2130


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"binary": False, "levels": 256}, "of 256 levels in [0, 1]"),
        ({"binary": False, "levels": None, "low": 0.0}, "in [0, 1]"),
        ({"binary": False, "levels": None, "low": -3.0}, "real numbers"),
        ({"binary": False, "levels": None, "counts": True}, "counts"),
    ],
)
def test_values_of_another_kind_are_refused_in_one_line(run: Any, changed: dict[str, Any], kind: str) -> None:
    own = run.dataset
    must_be_alike(own, replace(own, name="other"), "other")
    with pytest.raises(ConfigError) as caught:
        must_be_alike(own, replace(own, **changed), "other.npy")
    assert f"--ood other.npy: its values are {kind}, and those of own are 0 and 1" in str(caught.value)
    assert "\n" not in str(caught.value)
