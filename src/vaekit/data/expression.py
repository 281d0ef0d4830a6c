"""From counts to expression: library-size normalisation, logarithm and standardisation, fitted to the training cells."""

# N cells, F features, B batch

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.data.batch import Restore, Transform
from vaekit.data.matrix import blocks, is_whole, witnesses
from vaekit.errors import closest
from vaekit.files import write_atomically

Values = npt.NDArray[Any]
_ROWS = 1024  # scaled together


@dataclass(frozen=True)
class Library:
    """How cells are made comparable.

    Attributes:
        target: Sum that every cell is scaled to; None for the median of the training cells.
        clip: Standardised values are held within plus and minus this many standard deviations; None not to.
    """

    target: float | None = None
    clip: float | None = 10.0

    def __post_init__(self) -> None:
        for name, value in (("target", self.target), ("clip", self.clip)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"data.{name} is {value}, expected a positive number or null.")


@dataclass(frozen=True)
class Expressed:
    """The matrices of all parts as a split stores them, and what is done to a batch of them.

    Attributes:
        matrices: Sparse, (N, F) each, the training part first.
        transforms: Of a dense batch.
        description: As part of a sentence.
        restore: The way back, None where nothing was changed.
    """

    matrices: tuple[Any, ...]
    transforms: tuple[Transform, ...]
    description: str
    restore: Restore | None = None


def express(
    name: str, matrices: Sequence[Any], totals: Sequence[Values], library: Library, genes: tuple[str, ...]
) -> Expressed:
    r"""Cells as a model is to see them.

    ``counts`` and ``as_is`` are the values of the file. With :math:`l_n` the total of a cell over all of its features and t the
    target, ``normalised`` is :math:`y_{nf} = t\, x_{nf} / l_n`, ``log1p`` is :math:`\log(1 + y_{nf})`, and ``standardised`` is that
    minus its mean over the training cells, divided by its standard deviation there (1 for a feature that does not vary), clipped.

    Arguments:
        name: One of `EXPRESSIONS`.
        matrices: Of each part, the training part first: scipy's compressed rows, whole numbers from 0 unless name is as_is.
        totals: :math:`l_n > 0` of the cells of each part.
        library: Target and clip.
        genes: Names of the features.

    Raises:
        ValueError: If the name is unknown.

    References:
        | Large-scale single-cell gene expression data analysis (Wolf, Angerer and Theis, 2018), preprocessing
        | https://doi.org/10.1186/s13059-017-1382-0
    """
    if name not in EXPRESSIONS:
        raise ValueError(f"expression is {name!r}{closest(str(name), EXPRESSIONS)}")
    return EXPRESSIONS[name](matrices, totals, library, genes)


def value_range(expressed: Expressed) -> tuple[float, float]:
    """Smallest and largest value that a model can see, zeros included."""
    standardise = next((t for t in expressed.transforms if isinstance(t, Standardise)), None)
    extremes = [_extremes(matrix, standardise) for matrix in expressed.matrices]
    return min(low for low, _ in extremes), max(high for _, high in extremes)


def _extremes(matrix: Any, standardise: Standardise | None) -> tuple[float, float]:
    if standardise is None:
        zeros = np.zeros(int(matrix.nnz < matrix.shape[0] * matrix.shape[1]))
        return _ends((witnesses(matrix), zeros))
    mean, scale = standardise.mean.numpy(), standardise.scale.numpy()
    there, ends = np.zeros(matrix.shape[1], np.int64), list[float]()
    for part in blocks(matrix):
        there += np.bincount(part.indices, minlength=matrix.shape[1])
        if part.nnz:
            ends += _ends(((part.data - mean[part.indices]) / scale[part.indices],))
    of_all = _ends((np.array(ends), (-mean / scale)[there < matrix.shape[0]]))
    low, high = np.clip(of_all, -standardise.clip, standardise.clip)
    return float(low), float(high)


def _ends(parts: Sequence[Values]) -> tuple[float, float]:
    there = [part for part in parts if len(part)]
    return min(float(part.min()) for part in there), max(float(part.max()) for part in there)


def check_counts(name: str, values: Values, where: str) -> bool:
    """Whether the values are counts: whole numbers from 0 on.

    Raises:
        ValueError: If they are not, and this expression asks for counts; the message says what was found.
    """
    low = float(values.min()) if len(values) else 0.0
    counts = low >= 0 and is_whole(values)
    if counts or name == "as_is":
        return counts
    found = f"values down to {low:.4g}" if low < 0 else "values that are no whole numbers"
    done = (
        "are no counts"
        if name == "counts"
        else "were scaled or had their logarithm taken already, which is not done twice"
    )
    raise ValueError(
        f"expression={name} is made from counts, but {where} has {found}: they {done}. "
        "Write expression=as_is to take them as they are (with likelihood=normal), or data.layer=NAME for a layer that has counts."
    )


def _as_stored(
    matrices: Sequence[Any], totals: Sequence[Values], library: Library, genes: tuple[str, ...]
) -> Expressed:
    return Expressed(tuple(matrices), (), "counts as stored")


def _as_is(matrices: Sequence[Any], totals: Sequence[Values], library: Library, genes: tuple[str, ...]) -> Expressed:
    return Expressed(tuple(matrices), (), "values as stored")


def _normalised(
    matrices: Sequence[Any], totals: Sequence[Values], library: Library, genes: tuple[str, ...]
) -> Expressed:
    target, said = _target(totals[0], library)
    scaled = tuple(_each(_scaled, matrix, target / total) for matrix, total in zip(matrices, totals, strict=True))
    return Expressed(scaled, (), said, CellRestore(genes, target, logarithm=False))


def _log1p(matrices: Sequence[Any], totals: Sequence[Values], library: Library, genes: tuple[str, ...]) -> Expressed:
    target, said = _target(totals[0], library)
    logged = tuple(_each(_logged, matrix, target / total) for matrix, total in zip(matrices, totals, strict=True))
    return Expressed(logged, (), f"log(1 + x) of {said}", CellRestore(genes, target, logarithm=True))


def _standardised(
    matrices: Sequence[Any], totals: Sequence[Values], library: Library, genes: tuple[str, ...]
) -> Expressed:
    logged = _log1p(matrices, totals, library, genes)
    mean, scale = moments(logged.matrices[0])
    assert isinstance(logged.restore, CellRestore)
    restore = CellRestore(genes, logged.restore.target, logarithm=True, mean=mean, scale=scale)
    clip = float("inf") if library.clip is None else library.clip
    transform = Standardise(torch.from_numpy(mean), torch.from_numpy(scale), clip)
    held = "" if library.clip is None else f", held within {library.clip:g} standard deviations"
    said = f"{logged.description}, standardised by the training cells{held}"
    return Expressed(logged.matrices, (transform,), said, restore)


EXPRESSIONS: dict[str, Callable[[Sequence[Any], Sequence[Values], Library, tuple[str, ...]], Expressed]] = {
    "counts": _as_stored,
    "normalised": _normalised,
    "log1p": _log1p,
    "standardised": _standardised,
    "as_is": _as_is,
}


def _target(totals: Values, library: Library) -> tuple[float, str]:
    if library.target is not None:
        return library.target, f"counts per {library.target:g}"
    median = float(np.median(totals))
    return median, f"counts per {median:g}, the median of the training cells"


def _each(change: Callable[[Any, Values], Any], matrix: Any, factors: Values) -> Any:
    """The matrix changed row by row: now, or if it stays in its file whenever some of its rows are read."""
    return change(matrix, factors) if hasattr(matrix, "indptr") else matrix.changed(change, factors)


def _logged(matrix: Any, factors: Values) -> Any:
    scaled = _scaled(matrix, factors)
    np.log1p(scaled.data, out=scaled.data)
    return scaled


def _scaled(matrix: Any, factors: Values) -> Any:
    """Each row times its factor, in float64 and then float32."""
    values = np.empty(len(matrix.data), np.float32)
    for first in range(0, len(factors), _ROWS):  # all at once would be four times the matrix in float64
        ends = matrix.indptr[first : first + _ROWS + 1]
        here = slice(ends[0], ends[-1])
        values[here] = matrix.data[here].astype(np.float64) * np.repeat(factors[first : first + _ROWS], np.diff(ends))
    return type(matrix)((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def moments(matrix: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation (of divisor N) of each column, zeros included, shape (F,); 1 for a column that does not vary."""
    n, width = matrix.shape
    mean, squares = np.zeros(width), np.zeros(width)
    for part in blocks(matrix):
        mean += np.bincount(part.indices, part.data.astype(np.float64), minlength=width)
    mean /= n
    for part in blocks(matrix):
        values, columns = part.data.astype(np.float64), part.indices
        there = np.bincount(columns, minlength=width)
        squares += np.bincount(columns, (values - mean[columns]) ** 2, minlength=width)
        squares += (part.shape[0] - there) * mean**2
    scale = np.sqrt(squares / n)
    scale[scale <= 1e-12 * np.maximum(np.abs(mean), 1)] = 1.0
    return mean, scale


@dataclass(frozen=True, eq=False)
class Standardise:
    r""":math:`(x - m) / s`, held within plus and minus a number of standard deviations.

    Arguments:
        mean: m, shape (F,).
        scale: s > 0, shape (F,).
        clip: Largest size of a value, infinite not to clip.
    """

    mean: Tensor
    scale: Tensor
    clip: float = 10.0
    _there: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, x: Tensor) -> Tensor:
        """Values of shape (B, F), floating point; same shape and type."""
        if x.device not in self._there:  # moved once, so that no batch waits for it
            self._there[x.device] = (self.mean.to(x), 1 / self.scale.to(x))
        mean, factor = self._there[x.device]
        return ((x - mean) * factor).clamp_(-self.clip, self.clip)


@dataclass(frozen=True, eq=False)
class CellRestore:
    """From what a model sees back to counts of a cell whose library is the target.

    What was clipped does not come back; everything else does.

    Attributes:
        genes: Names of the features.
        target: Sum of a cell over all its features.
        logarithm: Whether values are log(1 + x).
        mean: Of each feature before it was standardised, None if it was not.
        scale: Its standard deviation.
    """

    genes: tuple[str, ...]
    target: float
    logarithm: bool
    mean: npt.NDArray[np.float64] | None = None
    scale: npt.NDArray[np.float64] | None = None

    @property
    def draws(self) -> bool:
        """A mean over cells is what people look at."""
        return False

    def decode(self, values: Values) -> npt.NDArray[np.float64]:
        """Counts per target, float64, same shape (N, F)."""
        decoded = values.astype(np.float64)
        if self.mean is not None and self.scale is not None:
            decoded = decoded * self.scale + self.mean
        return np.expm1(decoded) if self.logarithm else decoded

    def write(self, values: Values, path: Path) -> Path:
        """An .npz archive with `x`, the counts per target, and `genes`."""
        target = path.with_suffix(".npz")
        content = io.BytesIO()
        np.savez_compressed(
            content, x=self.decode(values).astype(np.float32), genes=np.array(self.genes, dtype=np.str_)
        )
        write_atomically(target, content.getvalue())
        return target

    def state(self) -> dict[str, Any]:
        """Target, whether logarithms were taken, and the moments."""
        listed = {"mean": self.mean, "scale": self.scale}
        moments = {name: None if values is None else values.tolist() for name, values in listed.items()}
        return {
            "kind": "cells",
            "target": self.target,
            "logarithm": self.logarithm,
            "genes": list(self.genes),
            **moments,
        }
