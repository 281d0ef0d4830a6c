"""The course of a training run: rows of metrics.jsonl become the three panels that the figure and the page draw."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

SPLITS = {"train": "training", "val": "validation"}
DRAWABLE = 1e30  # beyond, a plot has no sensible axis; such values count as not finite


@dataclass(frozen=True)
class Curve:
    """One line of a panel: times, and values in nats per example, nan where a value was not finite."""

    split: str
    times: tuple[float, ...]
    values: tuple[float, ...]

    def best(self, kept: float | None = None) -> tuple[float, float] | None:
        """Give the time and value at `kept`, else of the smallest finite value; None if there is none."""
        finite = [(value, time) for time, value in zip(self.times, self.values, strict=True) if math.isfinite(value)]
        chosen = [(value, time) for value, time in finite if time == kept] or finite
        return (min(chosen)[1], min(chosen)[0]) if chosen else None


@dataclass(frozen=True)
class Panel:
    """One plot over the run: its curves, the range shown, the largest value, which may lie above it, and when weights were kept."""

    title: str
    clock: str
    curves: tuple[Curve, ...]
    low: float
    high: float
    largest: float
    kept: float | None = None

    def cut(self) -> str:
        """Say what lies above the shown range, in words; empty if nothing does."""
        return f"cut off above, up to {self.largest:.4g}" if self.largest > self.high else ""

    def gaps(self) -> int:
        """Count the values that were not finite."""
        return sum(not math.isfinite(value) for curve in self.curves for value in curve.values)


def panels(rows: Iterable[Row]) -> tuple[Panel, ...]:
    """Give the panels negative ELBO, reconstruction and KL; none of a kind for which no row has a value.

    Arguments:
        rows: Rows of metrics.jsonl, in the order of the file; values in nats per example.
    """
    rows = list(rows)
    clock, timed = _by_time(rows)
    # weights are kept by a criterion of the model's own, which need not be the smallest value in a panel
    kept = max((_number(row.get(clock)) for row in rows if row.get("kept") == 1.0), default=None)
    quantities = (
        ("Negative ELBO", _negative_elbo),
        ("Reconstruction", _value_of("recon_loss")),
        ("KL", _value_of("kl_loss")),
    )
    found = []
    for title, quantity in quantities:
        curves = tuple(curve for split in SPLITS if (curve := _curve(timed, split, quantity)).times)
        if curves:
            found.append(Panel(title, clock, curves, *_range(curves), kept))
    return tuple(found)


def _by_time(rows: Iterable[Row]) -> tuple[str, dict[float, dict[str, Any]]]:
    # Rows of one time are merged, the later wins: a resumed run may write an epoch again, and the row of an epoch
    # follows the rows of its steps. Within the first epoch the steps are all there is to see.
    rows = list(rows)
    epochs, steps = _merge(rows, "epoch"), _merge(rows, "step")
    return ("epoch", epochs) if epochs and (len(epochs) > 1 or _has_epoch_row(epochs, steps)) else ("step", steps)


def _has_epoch_row(epochs: dict[float, dict[str, Any]], steps: dict[float, dict[str, Any]]) -> bool:
    return len(steps) <= 1 or any(key.startswith("val/") for row in epochs.values() for key in row)


def _merge(rows: Iterable[Row], clock: str) -> dict[float, dict[str, Any]]:
    merged: dict[float, dict[str, Any]] = {}
    for row in rows:
        time = _number(row.get(clock))
        if math.isfinite(time):
            merged.setdefault(time, {}).update(row)
    return dict(sorted(merged.items()))


def _curve(timed: Mapping[float, Row], split: str, quantity: Any) -> Curve:
    points = [(time, quantity(row, split)) for time, row in timed.items()]
    present = [(time, value) for time, value in points if value is not None]
    return Curve(split, tuple(time for time, _ in present), tuple(value for _, value in present))


def _negative_elbo(row: Row, split: str) -> float | None:
    # with a weight on the KL the loss is not the negative ELBO, so it is never taken in its place
    if f"{split}/elbo" in row:
        return -_number(row[f"{split}/elbo"])
    if f"{split}/recon_loss" in row and f"{split}/kl_loss" in row:
        return _number(row[f"{split}/recon_loss"]) + _number(row[f"{split}/kl_loss"])
    return None


def _value_of(name: str) -> Any:
    return lambda row, split: _number(row[f"{split}/{name}"]) if f"{split}/{name}" in row else None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > DRAWABLE:
        return math.nan
    return float(value)


def _range(curves: Sequence[Curve]) -> tuple[float, float, float]:
    finite = [value for curve in curves for value in curve.values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0, -math.inf
    # the first tenth of a run often lies far above the rest; it is cut when it would take more than half of the plot
    late = [value for curve in curves for value in _after_the_start(curve.values) if math.isfinite(value)] or finite
    low, high, largest = min(finite), max(late), max(finite)
    usual = sorted(late)[int(0.9 * (len(late) - 1))]
    if high - low > 20 * (usual - low) > 0:
        high = low + 3 * (usual - low)  # one spike must not flatten everything else
    if largest - low <= 2 * (high - low):
        high = largest
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin, largest


def _after_the_start(values: Sequence[float]) -> Sequence[float]:
    return values if len(values) < 5 else values[max(1, len(values) // 10) :]
