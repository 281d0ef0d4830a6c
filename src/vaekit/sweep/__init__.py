"""Many runs from one command: settings to try, who tries which, and what came of it. On Optuna, which is an extra."""

from vaekit.sweep.axes import Axis, Choices, Interval, axes_of, axis_of
from vaekit.sweep.definition import Definition
from vaekit.sweep.metric import Metric

__all__ = ["Axis", "Choices", "Definition", "Interval", "Metric", "axes_of", "axis_of"]
