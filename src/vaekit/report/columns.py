"""Figures of tables: how values are distributed in real and in generated rows, and how much of each column is kept."""

# C columns

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes

from vaekit.report.style import (
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

MOST = 24  # columns of a table that fit into a picture
_LEVELS, _LONGEST = 8, 16


class Marginal(Protocol):
    """The values of one column; `vaekit.evaluation.tables.Marginal` is one."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def edges(self) -> Array: ...  # noqa: D102
    @property
    def levels(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def real(self) -> Array: ...  # noqa: D102
    @property
    def made(self) -> Array: ...  # noqa: D102
    @property
    def log(self) -> bool: ...  # noqa: D102


def histograms(marginals: Sequence[Marginal], path: Path, caption: str = "") -> None:
    """Draw the values of each column: as blue areas among real rows, as a vermilion line among generated ones.

    Arguments:
        marginals: Of the columns; the first 24 are drawn.
        path: The PNG to write.
        caption: What the reader should know, above the picture.
    """
    shown = list(marginals[:MOST])
    if not shown:
        write_message("no columns", path)
        return
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    height = 1.0 + 1.9 * down
    figure = new_figure(max(6.0, 3.0 * across), height)
    grid = figure.add_gridspec(down, across, left=0.05, right=0.985, top=1 - 0.8 / height, bottom=0.45 / height)
    grid.update(hspace=0.85, wspace=0.24)
    for place, marginal in enumerate(shown):
        axes = figure.add_subplot(grid[place // across, place % across])
        (_names if len(marginal.edges) == 0 else _bins)(axes, marginal)
        apart = 50 * float(np.abs(marginal.real - marginal.made).sum())
        heading(axes, legible(marginal.name, 22), f"{apart:.1f} % apart")
    more = f"; the first {MOST} of {len(marginals)} columns" if len(marginals) > MOST else ""
    figure.text(
        0.05, 1 - 0.24 / height, legible(caption + more), fontsize=9, color=MUTED, va="center", parse_math=False
    )
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=2, frameon=False, fontsize=8.5, labelcolor=INK)
    write_png(figure, path)


def kept(entries: Sequence[tuple[str, float, bool]], path: Path, caption: str = "") -> None:
    """Draw how much of each column a reconstruction keeps, as bars from 0 to 1.

    Arguments:
        entries: Name of a column, its share of right levels or its R squared, and whether it is a category.
        path: The PNG to write.
        caption: What the reader should know, above the picture.
    """
    shown = list(entries[:MOST])
    if not shown:
        write_message("no columns to reconstruct", path)
        return
    height = 1.1 + 0.26 * len(shown)
    figure = new_figure(7.6, height)
    axes = figure.add_axes((0.27, 0.45 / height, 0.68, 1 - 1.0 / height))
    tidy(axes)
    axes.grid(visible=False, axis="y")
    for category, colour, said in (
        (True, TRAIN, "categories: share that is right"),
        (False, VALIDATION, "numbers: R²"),
    ):
        places = [place for place, entry in enumerate(shown) if entry[2] == category]
        values = [max(0.0, np.nan_to_num(shown[place][1])) for place in places]
        axes.barh(places, values, color=colour, height=0.68, label=said)
        for place, value in zip(places, values, strict=True):
            axes.text(value + 0.008, place, f"{shown[place][1]:.2f}", va="center", fontsize=7.5, color=MUTED)
    names = [legible(name, 28) for name, _, _ in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8, color=INK, parse_math=False)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(0, 1.08)
    figure.text(0.03, 1 - 0.26 / height, legible(caption), fontsize=9, color=MUTED, va="center", parse_math=False)
    figure.legend(loc="upper right", ncols=2, frameon=False, fontsize=8.5, labelcolor=INK)
    write_png(figure, path)


def _bins(axes: Axes, marginal: Marginal) -> None:
    tidy(axes)
    edges = np.log1p(marginal.edges) if marginal.log else marginal.edges
    count = len(edges) - 1
    axes.stairs(100 * marginal.real[:count], edges, fill=True, color=TRAIN, alpha=0.45, linewidth=0, label="real")
    axes.stairs(100 * marginal.made[:count], edges, color=VALIDATION, linewidth=1.4, label="generated")
    ticks = np.linspace(edges[0], edges[-1], 4)
    values = np.expm1(ticks) if marginal.log else ticks
    axes.set_xticks(ticks, [_short(value) for value in values], fontsize=7)
    axes.set_ylim(0, None)


def _short(value: float) -> str:
    """A number in about six characters: 0.25, 17, 366k, 1.2M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 10 * size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _names(axes: Axes, marginal: Marginal) -> None:
    """The most frequent levels; the others stand together."""
    tidy(axes)
    axes.grid(visible=False, axis="x")
    order = np.argsort(-marginal.real, kind="stable")
    first, rest = order[:_LEVELS], order[_LEVELS:]
    names = [legible(marginal.levels[place], _LONGEST) for place in first] + (
        [f"{len(rest)} others"] if len(rest) else []
    )
    real, made = (
        100 * np.append(values[first], values[rest].sum() if len(rest) else [])
        for values in (marginal.real, marginal.made)
    )
    edges = np.arange(len(names) + 1) - 0.5
    axes.stairs(real, edges, fill=True, color=TRAIN, alpha=0.45, linewidth=0, label="real")
    axes.stairs(made, edges, color=VALIDATION, linewidth=1.4, label="generated")
    axes.set_xticks(
        range(len(names)), names, fontsize=6, rotation=30, ha="right", rotation_mode="anchor", parse_math=False
    )
    axes.set_ylim(0, None)
