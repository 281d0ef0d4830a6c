"""Runs stand in one order only by a number that means the same of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vaekit.comparison.measure import Measured
from vaekit.comparison.table import groups
from vaekit.evaluation.units import Estimate

FACTS = {"space": "log1p", "discrete": False, "likelihood": "Normal", "features": 5, "data": "the data", "image": False}


def measured(name: str, likelihood: dict[str, Any], reconstruction: float, mse: float) -> Measured:
    numbers = {
        "reconstruction": Estimate(reconstruction, 1.0, "nats", 100),
        "mse": Estimate(mse, 0.01, "1", 100),
    }
    config = {"data": {"kind": "data.cells", "name": "pbmc3k"}, "likelihood": likelihood, "name": name}
    return Measured(Path("runs") / name, config, {"validation": numbers, "test": numbers}, FACTS)


def order(*likelihoods: dict[str, Any]) -> tuple[str, dict[str, str], list[str]]:
    """What orders three autoencoders whose squared errors are in the order c, b, a, and their nats in the order a, b, c."""
    runs = [
        measured(name, likelihood, nats, mse)
        for name, likelihood, nats, mse in zip("abc", likelihoods, (10, 20, 30), (3, 2, 1), strict=True)
    ]
    (compared,) = groups(runs)
    group = compared.group
    apart = {column.key: column.apart for column in group.columns}
    return group.columns[group.best].key, apart, [run.path.name for run in compared.runs]  # type: ignore[index]


GIVEN, SQUARED = ({"kind": "likelihoods.Normal", "scale": scale} for scale in (1.0, 0.5**0.5))
LEARNED = {"kind": "likelihoods.LearnedScaleNormal", "scale": 0.3}
OTHER = {"kind": "likelihoods.LearnedScaleNormal", "scale": 1.0}


def test_nats_of_an_error_do_not_compare_under_scales_that_were_given() -> None:
    key, apart, names = order(GIVEN, SQUARED, SQUARED)
    assert (key, names) == ("test/mse", ["c", "b", "a"])
    assert "density of log1p with scale 0.707, density of log1p with scale 1" in apart["test/reconstruction"]
    assert apart["test/mse"] == ""


@pytest.mark.parametrize("likelihoods", [(GIVEN, GIVEN, GIVEN), (LEARNED, OTHER, LEARNED)])
def test_they_do_under_one_scale_and_under_scales_that_were_found(likelihoods: tuple[dict[str, Any], ...]) -> None:
    key, apart, names = order(*likelihoods)
    assert (key, names) == ("validation/reconstruction", ["a", "b", "c"])
    assert apart["test/reconstruction"] == ""


def test_groups_of_one_name_say_how_their_data_differ() -> None:
    runs = [measured(name, GIVEN, 10, 1) for name in "abc"]
    for run, ood in zip(runs, (None, "condition=stim", None), strict=True):
        run.config["data"]["ood"] = ood  # type: ignore[index]
    assert [compared.group.title for compared in groups(runs)] == [
        "pbmc3k, data.ood=null",
        "pbmc3k, data.ood=condition=stim",
    ]
    assert [compared.group.title for compared in groups(runs[:1])] == ["pbmc3k"]
