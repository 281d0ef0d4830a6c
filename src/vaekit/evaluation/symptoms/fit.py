"""Whether p(x|z) is as wide as the errors that it makes, and how much better it does on what it was trained on."""

# B examples, D values of an example

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaekit.data.batch import Batch, Dataset
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.symptoms.drawn import drawn, loss_of
from vaekit.evaluation.units import Estimate, mean
from vaekit.models.trace import Trace
from vaekit.models.vae import VAE


def fit_symptoms(model: VAE, held: Batch, train: Batch, plan: Plan) -> dict[str, Estimate]:
    r"""Residuals on held-out examples, and the gap between these and training examples.

    - `residual`: root mean square of :math:`x - E[x|z]`;
    - `pearson`: mean of :math:`(x - E[x|z])^2 / \mathrm{Var}[x|z]`, 1 for a likelihood as wide as its errors;
    - `gap`: -ELBO of held-out minus that of training examples, nats; `spread`: its standard deviation over held-out examples.

    Distributions without mean or variance have no residuals.
    """
    trace, seen = drawn(model, held, plan), drawn(model, train, plan)
    ours, theirs = loss_of(trace, model.bounded), loss_of(seen, model.bounded)
    found = _residuals(trace)
    if len(ours) > 1 and len(theirs) > 1:
        error = math.sqrt(float(ours.var()) / len(ours) + float(theirs.var()) / len(theirs))
        name = "-ELBO" if model.bounded else "-log p(x|z)"
        found["gap"] = Estimate(
            float(ours.mean() - theirs.mean()), error, "nats", len(ours), f"{name} of held-out minus that of training examples"
        )  # fmt: skip
        found["spread"] = Estimate(
            float(ours.std()), 0.0, "nats", len(ours), f"standard deviation of {name} over examples"
        )
    return found


def data_symptoms(dataset: Dataset, train: Batch) -> dict[str, Estimate]:
    """Of the values themselves: how far they vary, where they lie, how many are exactly 0 or 1."""
    x = train.x.flatten(1).double()
    variance = x.var(0, correction=0).mean()
    binary = ((x == 0) | (x == 1)).double().mean()
    numbers = {
        "data_spread": (float(variance.sqrt()), "standard deviation over examples, root mean square over values"),
        "data_binary": (float(binary), "share of values that are 0 or 1"),
        "data_low": (dataset.low, "smallest value of the data"),
        "data_high": (dataset.high, "largest value of the data"),
        "data_usual": (
            float(x.abs().flatten()[:: max(1, x.numel() >> 20)].quantile(0.99)),
            "99th percentile of the size of a value",
        ),
        "data_train": (float(len(dataset.train)), "training examples"),
    }
    return {name: Estimate(value, 0.0, "1", len(x), words) for name, (value, words) in numbers.items()}


def _residuals(trace: Trace) -> dict[str, Estimate]:
    try:
        centre, variance = trace.px.mean[0].double(), trace.px.variance[0].double()
    except NotImplementedError:  # a density of several views of an image together has no variance of the image
        return {}
    if centre.shape != trace.x.shape:
        return {}
    squared = (trace.x.double() - centre).square().flatten(1)
    ratio = squared / variance.flatten(1).clamp_min(torch.finfo(torch.float64).tiny)
    mean_square = mean(squared.mean(1), "1")
    root = math.sqrt(mean_square.value)
    return {
        "residual": Estimate(
            root, mean_square.standard_error / (2.0 * root) if root else 0.0, "1", mean_square.n, "root mean square of x - E[x|z]"
        ),
        "pearson": mean(_finite(ratio).mean(1), "1", "mean of (x - E[x|z])^2 / Var[x|z]"),
    }  # fmt: skip


def _finite(ratio: Tensor) -> Tensor:
    # a value that is certain under p(x|z) and another in the data: as wrong as can be, but one such must not be all that is said
    return ratio.nan_to_num(posinf=1e6).clamp_max(1e6)
