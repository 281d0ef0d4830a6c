"""The curves of a run as inline SVG: sharp on paper, in the colours of the page, with values on hovering, no script."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from vaekit.report.history import SPLITS, Curve, Panel
from vaekit.report.markup import Markup, element, joined

WIDTH, HEIGHT = 350, 244
LEFT, TOP, RIGHT, BOTTOM = 46, 42, 340, 200
LONGEST = 5  # characters of a number that fit beside the axis; longer ones are set narrower
HOVERED = 120  # points of a curve that answer to the pointer


def chart(panel: Panel) -> Markup:
    """Draw a panel: grid, curves, and a point with its value for the pointer."""
    scale = _Scale(panel)
    layers = joined(
        *(_line(curve, scale) for curve in panel.curves),
        *(point for curve in panel.curves for point in _points(curve, panel, scale)),
    )
    # a nested svg cuts off what lies outside of it, without an id to refer to
    inside = element(
        "svg", layers, x=str(LEFT), y=str(TOP), width=str(RIGHT - LEFT), height=str(BOTTOM - TOP),
        viewBox=f"{LEFT} {TOP} {RIGHT - LEFT} {BOTTOM - TOP}",
    )  # fmt: skip
    notes = [panel.cut(), f"{panel.gaps()} values not finite" if panel.gaps() else ""]
    return element(
        "svg",
        _text(4, 18, panel.title, class_="chart-title"),
        _text(RIGHT, 18, "nats per example", class_="chart-unit", text_anchor="end"),
        *_grid(scale),
        inside,
        _text(RIGHT - 4, TOP + 14, "; ".join(filter(None, notes)), class_="chart-note", text_anchor="end"),
        _text((LEFT + RIGHT) / 2, HEIGHT - 8, panel.clock, class_="chart-unit", text_anchor="middle"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="chart", role="img", aria_label=f"{panel.title} over the {panel.clock}s",
    )  # fmt: skip


def legend(curves_of: tuple[Panel, ...]) -> Markup:
    """Name the colours of the curves that occur."""
    present = [split for split in SPLITS if any(curve.split == split for panel in curves_of for curve in panel.curves)]
    return element("p", *(element("span", SPLITS[split], class_=f"key {split}") for split in present), class_="legend")


class _Scale:
    """From times and nats to the coordinates of the picture."""

    def __init__(self, panel: Panel) -> None:
        times = [time for curve in panel.curves for time in curve.times]
        margin = 0.03 * (max(times) - min(times)) or 0.5
        self.first, self.last = min(times) - margin, max(times) + margin
        self.low, self.high = panel.low, panel.high

    def x(self, time: float) -> float:
        return LEFT + (time - self.first) / (self.last - self.first) * (RIGHT - LEFT)

    def y(self, value: float) -> float:
        # clamped just outside: browsers mistreat coordinates of millions of pixels
        return max(TOP - 2000.0, BOTTOM - (value - self.low) / (self.high - self.low) * (BOTTOM - TOP))

    def times(self) -> list[float]:
        ticks = _ticks(self.first, self.last, nbins=6, integer=True, min_n_ticks=1)
        return [float(tick) for tick in ticks if self.first <= tick <= self.last]

    def values(self) -> list[float]:
        ticks = _ticks(self.low, self.high, nbins=5, steps=[1, 2, 2.5, 5, 10])
        return [float(tick) for tick in ticks if self.low <= tick <= self.high]


def _ticks(low: float, high: float, **settings: Any) -> Sequence[float]:
    # matplotlib loads for as long as a quarter of torch does, and a command that imports the page may never write one
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(**settings).tick_values(low, high)


def _grid(scale: _Scale) -> Iterator[Markup]:
    for value in scale.values():
        y = scale.y(value)
        yield element("line", x1=str(LEFT), x2=str(RIGHT), y1=f"{y:.1f}", y2=f"{y:.1f}", class_="chart-grid")
        label = f"{value:.6g}"
        narrow = {} if len(label) <= LONGEST else {"textLength": str(LEFT - 9), "lengthAdjust": "spacingAndGlyphs"}
        yield _text(LEFT - 7, y + 4, label, class_="chart-tick", text_anchor="end", **narrow)
    for time in scale.times():
        yield _text(scale.x(time), BOTTOM + 17, f"{time:g}", class_="chart-tick", text_anchor="middle")


def _line(curve: Curve, scale: _Scale) -> Markup:
    path, pen = [], "M"
    for time, value in zip(curve.times, curve.values, strict=True):
        if math.isfinite(value):
            path.append(f"{pen}{scale.x(time):.1f} {scale.y(value):.1f}")
        pen = "L" if math.isfinite(value) else "M"
    return element("path", d="".join(path), class_=f"chart-line {curve.split}")


def _points(curve: Curve, panel: Panel, scale: _Scale) -> Iterator[Markup]:
    every = max(1, len(curve.times) // HOVERED)
    kind = f"chart-point {curve.split}" + (" shown" if len(curve.times) == 1 else "")
    for time, value in list(zip(curve.times, curve.values, strict=True))[::-every]:
        if math.isfinite(value):
            said = element("title", f"{SPLITS[curve.split]}, {panel.clock} {time:g}: {value:.6g} nats")
            yield element("circle", said, cx=f"{scale.x(time):.1f}", cy=f"{scale.y(value):.1f}", r="5", class_=kind)


def _text(x: float, y: float, text: str, **attributes: str) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **attributes)
