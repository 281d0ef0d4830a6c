"""Cells as files give them: a sparse matrix of values, the names of its features, and what is known of each cell."""

# N cells, F features, nnz stored values

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.data.errors import DataFormatError
from vaekit.data.rows import Sparse

_EXACT = 2**24  # whole numbers up to here are exact in float32
_FREE, _RATIO = 2**25, 100  # rows and columns that a matrix may have, or beyond that, times its values
_DENSE = 0.5  # of the values: with more of them not zero, a plain tensor takes less memory than its non-zero values


@dataclass(frozen=True)
class Cells:
    """What a reader of files hands over.

    Attributes:
        matrix: Values, scipy's compressed rows (N, F) in canonical form: in each row the columns rise, none is there twice.
        genes: Names of the features, no two alike.
        columns: What is known of each cell, by name: numbers, booleans or strings, each of shape (N,).
    """

    matrix: Any
    genes: tuple[str, ...]
    columns: Mapping[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        n, width = self.matrix.shape
        wrong = [name for name, values in self.columns.items() if len(values) != n]
        if len(self.genes) != width or wrong:
            found = f"column {wrong[0]!r} of {len(self.columns[wrong[0]])}" if wrong else f"{len(self.genes)} names"
            raise DataFormatError(f"a matrix of {n:,} cells and {width:,} features has {found}.")

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def part(self, index: npt.NDArray[np.int64]) -> Cells:
        """The cells at `index`, in that order."""
        return Cells(self.matrix[index], self.genes, {name: values[index] for name, values in self.columns.items()})

    def features(self, index: npt.NDArray[np.int64]) -> Cells:
        """All cells with the features at `index` only, in that order."""
        return Cells(self.matrix[:, index], tuple(self.genes[i] for i in index), self.columns)


def checked_csr(
    values: npt.NDArray[Any],
    indices: npt.NDArray[Any],
    starts: npt.NDArray[Any],
    *,
    shape: tuple[int, int],
    layout: str,
    where: str,
) -> Any:
    """The matrix in compressed rows, after a look at every index: a wrong one would be read beyond the end of memory later.

    Arguments:
        values: Shape (nnz,).
        indices: Column of each value, or its row where `layout` is csc; shape (nnz,).
        starts: Where each row (column) begins, shape (N + 1,) or (F + 1,).
        shape: (N, F).
        layout: "csr" or "csc".
        where: File and place, for messages.

    Raises:
        DataFormatError: If the parts contradict each other.
    """
    from scipy import sparse  # slow to import

    lines, across = shape if layout == "csr" else shape[::-1]
    sound = (
        min(shape) >= 0
        and max(shape) <= max(_FREE, _RATIO * len(values))  # a stated shape costs nothing in the file, and memory here
        and (values.ndim, indices.ndim, starts.ndim) == (1, 1, 1)
        and values.dtype.kind in "biuf"
        and indices.dtype.kind in "iu"
        and starts.dtype.kind in "iu"
        and len(starts) == lines + 1
        and len(values) == len(indices) == int(starts[-1])
        and int(starts[0]) == 0
        and bool((starts[1:] >= starts[:-1]).all())
        and (not len(indices) or 0 <= int(indices.min()) <= int(indices.max()) < across)
    )
    if not sound:
        raise DataFormatError(
            f"{where} is damaged: {len(values):,} values, {len(indices):,} indices and {len(starts):,} starts "
            f"do not make up {shape}."
        )
    kind = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}[layout]
    wide = np.int64 if max(len(values), across) > np.iinfo(np.int32).max else np.int32
    return canonical(kind((_usual(values), indices.astype(wide), starts.astype(wide)), shape=shape))


def _usual(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """In a type that scipy computes with: not booleans, float16, or the byte order of another machine."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        return values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64, copy=False)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def canonical(matrix: Any) -> Any:
    """In compressed rows whose columns rise, without duplicates (added) and without stored zeros."""
    rows = matrix.tocsr()
    rows.sum_duplicates()
    rows.eliminate_zeros()
    return rows


def sparse_of_rows(chunks: Iterable[npt.NDArray[Any]], width: int) -> Any:
    """Dense rows, a few at a time, as one sparse matrix (N, F)."""
    from scipy import sparse

    parts = [sparse.csr_matrix(_usual(chunk)) for chunk in chunks]
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, width), dtype=np.float32)


def is_dense(matrix: Any) -> bool:
    """Whether most values are not zero, so that a tensor takes less memory than sparse rows."""
    return bool(matrix.nnz > _DENSE * matrix.shape[0] * matrix.shape[1])


def blocks(matrix: Any) -> Iterable[Any]:
    """The rows a bounded number at a time: all at once of a matrix in memory, piece by piece of one that stays in its file."""
    return (matrix,) if hasattr(matrix, "indptr") else matrix.blocks()


def witnesses(matrix: Any) -> npt.NDArray[Any]:
    """Values that show what all are: those that are stored, or of a matrix in its file the extremes and one that is not whole."""
    values: npt.NDArray[Any] = matrix.data if hasattr(matrix, "indptr") else matrix.witnesses
    return values


def stored(matrix: Any, *, dense: bool = False) -> Sparse | Tensor:
    """The rows as a split keeps them: by their non-zero values, or as a float32 tensor."""
    return _tensor(matrix) if dense else _sparse(matrix)


def _tensor(matrix: Any) -> Tensor:
    x = torch.zeros(matrix.shape, dtype=torch.float32)
    rows = torch.from_numpy(np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)))
    x[rows, torch.from_numpy(matrix.indices.astype(np.int64))] = torch.from_numpy(matrix.data.astype(np.float32))
    return x


def _sparse(matrix: Any) -> Sparse:
    starts, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    values = torch.from_numpy(smallest(matrix.data))
    return Sparse(torch.from_numpy(starts), torch.from_numpy(columns), values, int(matrix.shape[1]))


def smallest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same numbers in the smallest type that has them: uint8, int16 or int32 for whole ones, else float32."""
    if not is_whole(values):
        return np.ascontiguousarray(values, dtype=np.float32)
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind in (np.uint8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.ascontiguousarray(values).astype(kind)
    return np.ascontiguousarray(values, dtype=np.float32)


def is_whole(values: npt.NDArray[Any]) -> bool:
    """Whether all are whole numbers."""
    return values.dtype.kind in "biu" or bool((values == np.rint(values)).all())


def must_be_finite(cells: Cells, where: str) -> None:
    """Raise if a value is NaN, infinite, or too large a whole number for float32.

    Raises:
        ValueError: The message names the first cells.
    """
    rows = bad_rows(cells.matrix) if hasattr(cells.matrix, "indptr") else cells.matrix.bad_rows
    if len(rows):
        shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        raise ValueError(
            f"{where} has values that are NaN, infinite or above {_EXACT:,} in {len(rows)} of {len(cells)} cells: {shown}. "
            "Expected finite numbers that float32 holds; remove or fill these cells and save it again."
        )


def bad_rows(matrix: Any) -> npt.NDArray[np.int64]:
    """Rows with a value that is NaN, infinite, or too large a whole number for float32."""
    values = matrix.data
    bad = ~np.isfinite(values) if values.dtype.kind == "f" else np.abs(values) > _EXACT
    return np.unique(np.searchsorted(matrix.indptr, np.flatnonzero(bad), side="right") - 1)


def unique(names: Sequence[str] | npt.NDArray[np.str_]) -> tuple[str, ...]:
    """The names, a second A as A-1, a third as A-2: several genes have one symbol."""
    taken, count = set(map(str, names)), Counter[str]()
    result, seen = [], set[str]()
    for name in map(str, names):
        new = name
        while new in seen or (new != name and new in taken):
            count[name] += 1
            new = f"{name}-{count[name]}"
        seen.add(new)
        result.append(new)
    return tuple(result)
