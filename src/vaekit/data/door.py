"""The one door into the library: splits with known values come out as a `Dataset`, or an error says what to write."""

from __future__ import annotations

from dataclasses import dataclass

from vaekit.data.batch import Dataset, Split
from vaekit.data.randomness import generator
from vaekit.data.transforms import Binarisation, binarisation_named, value_range


@dataclass(frozen=True)
class Parts:
    """What a reader of files hands over: three scaled splits and how they came about.

    Attributes:
        splits: Training, validation and test part, each with the transform that scales it.
        scaling: How stored values became what a model sees, as part of a sentence.
        splitting: How the three were chosen, as part of a sentence.
        class_names: Names of the labels, empty where there are none.
    """

    splits: tuple[Split, Split, Split]
    scaling: str
    splitting: str
    class_names: tuple[str, ...] = ()


def admit(name: str, parts: Parts, *, binarisation: str, seed: int, rescale: str = "") -> Dataset:
    """The data set made of `parts`, its values looked at and binarised.

    Arguments:
        name: Of the data set.
        parts: The three splits.
        binarisation: A name in `BINARISATIONS`.
        seed: Of the draws that a static binarisation makes, one independent stream for each split.
        rescale: What a user writes to get values into [0, 1], if values lie outside and dividing would do; may be empty.

    Raises:
        ValueError: If the values lie outside [0, 1] and are to be binarised.
    """
    method = binarisation_named(binarisation)
    ranges = [value_range(split) for split in parts.splits]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    remedies = _remedies(low, high, rescale)
    if method.binary:
        _must_be_probabilities(name, low, high, binarisation, remedies)
    train, validation, test = (
        method.apply(split, generator(f"static binarisation of part {number}", seed))
        for number, split in enumerate(parts.splits)
    )
    return Dataset(
        name=name,
        train=train,
        validation=validation,
        test=test,
        description=_description(name, parts, method),
        binary=method.binary or all(r[2] for r in ranges),
        low=0.0 if method.binary else low,
        high=1.0 if method.binary else high,
        class_names=parts.class_names,
        remedies=remedies,
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


def _description(name: str, parts: Parts, method: Binarisation) -> str:
    train, validation, test = (len(split) for split in parts.splits)
    shape = tuple(parts.splits[0].stored.shape[1:])
    return (
        f"{name}: {train:,} training, {validation:,} validation and {test:,} test examples "
        f"of shape {shape}; {parts.scaling}; {method.description}; {parts.splitting}."
    )
