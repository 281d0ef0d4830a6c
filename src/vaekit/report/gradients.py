"""The figure of gradients: signal over noise by the number of draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

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

# K, the ratio, its standard error
Point = tuple[int, float, float]

# Okabe and Ito's, each with a marker of its own
_LOOKS = (
    (TRAIN, "o"), (VALIDATION, "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#e69f00", "v"), ("#56b4e9", "P"),
)  # fmt: skip


def gradient_signal(
    curves: Mapping[str, Mapping[str, Sequence[Point]]],
    path: Path,
    *,
    floor: float,
    slopes: Mapping[tuple[str, str], str] | None = None,
    unit: str = "|mean| / standard deviation",
) -> None:
    """Draw a panel for each side, a line for each estimator, both axes logarithmic.

    Arguments:
        curves: By side, then by estimator: K, signal-to-noise ratio and standard error of each point.
        path: The PNG to write.
        floor: What noise alone would show; drawn as a dashed line.
        slopes: In words, by estimator and side, for the legend.
        unit: What the ratio is.
    """
    drawn = {side: _finite(lines) for side, lines in curves.items()}
    if not any(points for lines in drawn.values() for points in lines.values()):
        write_message("no gradient has been measured", path)
        return
    names = list(dict.fromkeys(name for lines in curves.values() for name in lines))
    looks = {name: _LOOKS[place % len(_LOOKS)] for place, name in enumerate(names)}
    figure = new_figure(5.2 * len(drawn), 4.4)
    for place, (side, lines) in enumerate(drawn.items()):
        axes = figure.add_subplot(1, len(drawn), place + 1)
        _panel(axes, lines, looks, floor)
        heading(axes, f"Gradient of the {side}", unit)
        said = {name: (slopes or {}).get((name, side), "") for name in lines}
        _legend(axes, looks, said)
    figure.subplots_adjust(left=0.075, right=0.985, top=0.88, bottom=0.13, wspace=0.2)
    write_png(figure, path)


def _finite(lines: Mapping[str, Sequence[Point]]) -> dict[str, list[Point]]:
    return {name: [point for point in points if 0.0 < point[1] < 1e30] for name, points in lines.items()}


def _panel(
    axes: Axes, lines: Mapping[str, Sequence[Point]], looks: Mapping[str, tuple[str, str]], floor: float
) -> None:
    tidy(axes)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ks = sorted({k for points in lines.values() for k, _, _ in points})
    for name, points in lines.items():
        colour, marker = looks[name]
        # on a logarithmic axis an error as large as the value would reach down without end
        lower = [min(error, 0.9 * value) if error == error else 0.0 for _, value, error in points]
        upper = [error if error < 1e30 else 0.0 for _, _, error in points]
        axes.errorbar(
            [k for k, _, _ in points], [value for _, value, _ in points], yerr=[lower, upper], color=colour,
            marker=marker, markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.8, linewidth=1.8, elinewidth=1.2,
        )  # fmt: skip
    axes.axhline(floor, color=MUTED, linewidth=1.1, linestyle=(0, (4, 4)))
    axes.annotate(
        "noise alone",
        (1.0, floor),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=7.5,
        color=MUTED,
    )
    if ks:
        axes.set_xticks(ks, [f"{k:,}" for k in ks])
        axes.set_xlim(ks[0] / 1.25, ks[-1] * 1.25)
    axes.tick_params(which="minor", colors=MUTED, labelsize=8, length=0)  # labelled where there are few powers of ten
    axes.set_xlabel("draws for each example, K", fontsize=8, color=MUTED)


def _legend(axes: Axes, looks: Mapping[str, tuple[str, str]], said: Mapping[str, str]) -> None:
    handles = [
        Line2D(
            [], [], color=looks[name][0], marker=looks[name][1], markersize=5.5, markeredgecolor=PAPER, linewidth=1.8
        )
        for name in said
    ]
    labels = [f"{name}   {words}".rstrip() for name, words in said.items()]
    axes.legend(handles, labels, fontsize=8, labelcolor=INK, framealpha=0.85, edgecolor="none", loc="best")
