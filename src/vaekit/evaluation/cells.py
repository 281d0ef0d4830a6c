"""How like the data the reconstructions of vectors are: cells by their genes, rows of a table by their columns, images by pixels.

One pass over a split, a batch at a time: what is kept is one number for each example and a few for each feature, never a matrix of
both.
"""

# N examples, B batch, F features (values of one example), G groups of examples

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.data.batch import Batch, Dataset, Split
from vaekit.data.expression import CellRestore
from vaekit.distributions.counts import NegativeBinomial
from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import PerExample, use
from vaekit.evaluation.passes import Plan, batches, measuring
from vaekit.evaluation.units import Estimate, mean
from vaekit.math.jackknife import jackknife_error
from vaekit.models.vae import VAE

# parts that a split is divided into for the standard errors of numbers that are no mean over examples
GROUPS = 10
# noise of the draws here is independent of that of every other pass
_DRAWS = 3 << 16
# expected counts below it are taken for it: one count where a model puts none would cost it without bound
LEAST_MEAN = 1e-4
# of dispersions
_FLATTEST, _STEEPEST = 1e-3, 1e6


@dataclass(frozen=True)
class Moments:
    """What the examples of a set have in each feature, each of shape (F,), float64 on the CPU.

    Attributes:
        mean: Means.
        variance: Variances over the examples, divided by N.
        zeros: Shares of the examples whose value is at most the threshold for a zero.
    """

    mean: Tensor
    variance: Tensor
    zeros: Tensor


@dataclass(frozen=True)
class Reconstructed:
    """One split beside its reconstructions at the posterior mean.

    Attributes:
        squared: Mean squared error of each example over its features, (N,).
        correlation: Pearson correlation of each example with its reconstruction over the features, (N,); nan where either is
            the same for all features.
        sums: Of the examples and of their reconstructions, by group of examples, (2, G, F).
        sizes: Examples in each group, (G,).
        original: Moments of the data.
        drawn: Moments of one draw from p(x|z) for each example, z from q(z|x); None where none were asked for.
    """

    squared: Tensor
    correlation: Tensor
    sums: Tensor
    sizes: Tensor
    original: Moments
    drawn: Moments | None


def reconstructed(model: VAE, split: Split, plan: Plan, *, draws: bool = True, zero: float = 0.0) -> Reconstructed:
    """Compare every example of a split with its reconstruction, and the features of all with those of draws from the model.

    Numbers do not depend on `plan.batch_size`, but for rounding. Memory: (4 + 2 G) F numbers beside a batch.

    Arguments:
        model: Trained.
        split: Whose examples.
        plan: Batch size and seed; its number of samples counts for nothing.
        draws: Whether values are drawn from p(x|z): the noise of a value is part of a gene's variance and of its zeros, and means
            have none.
        zero: What is at most this counts as a zero.
    """
    count = len(split)
    groups = min(GROUPS, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(plan.seed))
    member = torch.empty(count, dtype=torch.int64)
    member[order] = torch.arange(count) % groups
    width = model.event_shape.numel()
    sums = torch.zeros(2, groups, width, dtype=torch.float64)
    original, drawn = _Running(width, zero), _Running(width, zero)
    squared, correlation = [], []
    with measuring(model):
        for batch in batches(split, plan):
            x = batch.x.flatten(1).double()
            made = model.reconstruct(batch.x, batch.context).flatten(1).double()
            squared.append((x - made).square().mean(1).cpu())
            correlation.append(pearson(x, made).cpu())
            for place, values in enumerate((x, made)):
                sums[place].index_add_(0, member[batch.index.cpu()], values.cpu())
            original.add(x)
            if draws:
                with use(PerExample(plan.seed, batch.index, stream=_DRAWS)):
                    px = model(batch.x, 1, batch.context).px
                    drawn.add(reparameterised(px)[0].flatten(1).double())
    return Reconstructed(
        torch.cat(squared),
        torch.cat(correlation),
        sums,
        torch.bincount(member, minlength=groups),
        original.moments(),
        drawn.moments() if draws else None,
    )


class _Running:
    """Sums over examples of each feature."""

    def __init__(self, width: int, zero: float) -> None:
        self.zero, self.count = zero, 0
        self.sums = torch.zeros(3, width, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        self.count += len(values)
        for place, part in enumerate((values, values.square(), (values <= self.zero).double())):
            self.sums[place] += part.sum(0).cpu()

    def moments(self) -> Moments:
        mean, square, zeros = self.sums / self.count
        return Moments(mean, (square - mean.square()).clamp_min(0.0), zeros)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    r"""Correlation of the rows of two matrices, :math:`\sum (a - \bar a)(b - \bar b) / (|a - \bar a| |b - \bar b|)`.

    Arguments:
        a: Shape (*, F).
        b: Likewise.

    Returns:
        Shape (*,), in [-1, 1]; nan where a row has one value only, and the correlation has none.
    """
    a, b = _unit(a.double()), _unit(b.double())
    return (a * b).sum(-1).clamp(-1.0, 1.0)


def _unit(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(-1, keepdim=True)
    # rounding leaves a constant row a spread of about one unit in the last place of its values
    constant = (rows == rows[..., :1]).all(-1, keepdim=True)
    length: Tensor = centred.square().sum(-1, keepdim=True).sqrt()
    return centred / length.masked_fill(constant, math.nan)


def reconstruction_numbers(found: Reconstructed, space: str) -> dict[str, Estimate]:
    """`mse`, `pearson_cell` and `pearson_gene_mean`, each with its standard error.

    Arguments:
        found: A split beside its reconstructions.
        space: What the values are, in words, such as "counts" or "log1p": none of these numbers compares between two spaces.

    Returns:
        `mse`: mean over features and examples. `pearson_cell`: mean over examples of the correlation across features of an example
        and its reconstruction, without those for which it has no value; left out where it has none for all. `pearson_gene_mean`:
        correlation across features of the examples' mean and their reconstructions' mean, with the error of a jackknife over ten
        random groups of examples; left out where it has no value.
    """
    where = f"at the posterior mean, of {space}"
    numbers = {"mse": mean(found.squared, "1", f"mean over features; reconstructions {where}")}
    defined = found.correlation.isfinite()
    if bool(defined.any()):
        left_out = int((~defined).sum())
        said = f"; {left_out:,} examples without one left out" if left_out else ""
        words = f"correlation across features of an example and its reconstruction {where}, mean over examples{said}"
        numbers["pearson_cell"] = mean(found.correlation[defined], "1", words)
    value = _gene_means(found.sums.sum(1), found.sizes.sum())
    if math.isfinite(value):
        numbers["pearson_gene_mean"] = Estimate(
            value,
            _jackknifed(found),
            "1",
            int(found.sizes.sum()),
            f"correlation across features of the mean example and the mean reconstruction {where}; "
            f"standard error: jackknife over {len(found.sizes)} groups of examples",
        )
    return numbers


def _gene_means(sums: Tensor, count: Tensor) -> float:
    original, made = sums / count
    return float(pearson(original, made))


def _jackknifed(found: Reconstructed) -> float:
    groups = len(found.sizes)
    if groups < 2:
        return math.nan
    total, count = found.sums.sum(1), found.sizes.sum()
    without = [_gene_means(total - found.sums[:, group], count - found.sizes[group]) for group in range(groups)]
    return jackknife_error(torch.tensor(without, dtype=torch.float64))


def peak_signal_to_noise(squared: Tensor, span: float) -> Estimate:
    r"""PSNR of images, :math:`10 \log_{10}(\text{span}^2 / \text{MSE})` in dB, mean of the examples' own.

    Arguments:
        squared: Mean squared error of each image, (N,).
        span: Greatest possible value less the least.
    """
    words = f"data range {span:g}, mean of the examples' own; reconstructions at the posterior mean"
    return mean(10.0 * torch.log10(span**2 / squared.double()), "dB", words)


@dataclass(frozen=True)
class Recovered:
    r"""The counts behind cells that a model sees as expression, and the counts that its reconstructions stand for.

    With l the library of a cell, the sum of its counts over the features, and y its expression before any logarithm, the counts are
    :math:`l\, y / \sum_f y_f`: the scale of the expression cancels.

    Attributes:
        restore: From expression back to counts per target.
    """

    restore: CellRestore

    def counts(self, split: Split, batch: Batch) -> Tensor:
        """Of the examples of a batch, (B, F), float64: whole numbers."""
        stored = split.stored.index_select(0, batch.index).double()
        return self._scaled(torch.expm1(stored) if self.restore.logarithm else stored, batch).round()

    def means(self, reconstructed: Tensor, batch: Batch) -> Tensor:
        """Expected counts, (B, F), float64, at least 1e-4: from reconstructions (B, F), whose values below 0 are 0."""
        decoded = torch.from_numpy(self.restore.decode(reconstructed.cpu().numpy())).to(reconstructed.device)
        return self._scaled(decoded.clamp_min(0.0), batch).clamp_min(LEAST_MEAN)

    def _scaled(self, amounts: Tensor, batch: Batch) -> Tensor:
        assert batch.conditions is not None
        library = batch.conditions[:, :1].double().exp()
        return amounts * (library / amounts.sum(1, keepdim=True).clamp_min(1e-300))


def recovered(dataset: Dataset) -> Recovered | None:
    """How counts come back from these data; None where they are no expression of counts."""
    known = isinstance(dataset.restore, CellRestore) and dataset.num_conditions > 0
    return Recovered(dataset.restore) if known and isinstance(dataset.restore, CellRestore) else None


def fitted_dispersion(model: VAE, split: Split, plan: Plan, way: Recovered) -> Tensor:
    r"""Dispersions with which counts scatter around the means that a model of their expression reconstructs, by moments.

    .. math:: \theta_g = \sum_i \mu_{ig}^2 \Big/ \sum_i \left[ (c_{ig} - \mu_{ig})^2 - \mu_{ig} \right]

    from :math:`\mathrm{Var}(c) = \mu + \mu^2 / \theta`, held between 1e-3 and 1e6: a gene that scatters no more than a Poisson
    variable has the latter.

    Arguments:
        model: Of expression.
        split: The training part.
        plan: Batch size.
        way: Back to counts.

    Returns:
        Shape (F,), float64 on the CPU.
    """
    squares = torch.zeros(model.event_shape.numel(), dtype=torch.float64)
    excess = torch.zeros_like(squares)
    with measuring(model):
        for batch in batches(split, plan):
            counts, mu = way.counts(split, batch), way.means(model.reconstruct(batch.x, batch.context), batch)
            squares += mu.square().sum(0).cpu()
            excess += ((counts - mu).square() - mu).sum(0).cpu()
    steepest = torch.full_like(squares, _STEEPEST)
    return torch.where(excess > 0, squares / excess.clamp_min(1e-300), steepest).clamp(_FLATTEST, _STEEPEST)


def fitted_counts_nll(model: VAE, train: Split, split: Split, plan: Plan, way: Recovered) -> Estimate:
    """-log p of the counts for a model that knows only their expression: as if they were negative binomial around its means.

    A density of real numbers and a probability of counts do not compare. This takes the reconstructions for expected counts, with
    the dispersions of `fitted_dispersion`, and asks for the probability of the counts under these.

    Arguments:
        model: Of expression.
        train: What the dispersions are fitted to.
        split: Whose counts are scored.
        plan: Batch size.
        way: Back to counts.

    Returns:
        Nats per cell.
    """
    log_theta = fitted_dispersion(model, train, plan, way).log()
    rows = []
    with measuring(model):
        for batch in batches(split, plan):
            mu = way.means(model.reconstruct(batch.x, batch.context), batch)
            px = NegativeBinomial(mu.log(), log_theta.to(mu), event_dims=1)
            rows.append(-px.log_prob(way.counts(split, batch)).cpu())
    words = (
        "-log p of the counts under negative binomials around the reconstructions at the posterior mean, scaled to the cell's "
        f"library, at least {LEAST_MEAN:g}; dispersion per gene fitted to the training part by moments"
    )
    return mean(torch.cat(rows), "nats", words)


def likelihood_of_counts(name: str, metrics: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """`counts_nll` of a model of counts, which is its reconstruction term.

    Arguments:
        name: Of its likelihood.
        metrics: With `reconstruction`.
    """
    found = metrics.get("reconstruction")
    if found is None:
        return {}
    words = f"-log p of the counts under {name}; {found.estimator}"
    return {"counts_nll": Estimate(found.value, found.standard_error, found.unit, found.n, words)}
