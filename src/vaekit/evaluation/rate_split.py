"""What the rate is spent on: telling examples apart, latents that depend on each other, and dimensions that are off the prior."""

# N examples, S draws of each, B batch, Q draws at a time, M components of the mixture, L latent dimensions, *z event of a latent

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vaekit.data.batch import Batch, Split
from vaekit.distributions.draw import Draw, reparameterised
from vaekit.distributions.noise import PerExample, use
from vaekit.errors import ConfigError
from vaekit.evaluation.each import Ledger, Tell, each
from vaekit.evaluation.passes import Plan, examples, measuring
from vaekit.evaluation.units import Estimate, mean
from vaekit.math.total_correlation import aggregate_log_density, normal_aggregate
from vaekit.models.trace import Latent
from vaekit.models.vae import VAE

Keep = Callable[[str, Mapping[str, Any]], Ledger]

# noise of the draws here is independent of that of every other pass
_DRAWS = 3 << 20
# numbers at a time: bounds memory for any N
_NUMBERS = 1 << 22
# draws of a whole split from which the noise of the draws no longer counts, and most of one example
_ENOUGH, _MOST = 10_000, 16
# components of the mixture, unless told: of one latent, and of several, where each pair of examples is a pass through the model
COMPONENTS, COMPONENTS_OF_LEVELS = 10_000, 200


@dataclass(frozen=True)
class RateSplit:
    """Log-densities of draws from q(z|x) of each example, nats, each a mean over its draws, (N,), float64 on the CPU.

    Attributes:
        log_q: Under its own posterior.
        log_p: Under the prior.
        aggregate: Under the aggregate posterior q(z).
        aggregate_others: Under that of the other examples.
        dimensions: Of each dimension under q(z_j), (N, L); None where posteriors are no diagonal normals of one latent.
        dimensions_others: Under that of the other examples, likewise.
        prior_factorises: Whether the dimensions are independent under the prior.
        samples: Draws of each example, S.
        components: Posteriors in the mixture, M; as many as there are examples where it is the whole of it.
    """

    log_q: Tensor
    log_p: Tensor
    aggregate: Tensor
    aggregate_others: Tensor
    dimensions: Tensor | None
    dimensions_others: Tensor | None
    prior_factorises: bool
    samples: int
    components: int


def rate_split(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    keep: Keep | None = None,
    tell: Tell | None = None,
    samples: int | None = None,
    components: int | None = None,
) -> RateSplit:
    """Measure every draw under the posteriors of all examples: N x S x M densities, a bounded number at a time.

    Several latents count as one, side by side: the density of a draw under the posterior of another example is that of the
    whole draw, and each pair is a pass through the levels of the model.

    Arguments:
        model: With a posterior that has a density.
        split: Two examples or more.
        plan: Batch size and seed; its number of samples counts for nothing.
        keep: Gives the file in which numbers are kept.
        tell: Called with how many examples are done, of how many.
        samples: S; None for as many as make 10,000 draws of the split, 16 at most.
        components: M. If there are more examples, a random M of them make the mixture beside the draw's own posterior. None
            for 10,000 of a model with one latent, and for 200 of one with several.

    Raises:
        ConfigError: If the model encodes to points, or there is one example only.
    """
    count, several = len(split), len(model.hierarchy.open()) > 1
    _check(model, count, samples, components)
    samples = samples or max(1, min(_MOST, _ENOUGH // count))
    components = min(count, components or (COMPONENTS_OF_LEVELS if several else COMPONENTS))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(plan.seed % (1 << 63)))
    chosen = order[:components].sort().values.to(split.stored.device)
    ledger = None if keep is None else keep("rate_split", {"samples": samples, "components": components})
    sight = _sight(model, split, plan)
    normal = not several and is_normal(sight.q)
    compare: _Compare = _Normals(model, split, plan, chosen) if normal else _Others(model, split, plan, chosen, several)
    columns = each(model, split, plan, partial(_measure, compare=compare, samples=samples), ledger=ledger, tell=tell)
    return RateSplit(
        **{name: columns[name] for name in ("log_q", "log_p", "aggregate", "aggregate_others")},
        dimensions=columns.get("dimensions"),
        dimensions_others=columns.get("dimensions_others"),
        prior_factorises=isinstance(sight.p, Independent) and sight.p.base_dist.batch_shape[2:] == sight.p.event_shape,
        samples=samples,
        components=components,
    )


def rate_split_estimates(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    keep: Keep | None = None,
    tell: Tell | None = None,
    samples: int | None = None,
    components: int | None = None,
) -> dict[str, Estimate]:
    r"""The parts of the mean KL of the posteriors from the prior.

    .. math::
        \frac1N \sum_n \mathrm{KL}(q(z|x_n) \| p(z)) = I_q(x; z) + \mathrm{KL}(q(z) \| p(z)), \qquad
        \mathrm{KL}(q(z) \| p(z)) = \mathrm{KL}\Big(q(z) \Big\| \prod_j q(z_j)\Big) + \sum_j \mathrm{KL}(q(z_j) \| p(z_j))

    with :math:`q(z) = \frac1N \sum_n q(z|x_n)` over the whole split: mutual information of example and code, and the marginal KL,
    which is the total correlation and the KL of the dimensions where the prior factorises. From the same draws, so the parts add
    up to `kl_drawn` but for rounding; `kl` is the same number with less noise where the KL is analytic.

    Which bias, on average: none for the N examples themselves. For examples without end, q(z) lies too near to the draws that are
    from it: the mutual information is too low (it cannot exceed log N), `marginal_kl` and `dimension_kl` are too high. Without
    the posterior that a draw comes from, it is the other way round: `..._high` and `..._low` are the other side, so that the true
    value lies between the two on average. `total_correlation` is too high by the bias of the marginal KL less that of
    `dimension_kl`, which is the smaller by far; `total_correlation_low` is too low in any case. No estimate is clamped at 0. With
    fewer components than examples the logarithm of the mixture is too low: then the mutual information is too high for the N
    examples, and the marginal KL too low.

    Standard errors are over examples. That all share one mixture adds nothing to them at first order: a draw from q(z) has the
    density of any of its components over its own, q(z|x_m) / q(z), with mean 1, whatever the component. In simulations they are
    those of repetitions to a fifth; where a draw has next to no other posteriors around it, up to a quarter too small.

    Arguments are those of `rate_split`.

    Returns:
        `kl_drawn`, `mutual_information`, `marginal_kl`, `mutual_information_high`, `marginal_kl_low`; for a diagonal normal
        posterior of one latent also `total_correlation` and `total_correlation_low`, and if the prior factorises `dimension_kl` and
        `dimension_kl_low`. The other side is left out where it is not finite, as for codes that are the same for no two examples.

    References:
        | ELBO surgery (Hoffman and Johnson, 2016), section 2
        | http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
        | Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), equation 2
        | https://arxiv.org/abs/1802.04942
    """
    found = rate_split(model, split, plan, keep=keep, tell=tell, samples=samples, components=components)
    return split_estimates(found)


def split_estimates(found: RateSplit) -> dict[str, Estimate]:
    """The estimates of `rate_split_estimates` from the log-densities of the draws."""
    n = len(found.log_q)
    draws = f"{found.samples} draw{'s' if found.samples > 1 else ''} of each example"
    if found.components == n:
        own = f"q(z) the mixture of all {n:,} posteriors, exactly; {draws}"
        low, high = "too low for more examples than these", "too high for more examples than these"
    else:
        own = f"q(z) from a random {found.components:,} of {n:,} posteriors and the draw's own; {draws}"
        low, high = "too high for all of them together", "too low for all of them together"
    other = f"q(z) without the draw's own posterior, {found.components:,} of {n:,} examples; {draws}"
    whole = ""
    if found.dimensions is None:
        whole = "; in one piece, as only diagonal normals of one latent have densities of their dimensions"
    elif not found.prior_factorises:
        whole = "; no KL of dimensions, as they depend on each other under this prior"
    nats = found.aggregate
    numbers = {
        "kl_drawn": (found.log_q - found.log_p, f"KL(q(z|x) || p(z)) from the draws of its parts; {draws}"),
        "mutual_information": (
            found.log_q - nats,
            f"I(x; z), at most log N = {math.log(n):.2f}, {low}; {own}",
        ),
        "marginal_kl": (nats - found.log_p, f"KL(q(z) || p(z)), {high}{whole}; {own}"),
        "mutual_information_high": (found.log_q - found.aggregate_others, f"I(x; z), too high on average; {other}"),
        "marginal_kl_low": (found.aggregate_others - found.log_p, f"KL(q(z) || p(z)), too low on average; {other}"),
    }
    if found.dimensions is not None and found.dimensions_others is not None:
        alone, alone_others = found.dimensions.sum(1), found.dimensions_others.sum(1)
        words = "KL(q(z) || product of q(z_j))"
        numbers["total_correlation"] = (nats - alone, f"{words}, {high}; {own}")
        numbers["total_correlation_low"] = (found.aggregate_others - alone, f"{words}, too low on average; {other}")
        if found.prior_factorises:
            words = "sum of KL(q(z_j) || p(z_j))"
            numbers["dimension_kl"] = (alone - found.log_p, f"{words}, {high}; {own}")
            numbers["dimension_kl_low"] = (alone_others - found.log_p, f"{words}, too low on average; {other}")
    return {
        name: mean(values, "nats", said)
        for name, (values, said) in numbers.items()
        if bool(values.isfinite().all()) or not name.endswith(("_high", "_low"))
    }


# draws of each latent in the order in which they were drawn, (Q, *z), their posteriors, and whose they are, (Q,), to
# densities under the mixture by name, (Q, ...)
_Compare = Callable[[Sequence[Tensor], Sequence[Latent], Tensor], Mapping[str, Tensor]]


def _measure(model: VAE, batch: Batch, plan: Plan, *, compare: _Compare, samples: int) -> dict[str, Tensor]:
    drawn: list[Tensor] = []
    with use(PerExample(plan.seed, batch.index, stream=_DRAWS)):
        latents = model.infer(batch.x, samples, _recorded(drawn), batch.context)
    log_p = torch.stack([latent.log_p.double() for latent in latents]).sum(0)
    whose = batch.index.expand(samples, -1).flatten()
    found = compare([value.flatten(0, 1) for value in drawn], latents, whose)
    means = {name: value.reshape(samples, -1, *value.shape[1:]).mean(0) for name, value in found.items()}
    return {**means, "log_p": log_p.mean(0)}


class _Normals:
    """Compares with diagonal normals of one latent, whose means and standard deviations are all held."""

    def __init__(self, model: VAE, split: Split, plan: Plan, chosen: Tensor) -> None:
        self.chosen, self.size = chosen, len(split)
        parts = []
        with measuring(model):
            for index in torch.split(chosen, plan.batch_size):
                batch = examples(split, index, plan)
                parts.append(moments(model.posterior(batch.x, batch.context)))
        self.loc, self.scale = (torch.cat(part, 1)[0] for part in zip(*parts, strict=True))

    def __call__(self, drawn: Sequence[Tensor], latents: Sequence[Latent], whose: Tensor) -> dict[str, Tensor]:
        z = drawn[0].flatten(1).double()
        loc, scale = (moment.flatten(0, 1) for moment in moments(latents[0].q))
        found = []
        for rows in torch.split(torch.arange(len(z), device=z.device), max(1, _NUMBERS // len(self.chosen))):
            is_own = whose[rows, None] == self.chosen
            own = loc[rows], scale[rows]
            found.append(normal_aggregate(z[rows], own, (self.loc, self.scale), is_own, self.size))
        names = ("aggregate", "aggregate_others", "dimensions", "dimensions_others")
        densities = dict(zip(names, (torch.cat(part) for part in zip(*found, strict=True)), strict=True))
        base = Normal(loc, scale, validate_args=False)
        return {**densities, "log_q": base.log_prob(z).sum(1)}  # type: ignore[no-untyped-call]


class _Others:
    """Compares with the posteriors of any model, by asking it for the density of the draws of one example given another."""

    def __init__(self, model: VAE, split: Split, plan: Plan, chosen: Tensor, several: bool) -> None:
        self.model, self.split, self.plan, self.chosen, self.several = model, split, plan, chosen, several

    def __call__(self, drawn: Sequence[Tensor], latents: Sequence[Latent], whose: Tensor) -> dict[str, Tensor]:
        log_q = torch.stack([latent.log_q.double() for latent in latents]).sum(0).flatten()
        # of a pair; the levels of several latents see the features of the example as well
        numbers = sum(value[0].numel() for value in drawn) + self.several * self.split.stored.shape[1:].numel()
        rows = max(1, min(256, _NUMBERS // len(self.chosen), _NUMBERS // numbers))
        found = []
        for at in torch.split(torch.arange(len(log_q), device=log_q.device), rows):
            columns = torch.split(self.chosen, max(1, _NUMBERS // (len(at) * numbers)))
            nats = torch.cat([self._pairs([value[at] for value in drawn], index) for index in columns], 1)
            is_own = whose[at, None] == self.chosen
            found.append(aggregate_log_density(log_q[at], nats, is_own, len(self.split)))
        aggregate, others = (torch.cat(part) for part in zip(*found, strict=True))
        return {"aggregate": aggregate, "aggregate_others": others, "log_q": log_q}

    def _pairs(self, drawn: Sequence[Tensor], index: Tensor) -> Tensor:
        """log q(z|x) of draws (Q, *z) given each of the examples at `index`, (Q, M)."""
        shape = (len(drawn[0]), len(index))
        given = iter([value[:, None].expand(*shape, *value.shape[1:]) for value in drawn])

        def drawing(q: Distribution) -> Draw:
            value = next(given)
            return Draw(value, lambda: q.log_prob(value))

        batch = examples(self.split, index, self.plan)
        # one latent has the same posterior for all draws; where there are several, that of the next depends on the last
        samples = shape[0] if self.several else 1
        latents = self.model.infer(batch.x, samples, drawing, batch.context)
        return torch.stack([latent.log_q.double().expand(shape) for latent in latents]).sum(0)


def _recorded(values: list[Tensor]) -> Callable[[Distribution], Draw]:
    """Draws at random, and keeps what was drawn: codes as they are, without the encoder's gradient beside them."""

    def drawing(q: Distribution) -> Draw:
        value = reparameterised(q)
        values.append(value)
        return Draw(value, lambda: q.log_prob(value))

    return drawing


def _sight(model: VAE, split: Split, plan: Plan) -> Latent:
    """The first latent of the first example."""
    batch = examples(split, torch.zeros(1, dtype=torch.int64, device=split.stored.device), plan)
    with measuring(model):
        return model.infer(batch.x, context=batch.context)[0]


def is_normal(q: Distribution) -> bool:
    """Whether it is a diagonal normal."""
    return isinstance(q, Independent) and isinstance(q.base_dist, Normal)


def moments(q: Distribution) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of a diagonal normal, float64, (K, B, L) each."""
    assert isinstance(q, Independent)
    return q.base_dist.loc.flatten(2).double(), q.base_dist.scale.flatten(2).double()


def _check(model: VAE, count: int, samples: int | None, components: int | None) -> None:
    if not model.bounded:
        raise ConfigError(
            "This model encodes to points, whose posterior has no density: its rate cannot be split. Take a model with a density, "
            "such as model=mlp."
        )
    if count < 2:
        raise ConfigError(f"The rate cannot be split on {count} example, expected 2 or more.")
    if samples is not None and samples < 1:
        raise ConfigError(f"samples is {samples}, expected 1 or more.")
    if components is not None and components < 2:
        raise ConfigError(f"components is {components}, expected 2 or more.")
