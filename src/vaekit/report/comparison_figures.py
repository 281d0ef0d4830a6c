"""The pictures of a comparison: genes, latent maps, and which settings mattered."""

# N examples, F features

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.lines import Line2D

from vaekit.report.style import (
    CLASSES,
    DPI,
    INK,
    MUTED,
    PAPER,
    TRAIN,
    heading,
    legible,
    new_figure,
    text_width,
    tidy,
    write_message,
    write_png,
)
from vaekit.report.tiles import Array

_SHOWN, _MARKERS, _REST = 20, ("o", "^"), "#c3c8d1"
_AMOUNT = LinearSegmentedColormap.from_list("paper-blue", ["#dfe8ef", "#7fb2d6", TRAIN, "#00324f"])


@dataclass(frozen=True)
class FeatureStatistics:
    """Means, variances and shares of zeros of every feature, (F,) each, of data and of draws from the model.

    Attributes:
        name: Whose examples.
        original: Of the data, (3, F).
        drawn: Of draws, (3, F).
    """

    name: str
    original: Array
    drawn: Array


def feature_statistics(
    sets: Sequence[FeatureStatistics], path: Path, caption: str, *, logarithmic: bool, zeros: str = ""
) -> None:
    """Scatter original against drawn: means, variances, and shares of zeros, a row for each set.

    Arguments:
        sets: In and out of distribution.
        path: The PNG to write.
        caption: What the points are.
        logarithmic: Whether means and variances are amounts, which span many sizes.
        zeros: What the share of zeros is called; empty to leave it out.
    """
    titles = ["mean", "variance", *([zeros] if zeros else [])]
    width, height = 0.5 + 3.25 * len(titles), 0.75 + 3.3 * len(sets)
    figure = new_figure(width, height)
    figure.text(
        0.02,
        1 - 0.12 / height,
        legible(caption, int(width * 15)),
        fontsize=8.5,
        color=MUTED,
        va="top",
        parse_math=False,
    )
    grid = figure.add_gridspec(
        len(sets), len(titles), left=0.75 / width, right=1 - 0.15 / width, top=1 - 0.75 / height, bottom=0.55 / height
    )
    grid.update(hspace=0.42, wspace=0.32)
    for row, group in enumerate(sets):
        for column, title in enumerate(titles):
            axes = figure.add_subplot(grid[row, column])
            # shares lie between 0 and 1, most of them near 1, where a logarithm would press them together
            _against(axes, group.original[column], group.drawn[column], logarithmic and column < 2)
            heading(axes, title, group.name if len(sets) > 1 else "")
            if row == len(sets) - 1:
                axes.set_xlabel("original", fontsize=8.5, color=INK)
            if column == 0:
                axes.set_ylabel("drawn from p(x|z)", fontsize=8.5, color=INK)
    write_png(figure, path)


def _against(axes: Axes, original: Array, drawn: Array, logarithmic: bool) -> None:
    tidy(axes)
    kept = np.isfinite(original) & np.isfinite(drawn)
    if logarithmic:
        kept &= (original > 0) & (drawn > 0)
    x, y = np.asarray(original, np.float64)[kept], np.asarray(drawn, np.float64)[kept]
    if not len(x):
        axes.text(
            0.5, 0.5, "no feature above 0 in both", transform=axes.transAxes, ha="center", color=MUTED, fontsize=8
        )
        return
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
        low, high = low / 1.6, high * 1.6
    else:
        margin = 0.05 * (high - low) or 0.5
        low, high = low - margin, high + margin
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (5, 4)), zorder=2)
    size = float(np.clip(30 * math.sqrt(60 / len(x)), 2.0, 26))
    axes.scatter(x, y, s=size, color=TRAIN, alpha=float(np.clip(9 / len(x) ** 0.4, 0.22, 0.85)), linewidths=0, zorder=3)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal", adjustable="box")
    hidden = int((~kept).sum())
    told = f"{len(x):,} features" + (f"; {hidden:,} at 0 not shown" if hidden else "")
    box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    axes.text(0.98, 0.03, told, transform=axes.transAxes, ha="right", fontsize=7.5, color=MUTED, bbox=box, zorder=4)


@dataclass(frozen=True)
class Panel:
    """Points of a map.

    Attributes:
        title: Whose.
        points: (N, 2).
        names: The class of each, (N,) of str, or None.
        amounts: A number of each, (N,), or None.
        behind: Points in grey below them, (M, 2), or None.
    """

    title: str
    points: Array
    names: Array | None = None
    amounts: Array | None = None
    behind: Array | None = None


def latent_map(
    panels: Sequence[Panel], axes_names: tuple[str, str], path: Path, caption: str, colour: str = ""
) -> None:
    """Draw maps side by side on the same axes, coloured alike.

    Arguments:
        panels: In distribution, and out of it where there is such a part.
        axes_names: Of the two axes.
        path: The PNG to write.
        caption: What is drawn.
        colour: What the colours mean; the heading of the legend.
    """
    finite = [panel.points[np.isfinite(panel.points).all(1)] for panel in panels]
    if not sum(map(len, finite)):
        write_message("no finite points in the latent space", path)
        return
    low, high = _box(np.concatenate(finite))
    known = [panel.names for panel in panels if panel.names is not None]
    ranked = _ranked(np.concatenate(known)) if known else []
    amounts = [panel.amounts for panel in panels if panel.amounts is not None]
    longest = max([text_width(legible(name, 24), 8) for name in [*ranked[:_SHOWN], colour]], default=0) / DPI
    legend = 0.45 + longest if ranked else 0.75 if amounts else 0.0
    width, height = 0.6 + 4.75 * len(panels) + legend, 5.15
    figure = new_figure(width, height)
    figure.text(
        0.15 / width,
        1 - 0.12 / height,
        legible(caption, int(width * 15)),
        fontsize=8.5,
        color=MUTED,
        va="top",
        parse_math=False,
    )
    span = _range(amounts)
    for place, panel in enumerate(panels):
        axes = figure.add_axes(((0.8 + 4.75 * place) / width, 0.5 / height, 4.15 / width, 4.05 / height))
        _panel(axes, panel, ranked, span)
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        heading(axes, panel.title, f"{len(panel.points):,} examples")
        axes.set_xlabel(legible(axes_names[0], 60), fontsize=8.5, color=INK, parse_math=False)
        if place == 0:
            axes.set_ylabel(legible(axes_names[1], 60), fontsize=8.5, color=INK, parse_math=False)
    if ranked:
        _legend(figure.axes[-1], ranked, colour)
    elif amounts:
        # of its own: the bar of points that one sees through would be pale
        amount = ScalarMappable(Normalize(*span), _AMOUNT)
        bar = figure.colorbar(
            amount, cax=figure.add_axes((1 - 0.62 / width, 0.5 / height, 0.13 / width, 4.05 / height))
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=MUTED, labelsize=7.5, length=0)
        bar.ax.set_title(legible(colour, 14), fontsize=8, color=INK, parse_math=False, loc="left")
    write_png(figure, path)


def _panel(axes: Axes, panel: Panel, ranked: Sequence[str], span: tuple[float, float]) -> None:
    tidy(axes)
    size = _size(len(panel.points))
    if panel.behind is not None:
        x, y = panel.behind.T
        axes.scatter(x, y, s=size, color=_REST, alpha=0.6, linewidths=0, zorder=2)
    # a fixed shuffle: data sorted by class would bury the first classes below the last
    order = np.random.default_rng(0).permutation(len(panel.points))
    points = panel.points[order]
    if panel.amounts is not None:
        colours = _AMOUNT(Normalize(*span)(panel.amounts[order]))
        axes.scatter(points[:, 0], points[:, 1], s=size, color=colours, alpha=0.85, linewidths=0, zorder=3)
        return
    if panel.names is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, color=TRAIN, alpha=0.7, linewidths=0, zorder=3)
        return
    names = panel.names[order]
    looks = {name: _look(rank) for rank, name in enumerate(ranked[:_SHOWN])}
    for marker in _MARKERS:
        members = np.array([looks.get(name, (_REST, "o"))[1] == marker for name in names], dtype=bool)
        if members.any():
            shown = [looks.get(name, (_REST, "o"))[0] for name in names[members]]
            x, y = points[members].T
            axes.scatter(x, y, s=size, color=shown, marker=marker, alpha=0.8, linewidths=0, zorder=3)


def _look(rank: int) -> tuple[str, str]:
    return CLASSES[rank % len(CLASSES)], _MARKERS[rank // len(CLASSES)]


def _legend(axes: Axes, ranked: Sequence[str], colour: str) -> None:
    shown = list(ranked[:_SHOWN])
    handles = [
        Line2D([], [], color=_look(rank)[0], marker=_look(rank)[1], linestyle="none", markersize=6)
        for rank in range(len(shown))
    ]
    if len(ranked) > _SHOWN:
        shown.append(f"{len(ranked) - _SHOWN} others")
        handles.append(Line2D([], [], color=_REST, marker="o", linestyle="none", markersize=6))
    legend = axes.legend(
        handles, ["class"] * len(shown), title="colour", loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8,
        labelcolor=INK, handletextpad=0.3, alignment="left", title_fontsize=8.5,
    )  # fmt: skip
    legend.get_title().set_parse_math(False)
    legend.get_title().set_text(legible(colour, 24))
    for text, name in zip(legend.get_texts(), shown, strict=True):
        # set afterwards: matplotlib leaves labels that begin with "_" out, and reads dollars as formulas
        text.set_parse_math(False)
        text.set_text(legible(name, 24))


def _ranked(names: Array) -> list[str]:
    """Names by how often they occur; of equally many by the alphabet. With few enough of them, by the alphabet alone."""
    found, counts = np.unique(names, return_counts=True)
    if len(found) <= _SHOWN:
        return [str(name) for name in found]
    return [str(found[place]) for place in np.argsort(-counts, kind="stable")]


def _range(amounts: Sequence[Array]) -> tuple[float, float]:
    known = np.concatenate(amounts) if amounts else np.zeros(0)
    known = known[np.isfinite(known)]
    # quantiles: one outlier must not leave all other points one colour
    return (float(np.quantile(known, 0.01)), float(np.quantile(known, 0.99))) if len(known) else (0.0, 1.0)


def _box(points: Array) -> tuple[Array, Array]:
    """Corners of a picture that holds the points, but for a few that lie very far out."""
    low, high = np.quantile(points, 0.005, axis=0), np.quantile(points, 0.995, axis=0)
    reach = np.maximum(high - low, 1e-6)
    low, high = np.maximum(points.min(0), low - 0.5 * reach), np.minimum(points.max(0), high + 0.5 * reach)
    margin = 0.05 * np.maximum(high - low, 1e-6)
    return low - margin, high + margin


def _size(count: int) -> float:
    return float(np.clip(32 * math.sqrt(100 / max(count, 1)), 2.0, 30))


def importance_bars(
    names: Sequence[str], values: Sequence[float], errors: Sequence[float], path: Path, caption: str
) -> None:
    """Draw how much each setting mattered, the most first, with its standard deviation over shuffles."""
    order = np.argsort(-np.asarray(values), kind="stable")[:15]
    height = 1.25 + 0.36 * len(order)
    figure = new_figure(7.2, height)
    figure.text(0.02, 1 - 0.1 / height, legible(caption, 110), fontsize=8.5, color=MUTED, va="top", parse_math=False)
    axes = figure.add_axes((0.34, 0.55 / height, 0.62, 1 - 1.1 / height))
    tidy(axes)
    axes.grid(visible=False, axis="y")
    places = np.arange(len(order))[::-1]
    shown = np.maximum(np.asarray(values, float)[order], 0.0)
    axes.barh(places, shown, xerr=np.asarray(errors, float)[order], height=0.62, color=TRAIN, ecolor=MUTED, capsize=2)
    axes.set_yticks(places)
    axes.set_yticklabels([legible(names[place], 34) for place in order], fontsize=8.5, color=INK, parse_math=False)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("fall of the explained share of the variance", fontsize=8.5, color=INK)
    write_png(figure, path)
