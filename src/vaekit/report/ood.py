"""The picture of out-of-distribution scores: how both sets are distributed under each, and what tells them apart."""

# N examples inside, M outside, T thresholds

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from vaekit.report.style import (
    CLASSES,
    INK,
    MUTED,
    TRAIN,
    VALIDATION,
    heading,
    legible,
    new_figure,
    tidy,
    write_message,
    write_png,
)
from vaekit.report.tiles import Array

_BINS, _ACROSS = 48, 3
# beside the colour, as ten of these are not told apart by everyone
_DASHES: tuple[tuple[float, Sequence[float]], ...] = ((0, ()), (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))


@dataclass(frozen=True)
class Separation:
    """A score of both sets.

    Attributes:
        name: For readers.
        inside: Of examples like those of the training, (N,).
        outside: Of others, (M,).
        curve: False and true positive rates, (2, T); outside is positive.
        area: Under that curve.
        error: Its standard error.
    """

    name: str
    inside: Array
    outside: Array
    curve: Array
    area: float
    error: float


def separations(scores: Sequence[Separation], path: Path, caption: str, names: tuple[str, str]) -> None:
    """Draw a histogram of each score, best first, and beside them the ROC curves of all.

    Arguments:
        scores: In any order.
        path: The PNG to write.
        caption: What is drawn.
        names: Of the two sets, inside first.
    """
    if not scores:
        write_message("no score tells these data apart", path)
        return
    ordered = sorted(scores, key=lambda score: -score.area)
    rows = math.ceil(len(ordered) / _ACROSS)
    width, height = 14.2, max(5.6, 0.95 + 2.15 * rows)
    figure = new_figure(width, height)
    line = legible(caption, int(width * 15))
    figure.text(0.02, 1 - 0.12 / height, line, fontsize=8.5, color=MUTED, va="top", parse_math=False)
    grid = figure.add_gridspec(rows, _ACROSS, left=0.03, right=0.615, top=1 - 1.02 / height, bottom=0.42 / height)
    grid.update(hspace=0.46, wspace=0.16)
    for place, score in enumerate(ordered):
        _histogram(figure.add_subplot(grid[place // _ACROSS, place % _ACROSS]), score)
    figure.legend(
        handles=[Patch(color=TRAIN, alpha=0.6), Patch(color=VALIDATION, alpha=0.6)],
        labels=[legible(f"{name} ({called})", 44) for name, called in zip(names, ("in", "out"), strict=True)],
        loc="upper left", bbox_to_anchor=(0.022, 1 - 0.28 / height), ncols=2, frameon=False, fontsize=9, labelcolor=INK,
    )  # fmt: skip
    _curves(figure.add_axes((0.665, 0.5 / height, 0.325, 1 - 1.3 / height)), ordered)
    write_png(figure, path)


def _histogram(axes: Axes, score: Separation) -> None:
    tidy(axes)
    axes.grid(visible=False, axis="y")
    heading(axes, score.name, f"AUROC {score.area:.3f}")
    sides = [np.asarray(side, np.float64) for side in (score.inside, score.outside)]
    finite = [side[np.isfinite(side)] for side in sides]
    if not len(np.concatenate(finite)):
        axes.text(0.5, 0.5, "no finite score", transform=axes.transAxes, ha="center", color=MUTED, fontsize=8)
        return
    low, high = _range(finite)
    edges = np.linspace(low, high, _BINS + 1)
    for side, all_of_it, colour in zip(finite, sides, (TRAIN, VALIDATION), strict=True):
        # what lies beyond the ends is held in the outermost bars
        counts = np.histogram(np.clip(side, low, high), edges)[0] / max(len(all_of_it), 1)
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.42)
        axes.stairs(counts, edges, color=colour, linewidth=1.1)
    axes.set_xlim(low, high)
    axes.set_ylim(0.0, 1.16 * max(axes.get_ylim()[1] / 1.05, 1e-9))  # room for what is written above the bars
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    beyond = sum(int(((side < low) | (side > high) | ~np.isfinite(side)).sum()) for side in sides)
    told = f"{beyond:,} in the outermost bars lie beyond" if beyond else ""
    axes.text(0.985, 0.97, told, transform=axes.transAxes, ha="right", va="top", fontsize=6.5, color=MUTED)


def _range(sides: Sequence[Array]) -> tuple[float, float]:
    """From the lowest to the highest of both sets, but for the hundredth at the ends of each."""
    ends = [np.quantile(side, (0.01, 0.99)) for side in sides if len(side)]
    low, high = min(float(end[0]) for end in ends), max(float(end[1]) for end in ends)
    margin = 0.03 * (high - low) or 0.5
    return low - margin, high + margin


def _curves(axes: Axes, ordered: Sequence[Separation]) -> None:
    tidy(axes)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (5, 4)), zorder=2)
    handles, labels = [], []
    for place, score in enumerate(ordered):
        colour, dashes = CLASSES[place % len(CLASSES)], _DASHES[place % len(_DASHES)]
        axes.plot(*np.asarray(score.curve), color=colour, linestyle=dashes, linewidth=1.8, zorder=3)
        handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=1.8))
        error = f" ± {score.error:.3f}" if math.isfinite(score.error) else ""
        labels.append(legible(f"{score.name}  {score.area:.3f}{error}", 48))
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.005)
    heading(axes, "ROC", "area ± one standard error")
    axes.set_xlabel("share of the inside that is called out", fontsize=8.5, color=INK)
    axes.set_ylabel("share of the outside that is called out", fontsize=8.5, color=INK)
    axes.legend(
        handles, labels, loc="best", fontsize=7.5, labelcolor=INK, frameon=True, framealpha=0.9, edgecolor="none"
    )
