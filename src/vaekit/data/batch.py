"""What data are inside vaekit: a `Dataset` of three `Split`s, and a `Batch` as the model sees it."""

# N examples, B batch, *x event of the data

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.data.rows import Rows

Transform = Callable[[Tensor], Tensor]


class Restore(Protocol):
    """The way back from what a model sees to what the user gave: undone transforms, original names and types.

    Attributes:
        draws: Whether samples are to be drawn from p(x|z), as a mean of it is nothing that the user could have given.
    """

    @property
    def draws(self) -> bool: ...  # noqa: D102

    def decode(self, values: npt.NDArray[Any]) -> Any:
        """What the user would recognise, from values as a model puts them out, shape (N, *x)."""

    def write(self, values: npt.NDArray[Any], path: Path) -> Path:
        """Write that to a file called as `path`, with a suffix of its own; returns its path."""

    def state(self) -> dict[str, Any]:
        """All that is needed for it, for JSON."""


@dataclass(frozen=True)
class Batch:
    """A few examples, as the model and its likelihood see them.

    Attributes:
        x: Floating point, shape (B, *x).
        labels: Class numbers, int64, shape (B,), or None where the data have none.
        index: Positions in the split, int64, shape (B,).
        conditions: Numbers that the examples are conditioned on, floating point, shape (B, F), or None where there are none.
    """

    x: Tensor
    labels: Tensor | None
    index: Tensor
    conditions: Tensor | None = None

    @property
    def context(self) -> Tensor | None:
        """What a conditional model is given: the conditions where there are any, else the labels."""
        return self.labels if self.conditions is None else self.conditions


@dataclass(frozen=True)
class Split:
    """One part of a data set: held on one device in its storage type, transformed there a batch at a time.

    Attributes:
        stored: All examples in their storage type (uint8 for 8-bit images, sparse counts), shape (N, *x).
        transforms: Applied to a gathered batch, in order; the first makes it floating point.
        labels: int64, shape (N,), or None.
        conditions: float32, shape (N, F), or None.
        annotations: What else is known of each example and no model sees, by name: on the host, each of length N.
    """

    stored: Tensor | Rows
    transforms: tuple[Transform, ...]
    labels: Tensor | None = None
    conditions: Tensor | None = None
    annotations: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def dense(self) -> Tensor:
        """What is stored, of a split that stores a tensor."""
        assert isinstance(self.stored, Tensor)
        return self.stored

    def batch(self, index: Tensor) -> Batch:
        """The examples at `index` (int64, shape (B,), on the split's device): one gather and the transforms."""
        x = self.stored.index_select(0, index)
        for transform in self.transforms:
            x = transform(x)
        labels = None if self.labels is None else self.labels.index_select(0, index)
        conditions = None if self.conditions is None else self.conditions.index_select(0, index)
        return Batch(x=x, labels=labels, index=index, conditions=conditions)

    def part(self, index: Tensor) -> Split:
        """The examples at `index` (int64, on the split's device), in that order, as a split of their own."""
        stored = self.stored.part(index) if isinstance(self.stored, Rows) else self.stored.index_select(0, index)
        chosen = index.cpu().numpy()
        return Split(
            stored,
            self.transforms,
            None if self.labels is None else self.labels.index_select(0, index),
            None if self.conditions is None else self.conditions.index_select(0, index),
            {name: values[chosen] for name, values in self.annotations.items()},
        )

    def order(self, generator: torch.Generator) -> Tensor:
        """The order of an epoch, int64, shape (N,): each example once. Drawn on the CPU, so that it is the same on every device."""
        stored = self.stored
        return stored.order(generator) if isinstance(stored, Rows) else torch.randperm(len(stored), generator=generator)

    def to(self, device: torch.device) -> Split:
        """The same split on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        conditions = None if self.conditions is None else self.conditions.to(device)
        return replace(self, stored=self.stored.to(device), labels=labels, conditions=conditions)

    def double(self) -> Split:
        """The same split, whose batches are float64: the same values, and the same noise in them."""
        conditions = None if self.conditions is None else self.conditions.double()
        return replace(self, transforms=(*self.transforms, torch.Tensor.double), conditions=conditions)


@dataclass(frozen=True)
class Dataset:
    """Three splits with one event shape, and what a reader of the numbers must know about them.

    Attributes:
        name: As in the catalogue, or the name of the file or folder.
        train: Parameters are fitted to these.
        validation: Model selection looks at these.
        test: Reported numbers come from these only.
        description: Sizes, scaling, binarisation and split, in a sentence.
        class_names: Names of the labels, empty where there are none.
        binary: Whether every value that a model sees is 0 or 1.
        low: Smallest value that a model can see.
        high: Largest value that a model can see.
        levels: M where every value is one of 0, 1/(M-1), ..., 1, as those of 8-bit images are with M = 256; None otherwise.
        remedies: What to write, by problem, when values do not fit a likelihood: "scale" for values outside [0, 1], "counts" for
            what is no count any more, "logarithm" for counts under a density.
        counts: Whether every value is a number of things that were counted.
        feature_names: Of the columns of a table or the genes of a cell, empty for images.
        num_batches: Of the conditions, how many (from the second on) are the unit vector of an experimental batch.
        ood: Examples that were set aside because they differ from the others, or None.
        columns: Of a table, how its columns lie in an example: 0 for a number, -1 for a number that may be missing (its value, and
            1 where it is observed), k of 2 or more for a category (a unit vector of length k). None for other data.
        restore: How values of a model become those that the user gave, where that is not what they are already.
        target: Of a table, the column that the labels are of, or None.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    description: str
    binary: bool
    low: float
    high: float
    class_names: tuple[str, ...] = ()
    levels: int | None = None
    remedies: dict[str, str] = field(default_factory=dict)
    counts: bool = False
    feature_names: tuple[str, ...] = ()
    num_batches: int = 0
    ood: Split | None = None
    columns: tuple[int, ...] | None = None
    restore: Restore | None = None
    target: str | None = None

    @property
    def num_conditions(self) -> int:
        """Numbers that an example is conditioned on, F; 0 where there are none."""
        return 0 if self.train.conditions is None else self.train.conditions.shape[1]

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one example, (C, H, W) for images and (F,) for tables."""
        return self.train.stored.shape[1:]

    @property
    def num_classes(self) -> int:
        """Classes that the labels tell apart; 0 without labels."""
        if self.train.labels is None:
            return 0
        return len(self.class_names) or 1 + max(
            int(part.labels.max()) for part in self.splits if part.labels is not None
        )

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Training, validation and test part."""
        return self.train, self.validation, self.test

    def contexts(self, count: int) -> Tensor | None:
        """What to condition `count` generated examples on, one after the other; None where examples have nothing of the kind.

        The conditions of the first test examples, from the first again when there are no more, shape (count, F); else the
        classes in turn, int64, shape (count,).
        """
        number = torch.arange(count, device=self.test.stored.device)
        if self.test.conditions is not None:
            return self.test.conditions.index_select(0, number % len(self.test))
        return number % self.num_classes if self.num_classes else None

    def split(self, name: str) -> Split:
        """The split called `name`: train, validation, test, or ood where examples were set aside."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        if self.ood is not None:
            splits["ood"] = self.ood
        if name not in splits:
            raise ValueError(f"split is {name!r}, expected one of {', '.join(splits)}.")
        return splits[name]

    def fingerprint(self) -> str:
        """SHA-256 over the stored values, labels and conditions of the three splits: equal exactly if the data are equal."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(repr((str(split.stored.dtype), tuple(split.stored.shape))).encode())
            if isinstance(split.stored, Rows):
                split.stored.digest(digest.update)
            else:
                digest.update(split.stored.cpu().contiguous().reshape(-1).numpy().data)
            for given in (split.labels, split.conditions):
                if given is not None:
                    digest.update(given.cpu().contiguous().reshape(-1).numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device) -> Dataset:
        """The same data on another device."""
        train, validation, test = (split.to(device) for split in self.splits)
        ood = None if self.ood is None else self.ood.to(device)
        return replace(self, train=train, validation=validation, test=test, ood=ood)

    def double(self) -> Dataset:
        """The same data with batches in float64."""
        train, validation, test = (split.double() for split in self.splits)
        ood = None if self.ood is None else self.ood.double()
        return replace(self, train=train, validation=validation, test=test, ood=ood)
