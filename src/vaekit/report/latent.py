"""The figure of the latent space: where the test examples lie, beside what the prior expects."""

# N examples

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from vaekit.report.style import CLASSES, INK, MUTED, TRAIN, legible, new_figure, tidy, write_message, write_png
from vaekit.report.tiles import Array

SHOWN = 20  # classes in the legend
DRAWN = 50_000  # points; more add time, not information
MARKERS = ("o", "^")  # ten colours, then the same ten as triangles
OTHERS = "#c3c8d1"


@dataclass(frozen=True)
class _Group:
    name: str
    colour: str
    marker: str
    members: Array  # (N,) of bool


def latent_space(
    points: Array,
    labels: Array | None,
    class_names: Sequence[str],
    axes: tuple[str, str],
    path: Path,
    caption: str = "",
    *,
    prior: str = "N(0, I)",
) -> None:
    """Scatter the examples over two latent dimensions, with the circles that hold 39 % and 86 % of a normal prior.

    Arguments:
        points: Shape (N, 2), for example posterior means; points that are not finite are left out, and it is said so.
        labels: Shape (N,) of whole numbers, or None for one colour. Of more than 20 classes, the 19 most frequent have
            a colour of their own.
        class_names: The name of label k at position k; labels without a name are shown as numbers.
        axes: Names of the two axes, such as "z[3], KL 2.31 nats".
        path: The PNG to write.
        caption: What the reader should know, above the picture.
        prior: What the circles are called; empty for a model without a prior, and no circles.

    Raises:
        ValueError: If `points` is not (N, 2) or `labels` has another length.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or (labels is not None and len(labels) != len(points)):
        raise ValueError(
            "The latent space is drawn from points of shape (N, 2) and labels of shape (N,), "
            f"received {points.shape} and {None if labels is None else np.shape(labels)}."
        )
    kept = np.isfinite(points).all(axis=1) & (np.abs(points) < 1e30).all(axis=1)
    if not kept.any():
        write_message("no finite points in the latent space", path)
        return
    # a fixed shuffle: data sorted by class would bury the first classes below the last
    order = np.random.default_rng(0).permutation(np.flatnonzero(kept))[:DRAWN]
    groups = _groups(None if labels is None else np.asarray(labels)[order], class_names, len(order))
    reach, outside = _reach(points[order], least=2.4 if prior else 0.0)
    told = _left_out(len(points), int(kept.sum()), len(order), outside)
    note = "; ".join(filter(None, (legible(caption, 120), told)))
    _draw(points[order], groups, axes, note, reach, prior, path)


def _reach(points: Array, least: float) -> tuple[float, int]:
    """How far the axes go from zero, and how many points lie beyond: none, unless very few lie very far out."""
    extents = np.abs(points).max(axis=1)
    usual = float(np.quantile(extents, 0.99, method="lower"))  # never the farthest of several points
    reach = max(least, min(1.06 * float(extents.max()), 3 * usual)) or 1.0
    return reach, int((extents > reach).sum())


def _draw(
    points: Array, groups: list[_Group], names: tuple[str, str], note: str, reach: float, prior: str, path: Path
) -> None:
    figure = new_figure(6.9 if len(groups) > 1 else 5.7, 5.4)
    axes = figure.add_axes((0.7 / figure.get_figwidth(), 0.55 / 5.4, 4.5 / figure.get_figwidth(), 4.5 / 5.4))
    tidy(axes)
    axes.set_aspect("equal")
    if prior:
        _circles(axes, prior)
    _scatter(axes, points, groups)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_xlabel(legible(names[0], 80), fontsize=9, color=INK, parse_math=False)
    axes.set_ylabel(legible(names[1], 80), fontsize=9, color=INK, parse_math=False)
    axes.set_title(note, loc="left", fontsize=8.5, color=MUTED, pad=8, parse_math=False)
    if len(groups) > 1:
        _legend(axes, groups)
    write_png(figure, path)


def _circles(axes: Axes, prior: str) -> None:
    for radius, share in ((1, "39 %"), (2, "86 %")):
        axes.add_patch(
            Circle((0, 0), radius, fill=False, edgecolor="#667085", linewidth=1.1, linestyle=(0, (5, 4)), zorder=4)
        )
        axes.text(
            0, radius, f"{share} of {prior}", ha="center", va="center", fontsize=7, color="#475467", zorder=5,
            bbox={"facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.8, "pad": 1.2},
        )  # fmt: skip


def _scatter(axes: Axes, points: Array, groups: list[_Group]) -> None:
    size = float(np.clip(36 * np.sqrt(100 / len(points)), 2.0, 36))
    alpha = float(np.clip(12 / len(points) ** 0.35, 0.35, 0.9))
    colours = np.empty(len(points), dtype=object)
    for group in groups:
        colours[group.members] = group.colour
    for marker in MARKERS:
        # one call for all classes of a marker keeps the shuffled order; a call per class would bury classes
        members = np.logical_or.reduce(
            [group.members for group in groups if group.marker == marker] or [np.zeros(len(points), bool)]
        )
        if members.any():
            x, y = points[members].T
            axes.scatter(x, y, s=size, c=list(colours[members]), alpha=alpha, marker=marker, linewidths=0, zorder=3)


def _legend(axes: Axes, groups: list[_Group]) -> None:
    handles = [Line2D([], [], color=g.colour, marker=g.marker, linestyle="none", markersize=6) for g in groups]
    legend = axes.legend(
        handles, ["class"] * len(groups), loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8.5,
        labelcolor=INK, handletextpad=0.3,
    )  # fmt: skip
    for text, group in zip(legend.get_texts(), groups, strict=True):
        # set afterwards: matplotlib leaves labels that begin with "_" out, and reads dollars as formulas
        text.set_parse_math(False)
        text.set_text(legible(group.name, 22))


def _groups(labels: Array | None, names: Sequence[str], count: int) -> list[_Group]:
    if labels is None:
        return [_Group("", TRAIN, MARKERS[0], np.ones(count, bool))]
    values, sizes = np.unique(labels, return_counts=True)
    own = values
    if len(values) > SHOWN:
        own = np.sort(values[np.argsort(-sizes, kind="stable")[: SHOWN - 1]])
    groups = [
        _Group(_name(value, names), CLASSES[rank % len(CLASSES)], MARKERS[rank // len(CLASSES)], labels == value)
        for rank, value in enumerate(own)
    ]
    if len(values) > SHOWN:
        groups.append(_Group(f"{len(values) - len(own)} other classes", OTHERS, MARKERS[0], ~np.isin(labels, own)))
    return groups


def _name(value: object, names: Sequence[str]) -> str:
    number = float(value)  # type: ignore[arg-type]
    return str(names[int(number)]) if number.is_integer() and 0 <= number < len(names) else f"{number:g}"


def _left_out(total: int, finite: int, drawn: int, outside: int) -> str:
    parts = [f"{drawn:,} examples" if drawn == finite else f"{drawn:,} of {finite:,} examples"]
    if finite < total:
        parts.append(f"{total - finite:,} not finite, left out")
    if outside:
        parts.append(f"{outside:,} outside of the picture")
    return "; ".join(parts)
