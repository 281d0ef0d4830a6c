"""What the bound lacks, and why: the family of posteriors, the one encoder for all examples, the data it was fitted to."""

# K samples, B batch, L latent dimensions, *x event of the data

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from vaekit.data.batch import Batch, Split
from vaekit.distributions.noise import PerExample, standard_normal, use
from vaekit.errors import ConfigError
from vaekit.evaluation.each import Ledger, Tell, each
from vaekit.evaluation.passes import Plan, examples, measuring, traces
from vaekit.evaluation.rate_split import is_normal
from vaekit.evaluation.units import Estimate, mean
from vaekit.math.importance import importance_bound
from vaekit.models.vae import VAE

Keep = Callable[[str, Mapping[str, Any]], Ledger]

# noise of the steps, of the choice between start and end, and of the numbers: independent of each other and of every other pass
_STEPS, _CHOICE, _NUMBERS = 5 << 20, 6 << 20, 7 << 20
# decoded values at a time; a fourth of them where gradients are kept
_VALUES = 1 << 22
# draws of each step, and of the choice between start and end
_DRAWS, _CHOOSING = 8, 64
# in posterior standard deviations of the encoder, and in the logarithm of its own; it falls to 0
_RATE = 0.1
# as large as gradients that matter: without it Adam turns rounding errors of a flat bound into steps of full length
_EPSILON = 1e-4


def gap_estimates(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    train: Split | None = None,
    keep: Keep | None = None,
    tell: Tell | None = None,
    steps: int = 300,
    samples: int = 1000,
) -> dict[str, Estimate]:
    r"""How far the ELBO is below the log-evidence, and what is to blame for it.

    .. math::
        \underbrace{\log p(x) - L[q]}_\text{inference gap}
        = \underbrace{\log p(x) - L[q^*]}_\text{approximation gap} + \underbrace{L[q^*] - L[q]}_\text{amortisation gap}

    where :math:`q^*` is the best diagonal normal for the example and q that of the encoder. The decoder stays as it is. Each
    example has its own search, by Adam on the mean and the log scale from the encoder's on, under noise of its own; then the better
    of its start and its end on fresh draws is kept, and all numbers are from draws after that, the same for q and q*. So the
    amortisation gap is not biased upwards by choosing, and a search that found less than all of it makes it too small and the
    approximation gap too large. The log-evidence is the importance-weighted bound with q* as proposal, which is too low on average,
    and so are the approximation and the inference gap. The two gaps add up to the third but for rounding.

    Arguments:
        model: With one latent and a diagonal normal posterior.
        split: The examples. Numbers do not depend on `plan.batch_size` beyond rounding.
        plan: Batch size and seed; its number of samples is that of the overfitting gap.
        train: What the model was trained on, for `overfitting_gap`.
        keep: Gives the file in which numbers are kept.
        tell: Called with how many examples are done, of how many.
        steps: Of the search.
        samples: Draws from q and from q* behind each number, K.

    Returns:
        `amortisation_gap`, `approximation_gap`, `inference_gap`, and with `train` also `overfitting_gap`.

    Raises:
        ConfigError: If the model has no diagonal normal posterior, or several latents.

    References:
        | Inference Suboptimality in Variational Autoencoders (Cremer, Li and Duvenaud, 2018), section 3 and table 1
        | https://arxiv.org/abs/1801.03558
    """
    _check(model, split, plan, steps, samples)
    settings = {"steps": steps, "samples": samples, "rate": _RATE, "draws": [_DRAWS, _CHOOSING]}
    ledger = None if keep is None else keep("gaps", settings)
    found = each(model, split, plan, partial(_measure, steps=steps, samples=samples), ledger=ledger, tell=tell)
    start, best, evidence = found["elbo"], found["elbo_optimised"], found["evidence"]
    kept = int((found["moved"] == 0).sum())
    stayed = f", q itself where their end is no better ({kept:,} of {len(start):,})" if kept else ""
    search = f"q* by {steps} steps for each example{stayed}; K = {samples:,} draws"
    bound = "log p(x) as the importance-weighted bound with q*, too low on average"
    numbers = {
        "amortisation_gap": mean(best - start, "nats", f"L[q*] - L[q], at least; {search}"),
        "approximation_gap": mean(evidence - best, "nats", f"log p(x) - L[q*]; {bound}; {search}"),
        "inference_gap": mean(evidence - start, "nats", f"log p(x) - L[q]; {bound}; {search}"),
    }
    if train is not None:
        numbers |= overfitting_estimates(model, split, plan, train=train, keep=keep, tell=tell)
    return numbers


def searched(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    steps: int,
    samples: int,
    ledger: Ledger | None = None,
    tell: Tell | None = None,
) -> dict[str, Tensor]:
    """Of every example: `elbo` with the encoder's posterior, `elbo_optimised` with the best that was found, `evidence`; each (N,).

    Raises:
        ConfigError: If the model has no diagonal normal posterior, or several latents.
    """
    _check(model, split, plan, steps, samples)
    return each(model, split, plan, partial(_measure, steps=steps, samples=samples), ledger=ledger, tell=tell)


def overfitting_estimates(
    model: VAE, split: Split, plan: Plan, *, train: Split, keep: Keep | None = None, tell: Tell | None = None
) -> dict[str, Estimate]:
    """`overfitting_gap`: the mean ELBO of training examples less that of as many others, of any model with a bound.

    Arguments:
        model: Trained on `train`.
        split: Examples that it was not trained on.
        plan: Batch size, draws and seed. If one of the two parts has more examples, a random part of them is measured.
        train: Training examples.
        keep: Gives the files in which numbers are kept.
        tell: Called with how many examples are done, of how many.

    Raises:
        ConfigError: If the model has no bound.
    """
    _check_bound(model)
    n = min(len(split), len(train))
    sides = []
    for name, part in (("overfitting_train", train), ("overfitting_test", split)):
        ledger = None if keep is None else keep(name, {"samples": plan.samples, "examples": n})
        sides.append(each(model, _some(part, n, plan.seed), plan, _elbo, ledger=ledger, tell=tell)["elbo"])
    seen, unseen = (mean(side, "nats") for side in sides)
    error = math.hypot(seen.standard_error, unseen.standard_error)
    draws = f"{plan.samples} draw{'s' if plan.samples > 1 else ''} of each example"
    words = f"mean ELBO of {n:,} training examples less that of {n:,} others; {draws}"
    return {"overfitting_gap": Estimate(seen.value - unseen.value, error, "nats", n, words)}


def _elbo(model: VAE, batch: Batch, plan: Plan) -> dict[str, Tensor]:
    drawn = [trace.log_px.double() - trace.kl().double() for trace in traces(model, batch, plan)]
    return {"elbo": torch.cat(drawn).mean(0)}


def _some(split: Split, n: int, seed: int) -> Split:
    if n == len(split):
        return split
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed % (1 << 63)))
    return split.part(order[:n].sort().values.to(split.stored.device))


class _Examples:
    """A few examples with the joint density of each and a latent, and the posterior of the encoder.

    A posterior has a `place`, (2, B, L): by how many of the encoder's standard deviations its mean is off the encoder's, and the
    logarithm of its standard deviation over that of the encoder. 0 is the encoder's own.
    """

    def __init__(self, model: VAE, batch: Batch) -> None:
        self.model, self.batch = model, batch
        (latent,) = model.infer(batch.x, context=batch.context)
        base = latent.q.base_dist  # type: ignore[attr-defined]
        self.event_shape, self.p = latent.q.event_shape, latent.p
        self.loc, self.scale = base.loc[0].flatten(1), base.scale[0].flatten(1)

    def log_w(self, place: Tensor, noise: Tensor) -> Tensor:
        """log p(x, z) - log q(z), nats, (K, B), for standard normal noise (K, B, L)."""
        q = Normal(self.loc + place[0] * self.scale, self.scale * place[1].exp(), validate_args=False)
        z = q.loc + q.scale * noise
        log_q = q.log_prob(z).double().sum(2)  # type: ignore[no-untyped-call]
        log_p = self.p.log_prob(z.reshape(*z.shape[:2], *self.event_shape)).double()
        count = len(noise)
        told = self.batch.context
        context = None if told is None else _repeated(told, count)
        px = self.model.decode(z.flatten(0, 1), context)
        log_px = px.log_prob(_repeated(self.batch.x, count)).reshape(count, -1).double()
        log_w: Tensor = log_px + log_p - log_q
        return log_w

    def noise(self, seed: int, stream: int, count: int, first: int = 0) -> Tensor:
        """The examples' own, (K, B, L)."""
        with use(PerExample(seed, self.batch.index, first_sample=first, stream=stream)):
            shape = torch.Size([count, *self.loc.shape])
            return standard_normal(shape, dtype=self.loc.dtype, device=self.loc.device)

    def weights(self, place: Tensor, seed: int, stream: int, count: int) -> Tensor:
        """`log_w` of many draws, a few at a time."""
        chunk = max(1, _VALUES // max(self.batch.x.numel(), self.loc.numel()))
        parts = [
            self.log_w(place, self.noise(seed, stream, min(chunk, count - first), first))
            for first in range(0, count, chunk)
        ]
        return torch.cat(parts)


def _repeated(rows: Tensor, count: int) -> Tensor:
    return rows.expand(count, *rows.shape).flatten(0, 1)


def _measure(model: VAE, batch: Batch, plan: Plan, *, steps: int, samples: int) -> dict[str, Tensor]:
    size = max(1, _VALUES // 4 // (_DRAWS * batch.x[0].numel()))
    parts = [
        _of_few(model, _rows(batch, first, size), plan.seed, steps, samples) for first in range(0, len(batch.x), size)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _rows(batch: Batch, first: int, size: int) -> Batch:
    given = (batch.x, batch.labels, batch.index, batch.conditions)
    return Batch(*(None if rows is None else rows[first : first + size] for rows in given))  # type: ignore[arg-type]


def _of_few(model: VAE, batch: Batch, seed: int, steps: int, samples: int) -> dict[str, Tensor]:
    few = _Examples(model, batch)
    start = torch.zeros_like(torch.stack([few.loc, few.scale]))
    end = _searched(few, start, seed, steps)
    gained = few.weights(end, seed, _CHOICE, _CHOOSING).mean(0) - few.weights(start, seed, _CHOICE, _CHOOSING).mean(0)
    moved = gained > 0  # not where the end is not a number
    log_w = few.weights(torch.where(moved[:, None], end, start), seed, _NUMBERS, samples)
    return {
        "elbo": few.weights(start, seed, _NUMBERS, samples).mean(0),
        "elbo_optimised": log_w.mean(0),
        "evidence": importance_bound(log_w),
        "moved": moved.double(),
    }


@torch.enable_grad()
def _searched(few: _Examples, start: Tensor, seed: int, steps: int) -> Tensor:
    """Where Adam ends, (2, B, L): each number has its own moments, so no example knows of another."""
    place = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([place], lr=_RATE, eps=_EPSILON)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _RATE * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        bound = few.log_w(place, few.noise(seed, _STEPS + step, _DRAWS)).mean(0).sum()
        # of the posterior alone: weights of the model get no gradient
        (gradient,) = torch.autograd.grad(bound, [place])
        place.grad = -gradient
        optimizer.step()
    return place.detach()


def _check(model: VAE, split: Split, plan: Plan, steps: int, samples: int) -> None:
    if steps < 1 or samples < 1:
        raise ConfigError(f"steps is {steps} and samples is {samples}, expected 1 or more of both.")
    _check_bound(model)
    levels = model.hierarchy.open()
    if len(levels) > 1:
        names = ", ".join(level.name for level in levels)
        raise ConfigError(
            f"This model has several latents ({names}), and the gaps of inference are measured for one diagonal normal: take a "
            "model with one latent, such as model=mlp."
        )
    batch = examples(split, torch.zeros(1, dtype=torch.int64, device=split.stored.device), plan)
    with measuring(model):
        q: Distribution = model.posterior(batch.x, batch.context)
    if not is_normal(q):
        kind = type(getattr(q, "base_dist", q)).__name__
        raise ConfigError(
            f"The posterior of this model is {kind}, and the gaps of inference are measured for diagonal normals: train "
            "one with posterior=normal."
        )


def _check_bound(model: VAE) -> None:
    if not model.bounded:
        raise ConfigError(
            "This model encodes to points and has no bound, so none of its gaps: take a model with a density, such as model=mlp."
        )
