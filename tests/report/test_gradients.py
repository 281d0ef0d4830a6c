"""The figure of gradients: drawn for odd numbers too, and the same twice."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from vaekit.report import gradient_signal
from vaekit.report.captions import caption
from vaekit.report.gradients import _panel
from vaekit.report.style import new_figure

CURVES = {
    "encoder": {"iwae": [(1, 0.5, 0.02), (64, 0.1, 0.3)], "dreg": [(1, 0.5, 0.02), (64, 3.0, math.nan)]},
    "decoder": {"iwae": [(1, 0.5, 0.02), (64, math.inf, 0.0)], "dreg": [(1, 0.0, 0.0)]},
}


def test_equal_calls_give_equal_bytes_and_slopes_are_seen(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file in files[:2]:
        gradient_signal(CURVES, file, floor=0.05)
    gradient_signal(CURVES, files[2], floor=0.05, slopes={("iwae", "encoder"): "K^-0.50 ± 0.03"})
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


@pytest.mark.parametrize("curves", [{}, {"encoder": {}}, {"encoder": {"iwae": [(1, math.nan, 1.0)]}}])
def test_without_a_number_it_says_so(
    tmp_path: Path, curves: dict[str, dict[str, list[tuple[int, float, float]]]]
) -> None:
    gradient_signal(curves, tmp_path / "a.png", floor=0.05)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_it_has_a_place_on_the_page() -> None:
    assert caption("gradients").text


def test_labels_between_powers_of_ten_look_like_the_others() -> None:
    axes = new_figure(5.0, 4.0).add_subplot()
    _panel(axes, {"elbo": [(1, 0.4, 0.05), (4, 0.9, 0.08)]}, {"elbo": ("#0072b2", "o")}, 0.18)
    (major, *_), (minor, *_) = axes.yaxis.get_major_ticks(), axes.yaxis.get_minor_ticks()
    assert minor.label1.get_fontsize() == major.label1.get_fontsize()
    assert minor.label1.get_color() == major.label1.get_color()
