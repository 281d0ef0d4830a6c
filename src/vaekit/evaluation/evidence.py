"""Importance-weighted bounds on the evidence for any number of draws, and how many of the draws carry them."""

# K draws of a bound, M draws in all, G groups of K draws, B batch, N examples

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vaekit.data.batch import Batch, Split
from vaekit.distributions.pyramid import Pyramid
from vaekit.errors import ConfigError
from vaekit.evaluation.each import Ledger, Tell, each
from vaekit.evaluation.passes import Plan, traces
from vaekit.evaluation.units import Estimate, mean
from vaekit.math.importance import effective_sample_size, importance_bound
from vaekit.models.vae import VAE

DRAWS = (1, 50, 500, 5000)
MOST_DRAWS = 1_000_000
# with fewer effective draws, the bound of an example lacks more than 1 / (2 FEW) nats, and how much more nobody can say
FEW = 10.0
# share of such examples from which on a bound is called loose
_MANY = 0.05
# decoded values between two moments at which a measurement can be stopped without losing anything
_VALUES_AT_ONCE = 1 << 25


def evidence_estimates(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    draws: Sequence[int] = DRAWS,
    keep: Callable[[str, Mapping[str, Any]], Ledger] | None = None,
    tell: Tell | None = None,
) -> dict[str, Estimate]:
    r"""The importance-weighted bound for several K, from one pass of M = max K draws for each example.

    .. math:: \mathcal{L}_K = E \log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k | x)} \;\le\; \mathcal{L}_{K+1} \;\le\; \log p(x)

    The M draws of an example are cut into G = M // K disjoint groups of K, and its bound is the mean of their bounds: as unbiased
    for :math:`\mathcal{L}_K` as that of one group, with a G-th of its variance. Where one K divides the next and all divide M, the
    bounds rise for every single example, by Jensen's inequality, whatever was drawn.

    Memory is bounded for any K: the decoder sees as many draws at a time as fit, and of a draw only its weight is kept, in float64.
    All M draws are used, whatever the size of these pieces.

    Arguments:
        model: With a density q(z|x).
        split: The examples.
        plan: Batch size and seed; its number of samples counts for nothing.
        draws: The K, in any order.
        keep: From a name and settings to the ledger that makes this resumable.
        tell: Called with how many examples are done, of how many.

    Returns:
        `iwae_K` in nats for each K, and `ess_K`, the effective number of draws, for each above 1. For a model of an image at
        several resolutions also `iwae_image_K`, of the image alone.

    Raises:
        ConfigError: If the model has no density, or a K is not from 1 to 1,000,000.

    References:
        | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), equations 8 and 9
        | https://arxiv.org/abs/1509.00519
        | Debiasing Evidence Approximations (Nowozin, 2018), proposition 1, for what a bound lacks to first order in 1/K
        | https://openreview.net/forum?id=HyZoi-WRb
    """
    if not model.bounded:
        raise ConfigError(
            "This model encodes to points, without a density q(z|x): no bound on log p(x) holds for it. Train one with "
            "posterior=normal."
        )
    draws = checked(draws)
    most = draws[-1]
    # the noise is each example's own, so that the size of a batch changes nothing but when the work can be put down
    size = max(1, min(plan.batch_size, _VALUES_AT_ONCE // (most * model.event_shape.numel())))
    single = replace(plan, samples=most, batch_size=size)
    ledger = None if keep is None else keep("bounds", {"draws": list(draws)})
    columns = each(model, split, single, _Weigh(draws), ledger=ledger, tell=tell)
    found: dict[str, Estimate] = {}
    for k in draws:
        words = f"log of the mean of K = {k:,} importance weights{_groups(k, most)}"
        for name, of in (("iwae", ""), ("iwae_image", ", of the image alone")):
            if f"{name}_{k}" in columns:
                said = f"{words}{of}; {_lacks(columns, name.removeprefix('iwae'), k, most)}"
                found[f"{name}_{k}"] = mean(columns[f"{name}_{k}"], "nats", said)
    for k in draws:
        if k > 1:
            found[f"ess_{k}"] = _effective(columns[f"ess_{k}"], k, most)
    return found


def checked(draws: Sequence[int]) -> tuple[int, ...]:
    """The numbers of draws in rising order, each once.

    Raises:
        ConfigError: If there are none, or one is not from 1 to 1,000,000.
    """
    wrong = [k for k in draws if not 1 <= k <= MOST_DRAWS]
    if wrong or not draws:
        said = f"{wrong[0]:,} draws" if wrong else "no number of draws"
        raise ConfigError(f"A bound from {said}: expected numbers from 1 to {MOST_DRAWS:,}, such as 1,50,5000.")
    return tuple(sorted(set(draws)))


class _Weigh:
    """Measures a batch: the bounds and effective draws of its examples.

    Arguments:
        draws: The K, rising.
    """

    def __init__(self, draws: tuple[int, ...]) -> None:
        self.draws = draws

    def __call__(self, model: VAE, batch: Batch, plan: Plan) -> dict[str, Tensor]:
        """Columns of shape (B,)."""
        weights: dict[str, list[Tensor]] = {}
        for trace in traces(model, batch, plan):
            # terms of a hundred nats each: their sum in float32 would have errors of 1e-5
            ratio = torch.stack([latent.log_p.cpu().double() - latent.log_q.cpu().double() for latent in trace.latents])
            weights.setdefault("", []).append(trace.log_px.cpu().double() + ratio.sum(0))
            if isinstance(trace.px, Pyramid):
                finest = trace.px.finest_log_prob(trace.x).cpu().double()
                weights.setdefault("_image", []).append(finest + ratio.sum(0))
        columns: dict[str, Tensor] = {}
        for of, parts in weights.items():
            log_w = torch.cat(parts)  # (M, B): 8 bytes a draw, and the decoded values are gone
            for k in self.draws:
                groups = _grouped(log_w, k)
                columns[f"iwae{of}_{k}"] = importance_bound(groups).mean(0)
                columns[f"ess{of}_{k}"] = effective_sample_size(groups).mean(0)
        return columns


def _grouped(log_w: Tensor, k: int) -> Tensor:
    """Weights (M, B) as (K, G, B): draws that fill no group are left out, of this K alone."""
    groups = len(log_w) // k
    return log_w[: groups * k].reshape(groups, k, -1).transpose(0, 1)


def _groups(k: int, most: int) -> str:
    return f", mean of {most // k:,} disjoint groups" if most // k > 1 else ""


def _lacks(columns: Mapping[str, Tensor], of: str, k: int, most: int) -> str:
    """What the bound lacks, in words: by the variance of the M weights, to first order in 1/M, and by what M draws add to K."""
    bound, effective = "a lower bound on log p(x)", columns[f"ess{of}_{most}"]
    if most == 1:
        return f"{bound}: the ELBO"
    if bool((effective > most * (1 - 1e-6)).all()):
        return f"{bound}; all weights of an example are equal, and more draws change nothing"
    rise = float((columns[f"iwae{of}_{most}"] - columns[f"iwae{of}_{k}"]).mean())
    few = float((effective < FEW).double().mean())
    if few > _MANY and k == most:
        return (
            f"{bound}, and a loose one: {100 * few:.0f} % of the examples have fewer than {FEW:g} effective draws, and what it "
            "lacks cannot be told from them; take more draws, or anneal"
        )
    if few > _MANY:
        return f"{bound}, too low by {rise:.2g} nats or more"
    lacking = rise + float((most / effective - 1.0).mean()) / (2 * most)
    how = "by the variance of the weights" if k == most else f"by what {most:,} draws give"
    return f"{bound}, too low by about {lacking:.2g} nats {how}"


def _effective(values: Tensor, k: int, most: int) -> Estimate:
    low = float(values.quantile(0.05)) if not bool(values.isnan().any()) else float("nan")
    share = 100 * float(values.mean()) / k
    words = (
        f"1 / sum of squared normalised weights of {k:,} draws{_groups(k, most)}: {_short(share, 2)} % of them; one example in "
        f"twenty has {_short(low, 3)} or fewer"
    )
    return mean(values, "draws", words)


def _short(value: float, digits: int) -> str:
    """With so many digits, and whole where it is longer than that: 5,000 and not 5e+03."""
    return f"{value:,.0f}" if value >= 10**digits - 0.5 else f"{value:.{digits}g}"
