"""Walks through the latent space: one dimension after the other, or from one example to another. Nothing is drawn on the way."""

# R rows, S steps, L latent dimensions, N examples, n codes, *x event of the data

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaekit.data.batch import Split
from vaekit.distributions.draw import Draw, centre
from vaekit.distributions.quantized import Quantized
from vaekit.errors import NotFittedError
from vaekit.evaluation.aggregate import ACTIVE_VARIANCE, kl_per_dimension
from vaekit.evaluation.passes import Plan, batches, encodings, examples, measuring, traces
from vaekit.math.interpolation import linear, spherical
from vaekit.models.vae import VAE

INACTIVE = 0.01  # nats below which a latent dimension says nothing about an example
MOST_ROWS = 8  # of a traversal, unless more are asked for
_TAIL = 0.01  # of the aggregate posterior, left out at each end

Path = Callable[[Tensor, Tensor, Tensor], Tensor]
MODES: Mapping[str, Path] = {"linear": linear, "spherical": spherical}


@dataclass(frozen=True)
class Walk:
    """Decoded codes, laid out as rows and columns.

    Attributes:
        codes: Shape (R, S, L).
        images: Mean of p(x|z) at each of them, (R, S, *x).
        rows: What each row is.
        columns: What each column is.
        caption: What the reader should know.
        ends: The two examples that a walk leads from and to, (2, *x); None where it has none.
    """

    codes: Tensor
    images: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    caption: str
    ends: Tensor | None = None


@dataclass(frozen=True)
class Relevance:
    """How much each latent dimension tells about an example.

    Attributes:
        scores: The mean KL in nats, or for a model that encodes to points the variance of the codes; (L,).
        unit: nats, or variance.
    """

    scores: Tensor
    unit: str

    @property
    def order(self) -> list[int]:
        """All dimensions, the one that tells most first."""
        return [int(d) for d in self.scores.argsort(descending=True, stable=True)]

    @property
    def active(self) -> int:
        """How many tell anything: from 0.01 nats, or a variance of 0.01."""
        return int((self.scores >= (INACTIVE if self.unit == "nats" else ACTIVE_VARIANCE)).sum())

    def name(self, dimension: int) -> str:
        """Such as "z[7], 3.21 nats"."""
        score = float(self.scores[dimension])
        return f"z[{dimension}], {f'{score:.2f} nats' if self.unit == 'nats' else f'variance {score:.3g}'}"

    @property
    def silent(self) -> str:
        """The dimensions that tell nothing, in words; empty if there are none."""
        total, count = len(self.scores), len(self.scores) - self.active
        bound = f"KL < {INACTIVE} nats" if self.unit == "nats" else f"variance < {ACTIVE_VARIANCE}"
        verb = "is" if count == 1 else "are"
        return f"{count} of {total} {verb} inactive ({bound})" if count else ""


def relevance(model: VAE, split: Split, plan: Plan) -> Relevance:
    """How much each latent dimension tells about the examples of a split."""
    if model.bounded:
        return Relevance(kl_per_dimension(model, split, plan), "nats")
    return Relevance(encodings(model, split, plan)[0].double().var(0, correction=0), "variance")


def traverse(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    index: int | None = None,
    dims: int | None = None,
    steps: int = 11,
    extent: tuple[float, float] | None = None,
    context: Tensor | None = None,
) -> Walk:
    """Vary one latent dimension at a time, those that tell most first, and decode.

    Arguments:
        model: Any.
        split: Its examples say how much each dimension tells, and where the codes are.
        plan: Gives batch size and seed.
        index: Start from the posterior mean of this example; None for the mean of the prior.
        dims: How many dimensions; None for all that are active, but no more than eight.
        steps: Values of each dimension.
        extent: The first and the last value; None for the quantiles of the aggregate posterior from 1 % to 99 %.
        context: What a conditional model is told, one row; None for what is known about the example at `index`.

    Raises:
        ValueError: If a number is out of range, or the latents are not real numbers.
    """
    _at_least(1, dims=1 if dims is None else dims, steps=steps)
    _check_real(model, split, plan, "there is no range to traverse")
    told = relevance(model, split, plan)
    shown = told.order[: max(1, min(told.active, MOST_ROWS)) if dims is None else dims]
    if index is None:
        start, whence = _prior_mean(model, split, plan)
    else:
        codes, known = posterior_means(model, split, [index], plan)
        under = "" if context is not None or known is None else ", decoded as what it is"
        start, whence, context = codes[0], f"the code of example {index}{under}", known if context is None else context
    values, columns, span = _values(model, split, plan, shown, steps, extent)
    codes = start.expand(len(shown), steps, -1).clone()
    for row, dimension in enumerate(shown):
        codes[row, :, dimension] = values[row]
    hidden = told.active - len(shown)
    rest = (f"{hidden} more active {'one' if hidden == 1 else 'ones'} not shown" if hidden > 0 else "", told.silent)
    caption = f"One latent dimension at a time over {span}, the others at {whence}"
    caption = "; ".join(filter(None, (caption, *rest)))
    return Walk(codes, decoded(model, codes, context, plan), tuple(map(told.name, shown)), columns, caption)


def interpolate(
    model: VAE,
    split: Split,
    plan: Plan,
    first: int,
    last: int,
    *,
    modes: Sequence[str] = ("linear", "spherical"),
    steps: int = 10,
    context: Tensor | None = None,
) -> Walk:
    """Go from the posterior mean of one example to that of another, and decode.

    Arguments:
        model: Any.
        split: Where the examples are.
        plan: Gives batch size and seed.
        first: Position of the one.
        last: Position of the other.
        modes: A row for each: linear or spherical, see `vaekit.math.interpolation`.
        steps: Codes on the way, both ends among them.
        context: What a conditional model is told, one row; None for what is known about the first example.

    Raises:
        ValueError: If a number is out of range, or the latents are not real numbers.
    """
    _at_least(2, steps=steps)
    _check_real(model, split, plan, "nothing lies between two of them")
    ends, known = posterior_means(model, split, [first, last], plan)
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    codes = torch.stack([MODES[mode](ends[0], ends[1], share) for mode in modes])
    told = known[:1] if context is None and known is not None else context
    code = "posterior mean" if model.bounded else "code"
    caption = f"From the {code} of example {first} to that of example {last}; at the ends, the examples themselves"
    under = f"; decoded as what example {first} is" if context is None and known is not None else ""
    return Walk(
        codes,
        decoded(model, codes, told, plan),
        tuple(modes),
        tuple(_short(float(t)) for t in share),
        caption + under,
        examples(split, _positions(split, [first, last]), plan).x.cpu(),
    )


def posterior_means(model: VAE, split: Split, index: Sequence[int], plan: Plan) -> tuple[Tensor, Tensor | None]:
    """Posterior means of chosen examples, (n, L), and what a conditional model is told of them, n rows.

    Raises:
        ValueError: If an index is not in the split.
    """
    batch = examples(split, _positions(split, index), plan)
    with measuring(model):
        codes = model.encode(batch.x, batch.context).cpu()
    return codes, batch.context if model.conditional else None


def decoded(model: VAE, codes: Tensor, context: Tensor | None, plan: Plan) -> Tensor:
    """Means of p(x|z) for codes (R, S, L), all under one row of `context`: (R, S, *x)."""
    weight = next(model.parameters())
    parts = []
    with measuring(model):
        for z in torch.split(codes.flatten(0, 1).to(weight), plan.batch_size):
            told = None if context is None else context.to(weight.device).expand(len(z), *context.shape[1:])
            parts.append(model.decode(z, told).mean[0].cpu())
    return torch.cat(parts).reshape(*codes.shape[:2], *model.event_shape)


def prior_mean(model: VAE) -> Tensor:
    """Mean of the prior, of all latents side by side, (L,); that of a latent given the means of those above it."""
    means: list[Tensor] = []

    def record(p: Distribution) -> Draw:
        drawn = centre(p)
        means.append(drawn.value[0, 0].flatten().cpu())
        return drawn

    with measuring(model):
        model.hierarchy.generate(model.blank(1), model, record)
    return torch.cat(means)


def is_real(model: VAE, split: Split, plan: Plan) -> bool:
    """Whether all latents are real numbers, so that something lies between any two values; codes and categories are not."""
    batch = examples(split, _positions(split, [0]), plan)
    with measuring(model):
        (trace,) = traces(model, batch, Plan(1, 1, plan.seed))
    return all(_is_real(latent.q) for latent in trace.latents)


def aggregate_draws(model: VAE, split: Split, plan: Plan) -> Tensor:
    """One draw from the posterior of each example: a sample of the aggregate posterior, (N, L)."""
    single = Plan(plan.batch_size, 1, plan.seed)
    drawn = []
    with measuring(model):
        for batch in batches(split, single):
            (trace,) = traces(model, batch, single)
            drawn.append(torch.cat([latent.draw.value[0].flatten(1) for latent in trace.latents], 1).cpu())
    return torch.cat(drawn)


def _is_real(q: Distribution) -> bool:
    if isinstance(q, Quantized):
        return False
    try:
        support = q.support
    except NotImplementedError:  # a distribution of the user's own may not say its support: taken for real, as most are
        return True
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is None or support in (constraints.real, constraints.real_vector)


def _check_real(model: VAE, split: Split, plan: Plan, so: str) -> None:
    if not is_real(model, split, plan):
        raise ValueError(
            f"The latents of this model are not real numbers but codes, categories or the like: {so}. Take a model with real ones, "
            "such as model=mlp."
        )


def _prior_mean(model: VAE, split: Split, plan: Plan) -> tuple[Tensor, str]:
    try:
        mean = prior_mean(model) if model.bounded else None
    except (NotImplementedError, NotFittedError):  # a prior without a mean, or one that is not fitted yet
        mean = None
    if mean is not None and bool(mean.isfinite().all()):
        return mean, "the mean of the prior"
    return encodings(model, split, plan)[0].mean(0), "the mean of all codes"


def _values(
    model: VAE, split: Split, plan: Plan, dimensions: Sequence[int], steps: int, extent: tuple[float, float] | None
) -> tuple[Tensor, tuple[str, ...], str]:
    """Values of each dimension, (R, S), the names of the columns, and all of them in words."""
    if extent is not None:
        values = torch.linspace(*extent, steps, dtype=torch.float64)
        names = tuple(_short(float(value)) for value in values)
        return values.expand(len(dimensions), -1), names, f"{_short(extent[0])} to {_short(extent[1])}"
    levels = torch.linspace(_TAIL, 1 - _TAIL, steps, dtype=torch.float64)
    drawn = aggregate_draws(model, split, plan)[:, list(dimensions)].double()
    values = torch.quantile(drawn, levels, dim=0).T
    return values, tuple(f"{100 * float(level):.3g} %" for level in levels), "the quantiles of its codes"


def _positions(split: Split, index: Sequence[int]) -> Tensor:
    for position in index:
        if not 0 <= position < len(split):
            raise ValueError(f"There is no example {position}: the split has {len(split):,}, counted from 0.")
    return torch.tensor(list(index), device=split.stored.device)


def _at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} is {number}, expected {least} or more.")


def _short(value: float) -> str:
    return f"{round(value, 2) + 0.0:g}"
