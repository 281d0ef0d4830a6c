"""The figure of the latent dimensions: how much each of them carries."""

# L latent dimensions

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from vaekit.report.style import (
    INK,
    MUTED,
    PAPER,
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

IDLE = "#c3c8d1"
NAMED = 40  # dimensions whose names there is room for


def latent_spectrum(
    variances: Array, kls: Array | None, names: Sequence[str], path: Path, *, threshold: float = 0.01
) -> None:
    """Draw the variance of the posterior mean of each dimension, the largest first, and below it the KL of the same dimensions.

    Arguments:
        variances: Of the posterior means over the examples, shape (L,).
        kls: Mean KL in nats, shape (L,), or None for a model without a density.
        names: Of the dimensions, L of them.
        path: The PNG to write.
        threshold: Dimensions with a larger variance are active.

    Raises:
        ValueError: If the lengths differ.
    """
    variances = np.asarray(variances, dtype=np.float64)
    told = None if kls is None else np.asarray(kls, dtype=np.float64)
    if variances.ndim != 1 or len(names) != len(variances) or (told is not None and told.shape != variances.shape):
        raise ValueError(
            f"A spectrum is drawn from variances, KLs and names of one length, received {variances.shape}, "
            f"{None if told is None else told.shape} and {len(names)}."
        )
    if not np.isfinite(variances).any():
        write_message("no latent dimension has a finite variance", path)
        return
    order = np.argsort(-np.nan_to_num(variances, nan=-1.0, posinf=np.inf), kind="stable")
    height = 5.6 if told is not None else 3.5
    figure = new_figure(7.6, height)
    grid = figure.add_gridspec(
        1 if told is None else 2, 1, left=0.1, right=0.98, top=1 - 0.48 / height, bottom=0.75 / height, hspace=0.34
    )
    top = figure.add_subplot(grid[0, 0])
    active = variances[order] > threshold
    _variances(top, variances[order], active, threshold)
    if told is not None:
        lower = figure.add_subplot(grid[1, 0], sharex=top)
        _kls(lower, told[order], active)
        top.tick_params(axis="x", labelbottom=False)
    _name(figure.axes[-1], [names[place] for place in order])
    write_png(figure, path)


def _variances(axes: Axes, variances: Array, active: Array, threshold: float) -> None:
    tidy(axes)
    axes.grid(visible=False, axis="x")
    shown = variances[np.isfinite(variances) & (variances > 0)]
    low = 0.5 * min(float(shown.min()) if len(shown) else threshold, threshold)
    # a dimension that is constant but for rounding would stretch the axis beyond anything that one wants to see
    low = max(low, 1e-4 * threshold)
    high = 2.0 * max(float(shown.max()) if len(shown) else threshold, threshold)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_ylim(low, high)
    _bars(axes, np.clip(np.nan_to_num(variances, posinf=high), low, high), active, low)
    axes.axhline(threshold, color=VALIDATION, linewidth=1.4, linestyle=(0, (5, 4)))
    # on paper of its own, as the bars may reach below it
    box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.9, "pad": 1.5}
    place = 0.985, threshold * (high / low) ** 0.02
    axes.text(
        *place, f"active above {threshold:g}", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=8,
        color=VALIDATION, bbox=box, zorder=4,
    )  # fmt: skip
    axes.set_xlim(-0.6, len(variances) - 0.4)
    heading(axes, _words(len(variances), int(active.sum())), "variance of the posterior mean")


def _kls(axes: Axes, kls: Array, active: Array) -> None:
    tidy(axes)
    axes.grid(visible=False, axis="x")
    finite = kls[np.isfinite(kls)]
    high = max(float(finite.max()) if len(finite) else 0.0, 0.01)
    axes.set_ylim(min(0.0, float(finite.min()) if len(finite) else 0.0), 1.08 * high)
    _bars(axes, np.nan_to_num(kls, nan=0.0, posinf=high, neginf=0.0), active, 0.0)
    heading(axes, f"{float(finite.sum()):,.2f} nats of KL in all", "nats")


def _bars(axes: Axes, heights: Array, active: Array, bottom: float) -> None:
    for members, colour in ((active, TRAIN), (~active, IDLE)):
        if len(heights) > NAMED:  # bars of which each is drawn alone take seconds
            edges = np.arange(len(heights) + 1) - 0.5
            axes.stairs(
                np.where(members, heights, bottom), edges, baseline=bottom, fill=True, color=colour, linewidth=0
            )
        else:
            places = np.flatnonzero(members)
            axes.bar(places, heights[members] - bottom, bottom=bottom, width=0.82, color=colour, linewidth=0)


def _name(axes: Axes, names: Sequence[str]) -> None:
    if len(names) > NAMED:
        axes.tick_params(axis="x", labelbottom=False)
        axes.set_xlabel("latent dimensions, the one whose mean varies most first", fontsize=8.5, color=INK)
        return
    axes.set_xticks(range(len(names)), [legible(name, 12) for name in names], rotation=90, fontsize=7, color=MUTED)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)


def _words(size: int, active: int) -> str:
    if active == size:
        return "Every dimension is active" if size > 1 else "The one dimension is active"
    return f"{active:,} of {size:,} dimensions {'is' if active == 1 else 'are'} active"
