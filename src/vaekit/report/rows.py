"""Pictures of tables: examples as lines over the features, or as points where these are too many, samples as a heat map."""

# N examples, F features

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaekit.report.style import INK, MUTED, TRAIN, VALIDATION, legible, new_figure, tidy, write_png
from vaekit.report.tiles import Array

NAMED = 40  # with more features than this their names would overlap
CROWDED = 300  # and with more than this lines over them would be one dark bar

_DIVERGING = LinearSegmentedColormap.from_list("blue-paper-vermilion", [TRAIN, "#f5f5f2", VALIDATION])
_WALK = LinearSegmentedColormap.from_list("blue-grey-vermilion", [TRAIN, "#b8bdc7", VALIDATION])
_SEQUENTIAL = LinearSegmentedColormap.from_list("paper-blue", ["#f5f5f2", "#7fb2d6", TRAIN, "#00324f"])


def lines(originals: Array, decoded: Array, path: Path, caption: str, features: Sequence[str]) -> None:
    """Draw each example (N, F) as a small plot: dark the original, vermilion the reconstruction.

    Of more features than lines can show, each is a point: its reconstruction over its original, which is the line.
    """
    count = len(originals)
    columns = min(4, count)
    rows = math.ceil(count / columns)
    figure = new_figure(max(5.0, 2.5 * columns), 1.1 + 1.55 * rows)
    _caption(figure, caption)
    named = 0 < len(features) == originals.shape[1] <= 12
    bottom = (0.8 if named else 0.34) / figure.get_figheight()
    grid = figure.add_gridspec(
        rows, columns, left=0.07, right=0.985, top=1 - 0.62 / figure.get_figheight(), bottom=bottom
    )
    grid.update(hspace=0.3, wspace=0.24)
    for index in range(count):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        draw = _example if originals.shape[1] <= CROWDED else _cloud
        draw(axes, _finite(originals[index]), _finite(decoded[index]))
        _name_features(axes, features if named and index + columns >= count else (), originals.shape[1])
    drawn = figure.axes[0].lines[:2]
    figure.legend(
        drawn,
        ["original", "reconstruction"],
        markerscale=1 if originals.shape[1] <= CROWDED else 3,
        loc="upper right",
        ncols=2,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
    write_png(figure, path)


def fans(
    values: Array, path: Path, rows: Sequence[str], columns: Sequence[str], caption: str, features: Sequence[str]
) -> None:
    """Draw each row of (R, S, F) as a small plot of S lines over the features, the first blue, the last vermilion."""
    count, steps, size = values.shape
    across = min(3, count)
    down = math.ceil(count / across)
    figure = new_figure(max(5.0, 3.2 * across), 1.3 + 1.8 * down)
    height = figure.get_figheight()
    _caption(figure, caption)
    named = 0 < len(features) == size <= 12
    grid = figure.add_gridspec(
        down, across, left=0.08, right=0.985, top=1 - 0.95 / height, bottom=(0.8 if named else 0.34) / height
    )
    grid.update(hspace=0.45, wspace=0.24)
    colours = _WALK(np.linspace(0, 1, steps))
    for index in range(count):
        axes = figure.add_subplot(grid[index // across, index % across])
        tidy(axes)
        for line, colour in zip(_finite(values[index]), colours, strict=True):
            axes.plot(line, color=colour, linewidth=1.2, marker="o" if size <= 30 else "None", markersize=2.5)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
        axes.set_title(legible(rows[index], 30), loc="left", fontsize=8.5, color=INK, pad=4, parse_math=False)
        _name_features(axes, features if named and index + across >= count else (), size)
    if columns and steps > 1:
        drawn = figure.axes[0].lines
        ends = [drawn[0], drawn[-1]]
        figure.legend(
            ends, [legible(columns[0], 20), legible(columns[-1], 20)],
            loc="upper right", bbox_to_anchor=(1.0, 1 - 0.3 / height), ncols=2, frameon=False, fontsize=8.5, labelcolor=INK,
        )  # fmt: skip
    write_png(figure, path)


def heat_map(samples: Array, path: Path, caption: str, features: Sequence[str]) -> None:
    """Draw samples (N, F) with one sample a row and one feature a column; nan cells are left white."""
    values = _finite(samples)
    named = 0 < len(features) == values.shape[1] <= NAMED
    width = min(10.0, max(5.0, 1.4 + 0.3 * values.shape[1]))
    height = min(7.0, max(2.6, 1.4 + 0.06 * len(values))) + (0.6 if named else 0.0)
    figure = new_figure(width, height)
    _caption(figure, caption)
    axes = figure.add_axes(
        (0.75 / width, (1.1 if named else 0.5) / height, 1 - 1.75 / width, 1 - (1.9 if named else 1.3) / height)
    )
    low, high, colours = _colour_scale(values)
    image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap=colours, vmin=low, vmax=high)
    tidy(axes)
    axes.grid(visible=False)
    axes.set_ylabel("sample", fontsize=8, color=MUTED)
    _name_features(axes, features if named else (), values.shape[1])
    bar = figure.colorbar(
        image, cax=figure.add_axes((1 - 0.85 / width, axes.get_position().y0, 0.13 / width, axes.get_position().height))
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=8, length=0)
    write_png(figure, path)


def _caption(figure: Figure, caption: str) -> None:
    line = legible(caption, longest=int(figure.get_figwidth() * 13))
    top = 1 - 0.16 / figure.get_figheight()
    figure.text(0.02, top, line, fontsize=8.5, color=MUTED, va="top", parse_math=False)


def _example(axes: Axes, original: Array, decoded: Array) -> None:
    tidy(axes)
    marker = "o" if len(original) <= 30 else "None"
    axes.plot(original, color=INK, linewidth=1.6, marker=marker, markersize=3.5)
    axes.plot(decoded, color=VALIDATION, linewidth=1.3, marker=marker, markersize=3)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))


def _cloud(axes: Axes, original: Array, decoded: Array) -> None:
    tidy(axes)
    present = original[~np.isnan(original)]
    ends = (float(present.min()), float(present.max())) if present.size else (0.0, 1.0)
    axes.plot(ends, ends, color=INK, linewidth=1.0, zorder=3)
    axes.plot(original, decoded, color=VALIDATION, linestyle="None", marker="o", markersize=1.3, markeredgewidth=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))


def _name_features(axes: Axes, names: Sequence[str], count: int) -> None:
    if not names:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        return
    axes.set_xticks(range(count))
    shown = [legible(name, 18) for name in names]
    axes.set_xticklabels(shown, rotation=35, ha="right", rotation_mode="anchor", parse_math=False)


def _finite(values: Array) -> Array:
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(values) & (np.abs(values) < 1e30), values, np.nan)


def _colour_scale(values: Array) -> tuple[float, float, LinearSegmentedColormap]:
    # quantiles, not extremes: one outlier must not leave all other cells one colour
    present = values[~np.isnan(values)]
    if not present.size:
        return 0.0, 1.0, _SEQUENTIAL
    low, high = (float(bound) for bound in np.quantile(present, (0.01, 0.99)))
    if low < 0 < high:
        reach = max(-low, high)
        return -reach, reach, _DIVERGING
    return (low, high, _SEQUENTIAL) if low < high else (low - 0.5, high + 0.5, _SEQUENTIAL)
