"""What data are inside vaekit: a `Dataset` of three `Split`s, and a `Batch` as the model sees it."""

# N examples, B batch, *x event of the data

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Transform = Callable[[Tensor], Tensor]


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
        stored: All examples in their storage type (uint8 for 8-bit images), shape (N, *x).
        transforms: Applied to a gathered batch, in order; the first makes it floating point.
        labels: int64, shape (N,), or None.
        conditions: float32, shape (N, F), or None.
    """

    stored: Tensor
    transforms: tuple[Transform, ...]
    labels: Tensor | None = None
    conditions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.stored)

    def batch(self, index: Tensor) -> Batch:
        """The examples at `index` (int64, shape (B,), on the split's device): one gather and the transforms."""
        x = self.stored.index_select(0, index)
        for transform in self.transforms:
            x = transform(x)
        labels = None if self.labels is None else self.labels.index_select(0, index)
        conditions = None if self.conditions is None else self.conditions.index_select(0, index)
        return Batch(x=x, labels=labels, index=index, conditions=conditions)

    def to(self, device: torch.device) -> Split:
        """The same split on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        conditions = None if self.conditions is None else self.conditions.to(device)
        return replace(self, stored=self.stored.to(device), labels=labels, conditions=conditions)


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
        remedies: What to write, by problem, when values do not fit a likelihood: "scale" for values outside [0, 1].
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
        """The split called `name`: train, validation or test."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        if name not in splits:
            raise ValueError(f"split is {name!r}, expected one of {', '.join(splits)}.")
        return splits[name]

    def fingerprint(self) -> str:
        """SHA-256 over the stored values, labels and conditions of the three splits: equal exactly if the data are equal."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(repr((str(split.stored.dtype), tuple(split.stored.shape))).encode())
            digest.update(split.stored.cpu().contiguous().reshape(-1).numpy().data)
            for given in (split.labels, split.conditions):
                if given is not None:
                    digest.update(given.cpu().contiguous().reshape(-1).numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device) -> Dataset:
        """The same data on another device."""
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )
