"""The one door into the library: splits with known values come out as a `Dataset`, or an error says what to write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from vaekit.data.augment import Augmentation
from vaekit.data.batch import Dataset, Split
from vaekit.data.randomness import generator
from vaekit.data.resize import check_resolution, fit_description, fit_square
from vaekit.data.transforms import Binarisation, Scale, Static, ToLevels, binarisation_named, value_range

_Splits = tuple[Split, Split, Split]


@dataclass(frozen=True)
class Parts:
    """What a reader of files hands over: three scaled splits and how they came about.

    Attributes:
        splits: Training, validation and test part, each with the transform that scales it.
        scaling: How stored values became what a model sees, as part of a sentence.
        splitting: How the three were chosen, as part of a sentence.
        class_names: Names of the labels, empty where there are none.
        notes: What else a reader of numbers must know, each a part of a sentence.
    """

    splits: _Splits
    scaling: str
    splitting: str
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wishes:
    """What a user wants of the data, whatever files they come from.

    Attributes:
        binarisation: A name in `BINARISATIONS`.
        seed: Of the draws that a static binarisation makes, one independent stream for each split.
        resolution: Side of the squares that all images become, None to leave their size.
        augmentation: How training images are changed each time they are shown, in this order; None for not at all.
    """

    binarisation: str = "none"
    seed: int = 0
    resolution: int | None = None
    augmentation: Mapping[str, Augmentation] | None = None


def admit(name: str, parts: Parts, wishes: Wishes, *, rescale: str = "") -> Dataset:
    """The data set made of `parts`: resized, its values looked at, the training part augmented, and binarised.

    Arguments:
        name: Of the data set.
        parts: The three splits.
        wishes: What is to be done with them.
        rescale: What a user writes to get values into [0, 1], if values lie outside and dividing would do; may be empty.

    Raises:
        ValueError: If the values lie outside [0, 1] and are to be binarised, tables are to be resized or augmented, or an
            augmentation would make binary values grey.
    """
    method = binarisation_named(wishes.binarisation)
    parts = parts if wishes.resolution is None else _resized(name, parts, wishes.resolution)
    ranges = [value_range(split) for split in parts.splits]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    remedies = _remedies(low, high, rescale)
    if method.binary:
        _must_be_probabilities(name, low, high, wishes.binarisation, remedies)
    binary = method.binary or all(r[2] for r in ranges)
    levels = 2 if method.binary else _levels(parts.splits)
    train, validation, test = (
        method.apply(split, generator(f"static binarisation of part {number}", wishes.seed))
        for number, split in enumerate(parts.splits)
    )
    changes = tuple((wishes.augmentation or {}).items())
    _must_be_augmentable(name, train, changes, method, grey=binary and levels != 2)
    return Dataset(
        name=name,
        train=_augmented(train, tuple(change for _, change in changes), None if method.binary else levels),
        validation=validation,
        test=test,
        description=_description(name, parts, method, [change.description for _, change in changes]),
        binary=binary,
        low=0.0 if method.binary else low,
        high=1.0 if method.binary else high,
        class_names=parts.class_names,
        levels=levels,
        remedies=remedies,
    )


def _resized(name: str, parts: Parts, resolution: int) -> Parts:
    check_resolution(resolution)
    shape = parts.splits[0].stored.shape[1:]
    if len(shape) != 3:
        raise ValueError(
            f"data.resolution={resolution} expects images, received a table of {shape[0]} features from {name}; leave it out."
        )
    train, validation, test = (replace(split, stored=fit_square(split.dense, resolution)) for split in parts.splits)
    words = fit_description((shape[1], shape[2]), resolution)
    return replace(
        parts, splits=(train, validation, test), scaling=f"{parts.scaling}; {words}" if words else parts.scaling
    )


def _levels(splits: _Splits) -> int | None:
    """M where bytes are divided by M - 1 and none is larger: told by the type and the divisor, not by comparing quotients."""
    divisors = {t.divisor for split in splits for t in split.transforms if isinstance(t, Scale)}
    divisor = divisors.pop() if len(divisors) == 1 else 0.0
    if any(split.stored.dtype != torch.uint8 for split in splits) or not 1 <= divisor <= 255 or divisor % 1:
        return None
    return int(divisor) + 1 if max(int(split.dense.max()) for split in splits) <= divisor else None


def _augmented(split: Split, changes: tuple[Augmentation, ...], levels: int | None) -> Split:
    """The split with the changes behind its scaling, before any binarisation; new values return to the levels of the data."""
    scale, *rest = split.transforms
    rounded = [ToLevels(levels)] if levels is not None and any(change.resamples for change in changes) else []
    return replace(split, transforms=(scale, *changes, *rounded, *rest))


def _must_be_augmentable(
    name: str, split: Split, changes: tuple[tuple[str, Augmentation], ...], method: Binarisation, *, grey: bool
) -> None:
    if changes and split.stored.dim() != 4:
        raise ValueError(
            f"data.augmentation expects images, received a table of {split.stored.shape[1]} features from {name}; leave it out."
        )
    for key, change in changes:
        if change.resamples and (isinstance(method, Static) or (grey and not method.binary)):
            raise ValueError(
                f"data.augmentation.{key} makes values between those of neighbouring pixels, and the pixels of {name} are 0 or 1 "
                "already. Write data.binarisation=threshold or dynamic, which come after it, or leave it out."
            )


def _remedies(low: float, high: float, rescale: str) -> dict[str, str]:
    return {"scale": rescale} if rescale and low >= 0 and high > 1 else {}


def _must_be_probabilities(name: str, low: float, high: float, binarisation: str, remedies: dict[str, str]) -> None:
    if low >= 0 and high <= 1:
        return
    remedy = remedies.get("scale", "")
    fix = f"Write {remedy}, or data.binarisation=none." if remedy else "Write data.binarisation=none."
    raise ValueError(
        f"data.binarisation={binarisation} expects values in [0, 1], received values in [{low:.6g}, {high:.6g}] from {name}. {fix}"
    )


def _description(name: str, parts: Parts, method: Binarisation, changes: list[str]) -> str:
    train, validation, test = (len(split) for split in parts.splits)
    shape = tuple(parts.splits[0].stored.shape[1:])
    augmented = [f"training images {', then '.join(changes)}"] if changes else []
    said = "; ".join((parts.scaling, *augmented, method.description, parts.splitting, *parts.notes))
    return f"{name}: {train:,} training, {validation:,} validation and {test:,} test examples of shape {shape}; {said}."
