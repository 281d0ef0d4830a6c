"""The rate-distortion curve: its hull against an exhaustive search, and what is drawn."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vaekit.report import rate_distortion as module
from vaekit.report.rate_distortion import Point, lower_hull, rate_distortion

BETAS = [8.0, 2.0, 1.0, 0.5, 0.1]
RATES = [1.0, 6.0, 10.0, 16.0, 25.0]
DISTORTIONS = [30.0, 17.0, 12.0, 10.0, 4.0]  # the fourth lies above the line between its neighbours


def runs(**given: Any) -> list[Point]:
    numbers = zip(BETAS, RATES, DISTORTIONS, strict=True)
    return [Point("", r, 0.2, d, 0.5, 0.6, **{"beta": b, **given}) for b, r, d in numbers]


def drawn(points: list[Point], path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr(module, "write_png", lambda figure, _: figures.append(figure))
    rate_distortion(points, path, "caption")
    return figures[0]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_hull_of_a_curve_leaves_out_what_a_mixture_beats() -> None:
    assert lower_hull(np.array(RATES), np.array(DISTORTIONS)) == [0, 1, 2, 4]
    # what costs more and tells less is no end of the curve either, and a run twice is there once
    x, y = np.array([3.0, 0.0, 0.0, 9.0, 3.0]), np.array([1.0, 5.0, 6.0, 1.5, 1.0])
    assert lower_hull(x, y) == [1, 0]
    assert lower_hull(np.array([2.0]), np.array([3.0])) == [0]
    # three on a line: the middle one is no corner
    assert lower_hull(np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.0])) == [0, 2]


@pytest.mark.parametrize("seed", range(5))
def test_the_hull_is_what_no_mixture_of_two_runs_beats(seed: int) -> None:
    """A run is on the falling hull exactly if no run and no point between two has less distortion at a rate no larger."""
    draw = np.random.default_rng(seed)
    x, y = draw.uniform(0, 10, 25), draw.uniform(0, 10, 25)

    def reachable(at: float, without: int) -> float:
        """The least distortion of the others, and of mixtures of two of them, at no more than a rate."""
        others = [place for place in range(25) if place != without]
        least = [y[place] for place in others if x[place] <= at]
        for a, b in combinations(others, 2):
            if min(x[a], x[b]) <= at <= max(x[a], x[b]):
                share = (at - x[a]) / (x[b] - x[a])
                least.append(y[a] + share * (y[b] - y[a]))
        return min(least, default=math.inf)

    expected = {place for place in range(25) if y[place] < reachable(x[place], place)}
    hull = lower_hull(x, y)
    assert set(hull) == expected
    assert list(x[hull]) == sorted(x[hull])
    slopes = np.diff(y[hull]) / np.diff(x[hull])
    assert (slopes < 0).all()
    assert (np.diff(slopes) > 0).all()
    for beta in (0.1, 1.0, 5.0):  # whatever the weight of the rate, the best run is on it
        assert int(np.argmin(y + beta * x)) in expected


def test_the_curve_has_betas_errors_the_hull_lines_of_one_elbo_and_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn(runs(), tmp_path / "a.png", monkeypatch)
    axes = figure.axes[0]
    said = words(figure)
    assert {"β = 8", "β = 2", "β = 1", "β = 0.5", "β = 0.1"} <= set(said)
    assert sum(text.startswith("ELBO -") for text in said) >= 3
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "best ELBO: -22.00 ± 0.60 nats",
        "lower convex hull",
        "constant ELBO",
    ]
    lines = [np.asarray(line.get_xydata()) for line in axes.lines]
    assert any(np.array_equal(line, np.column_stack([RATES, DISTORTIONS])[[0, 1, 2, 4]]) for line in lines)
    falling = [line for line in lines if len(line) == 2 and np.allclose(line.sum(1), line.sum(1)[0])]
    assert any(np.allclose(line.sum(1), 22.0) for line in falling)  # through the best run
    offsets = [np.asarray(collection.get_offsets()).tolist() for collection in axes.collections]
    assert [[10.0, 12.0]] in offsets  # the star, alone
    bars = [segment for found in axes.collections if hasattr(found, "get_segments") for segment in found.get_segments()]
    assert any(np.allclose(segment, [[9.8, 12.0], [10.2, 12.0]]) for segment in bars)
    assert any(np.allclose(segment, [[10.0, 11.5], [10.0, 12.5]]) for segment in bars)
    low, high = axes.get_ylim()
    assert low < 3.5 < 30.5 < high


def test_runs_that_differ_in_seed_alone_share_a_label_and_others_say_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = drawn([*runs(), *runs()], tmp_path / "a.png", monkeypatch)
    assert words(twice).count("β = 2") == 1
    other = [Point(f"latent_dim={k}", rate, 0, 20 - rate, 0, beta=1.0) for k, rate in ((2, 3.0), (4, 6.0))]
    said = words(drawn(other, tmp_path / "a.png", monkeypatch))
    assert {"latent_dim=2", "latent_dim=4"} <= set(said)  # one beta for all is not written at each
    assert not any("β" in text for text in said)


def test_any_runs_can_be_drawn_and_equal_ones_give_equal_bytes(tmp_path: Path) -> None:
    nan = math.nan
    cases = [
        runs(),
        runs()[:1],
        [Point("a", 0.0, nan, 5.0, nan)] * 3,
        [Point("x" * 400 + "\n<b>$_", 1e-9, 0, 1e6, 1, beta=0.0), Point("", 4e3, 0, -1e6, 1, beta=1e-4)],
        [*runs(), Point("lost", nan, 0, 1, 0), Point("far", math.inf, 0, 1, 0)],
        [Point(f"run {k}", k % 7, 0.1, 90.0 - k % 5, 0.1, beta=0.1 * k) for k in range(60)],
        [Point("a", nan, 0, 1, 0)],
    ]
    for number, points in enumerate(cases):
        rate_distortion(points, tmp_path / f"{number}.png", "caption")
    rate_distortion(cases[0], tmp_path / "again.png", "caption")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "0.png").read_bytes()
    with Image.open(tmp_path / "0.png") as image:
        assert image.size == (1440, 960)
