"""Principal components of data that are never dense as a whole, and what a nearest neighbour makes of them: the baseline."""

# N examples, B batch, F features, D components

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.data.batch import Dataset, Split
from vaekit.evaluation.labels import knn_accuracy
from vaekit.evaluation.passes import Plan, batches
from vaekit.evaluation.units import Estimate

# directions beside those that are wanted, and rounds of the iteration
_SPARE, _ROUNDS = 10, 7


@dataclass(frozen=True)
class Components:
    """The directions in which data vary most.

    Attributes:
        mean: Of the data, (F,).
        directions: Orthonormal columns, the first that of the largest variance, (F, D).
        total: Counts that every cell is scaled to before the logarithm; None for data that are taken as they are.
    """

    mean: Tensor
    directions: Tensor
    total: float | None

    def project(self, split: Split, plan: Plan) -> Tensor:
        """Coordinates of every example, (N, D), float64 on the CPU."""
        return torch.cat([((x - self.mean) @ self.directions).cpu() for x in _rows(split, plan, self.total)])


def principal_components(dataset: Dataset, components: int, plan: Plan) -> Components:
    """The first principal components of the training part, by randomised subspace iteration over batches.

    Counts are scaled to the median total of a training cell, and their log1p is taken; other data are taken as they are. Memory:
    F (D + 10) numbers beside a batch.

    Arguments:
        dataset: Whose training part.
        components: D.
        plan: Batch size and seed.

    Raises:
        ValueError: If there are fewer training examples or features than components.

    References:
        | Finding Structure with Randomness (Halko, Martinsson and Tropp, 2011), algorithm 4.4
        | https://arxiv.org/abs/0909.4061
    """
    train, width = dataset.train, dataset.event_shape.numel()
    if not 1 <= components <= min(len(train), width):
        raise ValueError(
            f"components is {components}, expected a number from 1 to {min(len(train), width)}, the smaller number of training "
            "examples and features."
        )
    total = _median_total(train, plan) if dataset.counts else None
    device = train.stored.device
    mean = torch.zeros(width, dtype=torch.float64, device=device)
    for x in _rows(train, plan, total):
        mean += x.sum(0)
    mean /= len(train)
    size = min(components + _SPARE, width)
    start = torch.randn(width, size, dtype=torch.float64, generator=torch.Generator().manual_seed(plan.seed))
    basis = torch.linalg.qr(start.to(device)).Q
    image = basis
    for _ in range(_ROUNDS):
        image = torch.zeros_like(basis)
        for x in _rows(train, plan, total):
            centred = x - mean
            image += centred.T @ (centred @ basis)
        basis, before = torch.linalg.qr(image).Q, basis
    # within the span of the last but one basis, the directions of the covariance itself
    values, vectors = torch.linalg.eigh(before.T @ image)
    best = values.argsort(descending=True)[:components]
    return Components(mean, before @ vectors[:, best], total)


def baseline(dataset: Dataset, components: int = 50, split: str = "test", plan: Plan | None = None) -> Estimate:
    """Accuracy of 15 nearest neighbours in principal components: what a latent space has to be better than.

    Arguments:
        dataset: With labels.
        components: D, at most what the data have.
        split: Whose classes are guessed from the training part.
        plan: Batch size and seed.

    Raises:
        ValueError: If the data have no labels.
    """
    plan = Plan() if plan is None else plan
    held, train = dataset.split(split), dataset.train
    if train.labels is None or held.labels is None:
        raise ValueError(f"{dataset.name} has no labels, and the baseline guesses them. Write data.labels=COLUMN.")
    components = min(components, len(train), dataset.event_shape.numel())
    found = principal_components(dataset, components, plan)
    scaled = "" if found.total is None else " of log1p counts"
    return knn_accuracy(
        found.project(train, plan), train.labels, found.project(held, plan), held.labels,
        what=f"{components} principal components{scaled}",
    )  # fmt: skip


def _rows(split: Split, plan: Plan, total: float | None) -> Iterator[Tensor]:
    for batch in batches(split, plan):
        x = batch.x.flatten(1).double()
        yield x if total is None else torch.log1p(x * (total / x.sum(1, keepdim=True).clamp_min(1.0)))


def _median_total(split: Split, plan: Plan) -> float:
    return float(torch.cat([batch.x.flatten(1).double().sum(1).cpu() for batch in batches(split, plan)]).median())
