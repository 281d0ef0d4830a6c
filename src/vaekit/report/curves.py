"""The figure of a training run."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vaekit.report.history import SPLITS, Curve, Panel, Row, panels
from vaekit.report.style import (
    INK,
    MUTED,
    PAPER,
    TRAIN,
    VALIDATION,
    heading,
    new_figure,
    tidy,
    write_message,
    write_png,
)

COLOURS = {"train": TRAIN, "val": VALIDATION}


def training_losses(rows: Iterable[Row], path: Path) -> None:
    """Draw the negative ELBO at the left, reconstruction and KL at the right, over epochs.

    Arguments:
        rows: Rows of metrics.jsonl: `epoch` or `step`, and `train/...` and `val/...` of `elbo`, `recon_loss` and
            `kl_loss`, in nats per example. Any of them may be missing or not finite.
        path: The PNG to write.
    """
    drawn = panels(rows)
    if not drawn:
        write_message("no epochs yet", path)
        return
    figure = new_figure(10, 4.6)
    grid = figure.add_gridspec(1, 2, width_ratios=(1.45, 1), left=0.06, right=0.98, top=0.85, bottom=0.11, wspace=0.17)
    places = [grid[0, 0], *_halves(grid[0, 1])]
    for panel, place in zip(drawn, places[: len(drawn)], strict=True):
        _draw(figure.add_subplot(place), panel)
    _mark_best(figure.axes[0], drawn[0])
    splits = [split for split in SPLITS if any(curve.split == split for panel in drawn for curve in panel.curves)]
    figure.legend(
        handles=[Line2D([], [], color=COLOURS[split], linewidth=2.2) for split in splits],
        labels=[SPLITS[split] for split in splits],
        loc="upper left", bbox_to_anchor=(0.055, 1.0), ncols=2, frameon=False, fontsize=9, labelcolor=INK,
    )  # fmt: skip
    write_png(figure, path)


def _halves(place: SubplotSpec) -> tuple[SubplotSpec, SubplotSpec]:
    halves = place.subgridspec(2, 1, hspace=0.62)
    return halves[0, 0], halves[1, 0]


def _draw(axes: Axes, panel: Panel) -> None:
    tidy(axes)
    heading(axes, panel.title, "nats per example")
    for curve in panel.curves:
        _line(axes, curve)
    axes.set_ylim(panel.low, panel.high)
    axes.set_xlabel(panel.clock, fontsize=8, color=MUTED, labelpad=2)
    axes.set_xlim(*_time_range(panel))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.ticklabel_format(axis="both", useOffset=False)
    notes = [panel.cut(), f"{panel.gaps()} values not finite" if panel.gaps() else ""]
    axes.text(
        0.985, 0.97, "\n".join(filter(None, notes)), transform=axes.transAxes, ha="right", va="top", fontsize=7.5, color=MUTED
    )  # fmt: skip


def _time_range(panel: Panel) -> tuple[float, float]:
    times = [time for curve in panel.curves for time in curve.times]
    margin = max(0.02 * (max(times) - min(times)), 0.5 if min(times) == max(times) else 0.0)
    return min(times) - margin, max(times) + margin


def _line(axes: Axes, curve: Curve) -> None:
    # markers while there are few points: a single epoch has no line, and nan cuts a line into points
    marker = "o" if len(curve.times) <= 12 else "None"
    axes.plot(
        curve.times, curve.values, color=COLOURS[curve.split], linewidth=1.9, marker=marker, markersize=4.5,
        markeredgecolor=PAPER, markeredgewidth=0.8, solid_joinstyle="round",
    )  # fmt: skip


def _mark_best(axes: Axes, panel: Panel) -> None:
    best = next((curve.best(panel.kept) for curve in panel.curves if curve.split == "val"), None)
    if best is None:
        return
    time, value = best
    axes.plot(
        [time],
        [value],
        marker="o",
        markersize=8,
        markerfacecolor="none",
        markeredgecolor=VALIDATION,
        markeredgewidth=1.4,
    )
    # in the title line: nothing is drawn there
    axes.set_title(f"best {value:.5g} at {panel.clock} {time:g}", fontsize=8, color=VALIDATION, pad=10)
