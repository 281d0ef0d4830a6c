"""The picture of out-of-distribution scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from vaekit.report import ood
from vaekit.report.captions import caption
from vaekit.report.ood import Separation, separations


def score(name: str, area: float, inside: object, outside: object) -> Separation:
    curve = np.array([[0.0, 0.2, 1.0], [0.0, area, 1.0]])
    return Separation(name, np.asarray(inside, float), np.asarray(outside, float), curve, area, 0.01)


def test_each_score_has_its_histogram_and_its_curve_the_best_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    scores = [score("weak", 0.6, draw.normal(size=400), draw.normal(size=100) + 0.3)]
    scores.append(score("strong", 0.95, draw.normal(size=400), [*draw.normal(size=98) + 3, math.inf, 1e9]))
    figures: list[Figure] = []
    monkeypatch.setattr(ood, "write_png", lambda figure, _: figures.append(figure))
    separations(scores, tmp_path / "a.png", "caption", ("digits", "letters $x_"))
    first, second, curves = figures[0].axes
    assert [axes.get_title(loc="left") for axes in figures[0].axes] == ["strong", "weak", "ROC"]
    assert (first.get_title(loc="right"), second.get_title(loc="right")) == ("AUROC 0.950", "AUROC 0.600")
    heights = [patch.get_data().values for patch in first.patches]
    assert np.sum(heights[0]) == pytest.approx(1.0)  # each set by its own size
    assert np.sum(heights[2]) == pytest.approx(0.99)  # and what is infinite is in no bar
    assert any("lie beyond" in text.get_text() for text in first.texts)
    drawn = [np.asarray(line.get_xydata()).tolist() for line in curves.lines]
    assert scores[0].curve.T.tolist() in drawn
    assert scores[1].curve.T.tolist() in drawn
    legend = curves.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["strong 0.950 ± 0.010", "weak 0.600 ± 0.010"]
    names = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert names == ["digits (in)", "letters $x_ (out)"]


def test_scores_of_any_kind_are_drawn(tmp_path: Path) -> None:
    inf = math.inf
    odd = [score("same", 0.5, [1.0] * 3, [1.0]), score("far", 1.0, [0.0], [inf]), score("none", 0.5, [inf], [inf])]
    odd += [score(f"<b>{place}", 0.5, [0, 1e300], [-1e300]) for place in range(5)]
    separations(odd, tmp_path / "a.png", "caption\n" * 50, ("a" * 300, ""))
    separations([], tmp_path / "b.png", "", ("a", "b"))
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert (tmp_path / "b.png").is_file()


def test_the_picture_has_a_caption_on_the_page() -> None:
    assert caption("ood_fashion_mnist").title == "Out of distribution: fashion mnist"
