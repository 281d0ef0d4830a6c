"""From stored values to what a model sees: scaling, and the four binarisations, a gathered batch at a time."""

# N examples, B batch, *x event of the data

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import ClassVar

import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.distributions.noise import uniform

_CHUNK = 1024  # examples transformed at once while loading: bounds the memory, not the result


@dataclass(frozen=True)
class Scale:
    """Make stored values floating point and divide them: :math:`v / d`.

    Arguments:
        divisor: :math:`d`, positive and finite; 255 for 8-bit images.
        dtype: Floating-point type of the result.

    Raises:
        ValueError: If the divisor is not positive and finite.
        TypeError: If `dtype` is not floating point.
    """

    divisor: float = 1.0
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if not 0 < self.divisor < float("inf"):
            raise ValueError(
                f"scale is {self.divisor}, expected a positive, finite number, for example data.scale=255."
            )
        if not self.dtype.is_floating_point:
            raise TypeError(f"dtype is {self.dtype}, expected a floating-point type such as torch.float32.")

    def __call__(self, x: Tensor) -> Tensor:
        """Values of shape (B, *x) and any type to `dtype`, same shape."""
        return x.to(self.dtype, copy=True).div_(self.divisor)


@dataclass(frozen=True)
class ToLevels:
    r"""The nearest of M values: :math:`\mathrm{round}(x (M - 1)) / (M - 1)`, as bytes have them that are divided by M - 1.

    Arguments:
        levels: M, at least 2.
    """

    levels: int

    def __call__(self, x: Tensor) -> Tensor:
        """Values of shape (B, *x) in [0, 1] to the nearest level, a half to the even one."""
        return (x * (self.levels - 1)).round() / (self.levels - 1)


class Binarisation(ABC):
    """How values in [0, 1] become 0 and 1, or do not.

    Attributes:
        binary: Whether the result is 0 or 1 everywhere; such a binarisation needs values in [0, 1].
        description: What is done, as part of a sentence.
    """

    binary: ClassVar[bool]
    description: ClassVar[str]

    @abstractmethod
    def apply(self, split: Split, generator: torch.Generator) -> Split:
        """The split whose batches are binarised; `generator` serves draws that are made once, when data are loaded."""


class RealValued(Binarisation):
    """No binarisation: values stay as they are."""

    binary = False
    description = "values not binarised"

    def apply(self, split: Split, generator: torch.Generator) -> Split:
        """The same split."""
        return split


class Threshold(Binarisation):
    """1 where x > 0.5 and 0 elsewhere: a value of exactly 0.5 becomes 0."""

    binary = True
    description = "binarised by x > 0.5"

    def __call__(self, x: Tensor) -> Tensor:
        """Values of shape (B, *x) to 0 or 1 in the same type and shape."""
        return (x > 0.5).to(x.dtype)

    def apply(self, split: Split, generator: torch.Generator) -> Split:
        """The split with this transform at its end."""
        return replace(split, transforms=(*split.transforms, self))


class Dynamic(Binarisation):
    """1 with probability x, drawn anew each time that an example is shown.

    The noise is that of `vaekit.distributions.noise`: torch's generator while training, a function of the example while
    evaluating under `noise.use(noise.PerExample(...))`.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), section 5.1
        | https://arxiv.org/abs/1509.00519
    """

    binary = True
    description = "binarised anew each time an example is shown, 1 with probability x"

    def __call__(self, x: Tensor) -> Tensor:
        """Probabilities of shape (B, *x) to 0 or 1 in the same type and shape."""
        u = uniform(torch.Size((1, *x.shape)), dtype=x.dtype, device=x.device).squeeze(0)
        # noise made in float64 may round up to 1 in float32, and a pixel of value 1 must still be 1 always
        return ((u < x) | (x >= 1)).to(x.dtype)

    def apply(self, split: Split, generator: torch.Generator) -> Split:
        """The split with this transform at its end."""
        return replace(split, transforms=(*split.transforms, self))


class Static(Binarisation):
    """1 with probability x, drawn once when the data are loaded; the split then stores uint8 zeros and ones.

    Not the draw of Larochelle and Murray (2011): numbers on their files compare with those files only.
    """

    binary = True
    description = "binarised once with a fixed seed, 1 with probability x"

    def apply(self, split: Split, generator: torch.Generator) -> Split:
        """The split that stores one draw, made with `generator` and so independent of every other random number."""
        stored = torch.empty(split.stored.shape, dtype=torch.uint8)
        for start in range(0, len(split), _CHUNK):
            x = transformed(split, start)
            u = torch.rand(x.shape, generator=generator, dtype=torch.float64)
            stored[start : start + len(x)] = u < x
        return replace(split, stored=stored, transforms=(Scale(1.0),))


BINARISATIONS: dict[str, Callable[[], Binarisation]] = {
    "none": RealValued,
    "threshold": Threshold,
    "dynamic": Dynamic,
    "static": Static,
}


def binarisation_named(name: str) -> Binarisation:
    """The binarisation called `name`.

    Raises:
        ValueError: If there is none of that name; the message lists the names.
    """
    if name not in BINARISATIONS:
        close = get_close_matches(str(name), BINARISATIONS, n=1)
        hint = f" Did you mean data.binarisation={close[0]}?" if close else ""
        raise ValueError(f"binarisation is {name!r}, expected one of {', '.join(BINARISATIONS)}.{hint}")
    return BINARISATIONS[name]()


def transformed(split: Split, start: int) -> Tensor:
    """A chunk of examples from `start` on, as the transforms leave them, shape (at most 1024, *x)."""
    return split.batch(torch.arange(start, min(start + _CHUNK, len(split)))).x


def value_range(split: Split) -> tuple[float, float, bool]:
    """Smallest value, largest value, and whether all are 0 or 1, over a split whose transforms are deterministic."""
    low, high, binary = float("inf"), float("-inf"), True
    for start in range(0, len(split), _CHUNK):
        x = transformed(split, start)
        low, high = min(low, x.min().item()), max(high, x.max().item())
        binary = binary and bool(((x == 0) | (x == 1)).all())
    return low, high, binary
