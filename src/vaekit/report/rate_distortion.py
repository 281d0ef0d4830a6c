"""The rate-distortion curve of a sweep: what codes cost against what they leave untold."""

# R runs

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.ticker import MaxNLocator

from vaekit.report.style import (
    GRID,
    INK,
    MUTED,
    PAPER,
    TRAIN,
    VALIDATION,
    legible,
    new_figure,
    text_width,
    tidy,
    write_message,
    write_png,
)
from vaekit.report.tables import digits
from vaekit.report.tiles import Array

# from little pressure on the rate to much; dark at both ends, so that every point is seen on paper
_PRESSURE = LinearSegmentedColormap.from_list("blue-violet", ["#7fb2d6", TRAIN, "#3b1f6b"])
_LABELLED = 24  # labels of more runs would hide them
_FAINT = "#98a2b3"


@dataclass(frozen=True)
class Point:
    """A run in the plane of rate and distortion, nats per example, each with its standard error.

    Attributes:
        label: What the run is called, its beta left out.
        rate: KL(q(z|x) || p(z)).
        rate_error: Of the rate.
        distortion: -E log p(x|z).
        distortion_error: Of the distortion.
        elbo_error: Of the ELBO, which is minus the sum of both.
        beta: Weight of the rate in the training, where it has one.
    """

    label: str
    rate: float
    rate_error: float
    distortion: float
    distortion_error: float
    elbo_error: float = math.nan
    beta: float | None = None

    @property
    def elbo(self) -> float:
        """Of the run, whatever its beta."""
        return -(self.rate + self.distortion)


def lower_hull(rate: Array, distortion: Array) -> list[int]:
    """The runs on the falling part of the lower convex hull, by rising rate.

    Between two neighbours lie the rates and distortions that a mixture of both would have. A run above it costs more than such a
    mixture for what it tells; a run on it is the best of all for some beta, which is minus the slope there.

    Arguments:
        rate: Shape (R,), finite.
        distortion: Shape (R,), finite.

    Returns:
        Positions. The first has the lowest rate, the last the lowest distortion; of equal runs the first.

    References:
        | Fixing a Broken ELBO (Alemi et al., 2018), section 3, https://arxiv.org/abs/1711.00464
        | Another Efficient Algorithm for Convex Hulls in Two Dimensions (Andrew, 1979)
        | https://doi.org/10.1016/0020-0190(79)90072-3
    """
    hull: list[int] = []
    for place in np.lexsort((distortion, rate)).tolist():
        # a run that costs more is worth a place for less distortion only
        if hull and distortion[place] >= distortion[hull[-1]]:
            continue
        while len(hull) > 1 and _above(rate, distortion, hull[-2], hull[-1], place):
            hull.pop()
        hull.append(place)
    return hull


def _above(x: Array, y: Array, left: int, middle: int, right: int) -> bool:
    """Whether the middle point lies on or above the line between the others."""
    across, up = x[right] - x[left], y[right] - y[left]
    return bool((y[middle] - y[left]) * across >= (x[middle] - x[left]) * up)


def rate_distortion(points: Sequence[Point], path: Path, caption: str) -> None:
    """Draw each run with its errors, lines of constant ELBO, the lower convex hull, and the run with the best ELBO.

    Arguments:
        points: One for each run, best first: labels of the first ones are kept where there is no room for all.
        path: The PNG to write.
        caption: What is drawn.

    References:
        | Fixing a Broken ELBO (Alemi et al., 2018), figures 1 and 3, https://arxiv.org/abs/1711.00464
    """
    points = [point for point in points if math.isfinite(point.rate) and math.isfinite(point.distortion)]
    if not points:
        write_message("no run has a rate and a distortion", path)
        return
    figure = new_figure(9.6, 6.4)
    figure.text(0.02, 0.98, legible(caption, 140), fontsize=8.5, color=MUTED, va="top", parse_math=False)
    axes = figure.add_axes((0.085, 0.095, 0.9, 0.835))
    tidy(axes)
    axes.grid(visible=False)
    x, y = np.array([(point.rate, point.distortion) for point in points]).T
    errors_x, errors_y = (
        np.nan_to_num([getattr(point, name) for point in points]) for name in ("rate_error", "distortion_error")
    )
    across, up = _limits(x, errors_x, 0.16), _limits(y, errors_y, 0.1)
    across = max(across[0], -0.025 * across[1]), across[1]  # no rate is negative
    axes.set_xlim(*across)
    axes.set_ylim(*up)
    best = int(np.argmax([point.elbo for point in points]))
    _same_bound(axes, across, up)
    reached = -points[best].elbo
    axes.plot(
        across, [reached - end for end in across], color=VALIDATION, linewidth=1.1, alpha=0.6, linestyle=(0, (5, 4))
    )
    hull = lower_hull(x, y)
    axes.plot(x[hull], y[hull], color=TRAIN, linewidth=1.8, alpha=0.55, zorder=2.5)
    axes.errorbar(x, y, xerr=errors_x, yerr=errors_y, fmt="none", ecolor=MUTED, elinewidth=1.0, capsize=2.5, zorder=3)
    others = [place for place in range(len(points)) if place != best]
    axes.scatter(x[others], y[others], s=44, c=_colours(points, others), zorder=4, linewidths=0.8, edgecolors=PAPER)
    axes.scatter(x[best], y[best], s=230, marker="*", color=VALIDATION, zorder=5, linewidths=0.8, edgecolors=PAPER)
    _labels(axes, points, x, y, best)
    axes.set_xlabel("rate: KL(q(z|x) || p(z)), nats per example", fontsize=9, color=INK)
    axes.set_ylabel("distortion: -E log p(x|z), nats per example", fontsize=9, color=INK)
    _legend(axes, points[best], with_hull=len(hull) > 1)
    write_png(figure, path)


def _colours(points: Sequence[Point], places: Sequence[int]) -> list[tuple[float, float, float, float]] | str:
    """By beta, where the runs differ in it."""
    betas = [points[place].beta or math.nan for place in places]
    known = [beta for beta in (point.beta for point in points) if beta]
    if len(set(known)) < 2:
        return TRAIN
    norm = LogNorm(min(known), max(known))
    return [_PRESSURE(float(norm(beta)) if math.isfinite(beta) else 0.5) for beta in betas]


def _limits(values: Array, errors: Array, above: float) -> tuple[float, float]:
    """Ends of an axis that holds all values with their errors, and some room for what is written beside them."""
    low, high = float((values - errors).min()), float((values + errors).max())
    reach = (high - low) or 0.1 * abs(high) or 1.0
    return low - 0.08 * reach, high + above * reach


def _same_bound(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    """Lines of constant ELBO at round numbers, each with its number where it meets the lower or the right edge."""
    totals = MaxNLocator(nbins=12, steps=[1, 2, 2.5, 5, 10]).tick_values(across[0] + up[0], across[1] + up[1])
    for total in totals:
        axes.plot(across, [total - across[0], total - across[1]], color=GRID, linewidth=1.2, zorder=1)
        x, y = total - up[0], up[0]
        words, shift = f"ELBO {-total:.6g}" if total else "ELBO 0", (2.0, 2.0)
        if x > across[1]:
            x, y, shift = across[1], total - across[1], (-4.0, 3.0)
        if not (across[0] + 0.02 * (across[1] - across[0]) < x <= across[1] and up[0] <= y < 0.2 * up[0] + 0.8 * up[1]):
            continue
        angle = -math.degrees(math.atan2(_pixels(axes, 1), _pixels(axes, 0)))
        axes.annotate(
            words, (x, y), xytext=shift, textcoords="offset points", fontsize=7, color=_FAINT, zorder=1.5, rotation=angle,
            rotation_mode="anchor", annotation_clip=False, ha="right", va="bottom",
        )  # fmt: skip


def _pixels(axes: Axes, axis: int) -> float:
    """Of one nat along an axis."""
    ends = axes.transData.transform([(0.0, 0.0), (1.0, 1.0)])
    return float(ends[1, axis] - ends[0, axis])


def _said(point: Point, *, betas: bool) -> str:
    beta = f"β = {point.beta:.4g}" if betas and point.beta is not None else ""
    return legible(" ".join(filter(None, (beta, point.label))), 40)


def _labels(axes: Axes, points: Sequence[Point], x: Array, y: Array, best: int) -> None:
    """A label beside each point, the best first, moved where it would lie on another; runs with one label share it."""
    betas = len({point.beta for point in points}) > 1
    places = np.column_stack([x, y])
    centres = axes.transData.transform(places)
    taken = [(cx - 7.0, cy - 7.0, cx + 7.0, cy + 7.0) for cx, cy in centres.tolist()]
    for point, (cx, cy) in zip(points, centres.tolist(), strict=True):
        wide, tall = (float(np.nan_to_num(error)) for error in (point.rate_error, point.distortion_error))
        wide, tall = wide * _pixels(axes, 0), tall * _pixels(axes, 1)
        taken += [(cx - wide, cy - 2.0, cx + wide, cy + 2.0), (cx - 2.0, cy - tall, cx + 2.0, cy + tall)]
    box = axes.get_window_extent()
    written: set[str] = set()
    for place in [best, *(place for place in range(len(points)) if place != best)]:
        text = _said(points[place], betas=betas)
        if not text or text in written or len(written) >= _LABELLED:
            continue
        (cx, cy), width = centres[place].tolist(), float(text_width(text, 8))
        for dx, dy in _shifts(width):
            spot = (cx + dx, cy + dy - 9.0, cx + dx + width, cy + dy + 9.0)
            if spot[0] < box.x0 or spot[2] > box.x1 or any(_overlap(spot, other) for other in taken):
                continue
            taken.append(spot)
            written.add(text)
            axes.annotate(
                text, (x[place], y[place]), xytext=(dx * 72 / 150, dy * 72 / 150), textcoords="offset points", va="center",
                fontsize=8, color=INK, fontweight="bold" if place == best else "normal", zorder=6, parse_math=False,
            )  # fmt: skip
            break


def _shifts(width: float) -> list[tuple[float, float]]:
    """Where a label may stand, in pixels from its point: right and above first, away from the hull."""
    return [
        (12.0 if right else -12.0 - width, up) for up in (12.0, -12.0, 30.0, -30.0, 48.0, -48.0) for right in (1, 0)
    ]


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _legend(axes: Axes, best: Point, *, with_hull: bool) -> None:
    value, error = digits(best.elbo, best.elbo_error)
    star = axes.scatter([], [], s=130, marker="*", color=VALIDATION, linewidths=0)
    (hull,) = axes.plot([], [], color=TRAIN, linewidth=1.8, alpha=0.55)
    (same,) = axes.plot([], [], color=GRID, linewidth=1.4)
    handles: list[Artist] = [star, *([hull] if with_hull else []), same]
    words = [
        f"best ELBO: {value}{' ± ' + error if error else ''} nats",
        *(["lower convex hull"] if with_hull else []),
        "constant ELBO",
    ]
    axes.legend(
        handles, words, loc="upper right", fontsize=8, labelcolor=INK, frameon=True, framealpha=0.9, edgecolor="none"
    )
