"""How examples are divided into training, validation and test parts."""

# N examples, *x event of the data

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.data.batch import Split, Transform
from vaekit.data.randomness import generator

Indices = tuple[Tensor, Tensor, Tensor]

PART_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}  # as others write them


def divide(stored: Tensor, labels: Tensor | None, indices: Indices, scale: Transform) -> tuple[Split, Split, Split]:
    """Training, validation and test part of the examples, by their positions."""
    train, validation, test = (take(stored, labels, index, scale) for index in indices)
    return train, validation, test


def take(stored: Tensor, labels: Tensor | None, index: Tensor, scale: Transform) -> Split:
    """The examples at `index` (int64), in that order, as a split of their own."""
    chosen = None if labels is None else labels.index_select(0, index)
    return Split(stored=stored.index_select(0, index), transforms=(scale,), labels=chosen)


def consecutive(train: int, validation: int, test: int) -> Indices:
    """The first `train` examples, the next `validation`, the next `test`: for data in the order of time."""
    index = torch.arange(train + validation + test)
    return index[:train], index[train : train + validation], index[train + validation :]


def random_split(n: int, validation: float, test: float, seed: int) -> Indices:
    """A random split of n examples into three parts, each in the order of the file.

    Arguments:
        n: Number of examples.
        validation: Fraction of the n, in (0, 1); rounded, and at least one example. Likewise `test`.
        test: Fraction for the test part.
        seed: Equal seeds give equal splits.

    Raises:
        ValueError: If a fraction is not in (0, 1), or the three parts cannot all have an example.
    """
    return _shuffled(n, (part_size(n, validation, "validation"), part_size(n, test, "test")), seed)


def part_size(n: int, fraction: float, name: str) -> int:
    """Number of examples in a part that has `fraction` of the n: rounded, and at least one."""
    if not 0 < fraction < 1:
        raise ValueError(
            f"data.{name} is {fraction}, expected a fraction between 0 and 1, for example data.{name}=0.1."
        )
    return max(1, round(n * fraction))


def _shuffled(n: int, sizes: tuple[int, int], seed: int) -> Indices:
    validation, test = sizes
    train = n - validation - test
    if train < 1:
        raise ValueError(
            f"{n} examples leave {max(train, 0)} for training beside {validation} for validation and {test} for testing; "
            "expected at least one in each. Give more examples, or smaller data.validation and data.test."
        )
    order = torch.randperm(n, generator=generator("random split", seed))
    parts = order[:train], order[train : train + validation], order[train + validation :]
    return parts[0].sort().values, parts[1].sort().values, parts[2].sort().values


def hold_out(n: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """A random division of n examples into (the rest, `fraction` of them for validation), each in the order of the file."""
    validation = part_size(n, fraction, "validation")
    if validation >= n:
        raise ValueError(
            f"{n} training examples leave none beside {validation} for validation. Give more examples, or a validation array."
        )
    order = torch.randperm(n, generator=generator("random split", seed))
    return order[validation:].sort().values, order[:validation].sort().values
