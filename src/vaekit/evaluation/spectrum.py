"""How much each latent dimension carries: the variance of the posterior mean over the data, and the KL, of all of them."""

# N examples, B batch, L latent dimensions of all latents together

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent

from vaekit.data.batch import Batch, Split
from vaekit.distributions.draw import centre
from vaekit.distributions.noise import PerExample, use
from vaekit.evaluation.aggregate import ACTIVE_VARIANCE
from vaekit.evaluation.each import Ledger, Tell, each
from vaekit.evaluation.passes import Plan, examples, measuring
from vaekit.models.trace import Latent
from vaekit.models.vae import VAE

Keep = Callable[[str, Mapping[str, Any]], Ledger]

# noise of the draws here is independent of that of every other pass
_DRAWS = 9 << 20


@dataclass(frozen=True)
class Spectrum:
    """The latent dimensions, in the order of the model.

    Attributes:
        names: The latent and the place in it of each dimension, such as z[3].
        variance: Of the posterior mean over the examples, divided by N, (L,), float64.
        variance_error: Its standard error over the examples.
        kl: Mean KL of each dimension in nats, (L,); None for a model that encodes to points.
        kl_error: Its standard error over the examples.
        shared: Whether some of the KLs are equal shares of a KL that is that of all dimensions of a latent together.
        n: Examples.
    """

    names: tuple[str, ...]
    variance: Tensor
    variance_error: Tensor
    kl: Tensor | None
    kl_error: Tensor | None
    shared: bool
    n: int

    @property
    def active(self) -> Tensor:
        """Where the variance is above 0.01, bool, (L,): as many as `active_units` counts."""
        return self.variance > ACTIVE_VARIANCE

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file: the threshold, and the dimensions from the one whose mean varies most; null for what is not finite."""
        order = self.variance.argsort(descending=True, stable=True).tolist()
        columns = {
            "variance": self.variance,
            "variance_error": self.variance_error,
            "kl": self.kl,
            "kl_error": self.kl_error,
        }
        rows = [
            {"dimension": self.names[j], "active": bool(self.active[j])}
            | {name: _number(values, j) for name, values in columns.items()}
            for j in order
        ]
        said = "nats, an equal share of the KL of its latent where that is of all dimensions together"
        return {
            "threshold": ACTIVE_VARIANCE,
            "n": self.n,
            "variance": "of the posterior mean over examples",
            "kl": None if self.kl is None else said if self.shared else "nats",
            "dimensions": rows,
        }


def spectrum(model: VAE, split: Split, plan: Plan, *, keep: Keep | None = None, tell: Tell | None = None) -> Spectrum:
    r"""Measure all dimensions of all latents.

    .. math:: A_j = \mathrm{Var}_x(E_{q(z|x)}[z_j]), \qquad R_j = \frac1N \sum_n \mathrm{KL}(q(z_j|x_n) \| p(z_j))

    The standard error of a variance is that of the mean of :math:`(m_n - \bar m)^2`. Lower latents of several are at the means of
    those before them for A, and at a draw of them for R.

    Arguments:
        model: Any.
        split: The examples. Numbers do not depend on `plan.batch_size`.
        plan: Batch size and seed; its number of samples counts for nothing.
        keep: Gives the file in which numbers are kept.
        tell: Called with how many examples are done, of how many.

    References:
        | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), section 5.1.1, for A
        | https://arxiv.org/abs/1509.00519
    """
    batch = examples(split, torch.zeros(1, dtype=torch.int64, device=split.stored.device), plan)
    with measuring(model):
        latents = model.infer(batch.x, drawing=centre, context=batch.context)
    ledger = None if keep is None else keep("spectrum", {})
    columns = each(model, split, plan, _measure, ledger=ledger, tell=tell)
    means, kl = columns["mean"], columns.get("kl")
    variance, variance_error = _mean_and_error((means - means.mean(0)).square())
    kl_mean, kl_error = (None, None) if kl is None else _mean_and_error(kl)
    names = tuple(f"{latent.name}[{place}]" for latent in latents for place in range(latent.q.event_shape.numel()))
    shared = model.bounded and not all(map(_dimensions_apart, latents))
    return Spectrum(names, variance, variance_error, kl_mean, kl_error, shared, len(means))


def _measure(model: VAE, batch: Batch, plan: Plan) -> dict[str, Tensor]:
    means = {"mean": model.encode(batch.x, batch.context)}
    if not model.bounded:
        return means
    with use(PerExample(plan.seed, batch.index, stream=_DRAWS)):
        latents = model.infer(batch.x, context=batch.context)
        return {**means, "kl": torch.cat([latent.kl_per_dimension()[0] for latent in latents], 1)}


def _dimensions_apart(latent: Latent) -> bool:
    if not (isinstance(latent.q, Independent) and isinstance(latent.p, Independent)):
        return False
    # one number for each dimension, and none for a group of them, as of the categories of a variable
    numbers: int = latent.q.base_dist.batch_shape[2:].numel()
    return numbers == latent.q.event_shape.numel()


def _mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    n = len(values)
    error = values.std(0, correction=1) / math.sqrt(n) if n > 1 else torch.full_like(values[0], math.nan)
    return values.mean(0), error


def _number(values: Tensor | None, place: int) -> float | None:
    number = math.nan if values is None else float(values[place])
    return number if math.isfinite(number) else None
