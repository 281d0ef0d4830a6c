"""Matrices that stay where they are stored: read a few rows at a time, through one survey and many small views."""

# N cells, F features, nnz stored values

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.data.matrix import bad_rows, is_whole

Positions = npt.NDArray[np.int64]
Change = Callable[[Any, npt.NDArray[np.float64]], Any]

_PER_VALUE = 64  # bytes that a value takes while it is read: as stored, checked, sorted, and changed in float64
_GAP = 2**14  # values between two rows that are read along with them rather than in two requests
_LEAST = 4  # MiB


@dataclass(frozen=True)
class Survey:
    """What one pass over all rows found, 28 bytes for each of them.

    Attributes:
        totals: Sum of each row, float64, shape (N,).
        nonzero: Its values that are not zero, int32, shape (N,).
        lows: Smallest of these, 0 where there are none, float64, shape (N,). Likewise `highs`.
        highs: Largest of these.
        fraction: A value that is no whole number, or None.
        bad: Rows with a value that is NaN, infinite or not exact in float32.
    """

    totals: npt.NDArray[np.float64]
    nonzero: npt.NDArray[np.int32]
    lows: npt.NDArray[np.float64]
    highs: npt.NDArray[np.float64]
    fraction: float | None
    bad: Positions


class Store(ABC):
    """A matrix in a file, by ranges of its rows.

    Attributes:
        shape: (N, F).
        memory: Bytes that reading and the window of a training may take together: a quarter for the one, the rest for the other.
    """

    shape: tuple[int, int]
    memory: int

    def __init__(self, memory: int) -> None:
        if memory < _LEAST:
            raise ValueError(f"data.memory is {memory}, expected at least {_LEAST} (MiB).")
        self.memory = memory * 2**20
        self.window: Any = (
            None  # of whichever training reads now: one for all views, so that their memory does not add up
        )
        self._surveys: dict[bytes | None, Survey] = {}

    @property
    @abstractmethod
    def starts(self) -> Positions:
        """Values stored (or supposed to be) before each row, int64, shape (N + 1,)."""

    @abstractmethod
    def rows(self, first: int, last: int) -> Any:
        """The rows from `first` to before `last`: scipy's compressed rows, canonical, shape (last - first, F).

        Raises:
            DataFormatError: If they are damaged.
        """

    @property
    def at_once(self) -> int:
        """Values in one read."""
        return max(1, self.memory // 4 // _PER_VALUE)

    def pieces(self, rows: Positions) -> Iterator[tuple[int, int]]:
        """Ranges that cover the rows (rising), each with `at_once` values at most unless one row has more."""
        starts = self.starts
        apart = starts[rows[1:]] - starts[rows[:-1] + 1] > _GAP
        cuts = [0, *(np.flatnonzero(apart) + 1).tolist(), len(rows)]
        for begin, end in pairwise(cuts):
            at = begin
            while at < end:
                limit = starts[rows[at]] + self.at_once
                stop = at + int(np.searchsorted(starts[rows[at:end] + 1], limit, side="right"))
                stop = max(stop, at + 1)
                yield int(rows[at]), int(rows[stop - 1]) + 1
                at = stop

    def survey(self, kept: Positions | None) -> Survey:
        """What a pass over all rows finds in the columns `kept`; the pass is made once."""
        key = None if kept is None else kept.tobytes()
        if key not in self._surveys:
            self._surveys[key] = _surveyed(self, kept)
        return self._surveys[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"window": None}


def _surveyed(store: Store, kept: Positions | None) -> Survey:
    n = store.shape[0]
    survey = Survey(np.zeros(n), np.zeros(n, np.int32), np.zeros(n), np.zeros(n), None, np.zeros(0, np.int64))
    fraction, bad = None, []
    for first, last in store.pieces(np.arange(n)):
        block = store.rows(first, last)
        block = block if kept is None else block[:, kept]
        survey.totals[first:last] = np.asarray(block.sum(axis=1, dtype=np.float64)).reshape(-1)
        survey.nonzero[first:last] = lengths = np.diff(block.indptr)
        there = np.flatnonzero(lengths)
        if len(there):  # reduceat takes no empty rows
            survey.lows[first + there] = np.minimum.reduceat(block.data, block.indptr[there])
            survey.highs[first + there] = np.maximum.reduceat(block.data, block.indptr[there])
        bad.append(bad_rows(block) + first)
        if fraction is None and not is_whole(block.data):
            fraction = float(block.data[block.data != np.rint(block.data)][0])
    return replace(survey, fraction=fraction, bad=np.concatenate([survey.bad, *bad]))


@dataclass(frozen=True, eq=False)
class Filed:
    """Some rows and columns of a stored matrix, and what is done to their values when they are read.

    It answers what is asked of scipy's matrices where cells are chosen and divided, and reads nothing before it must.

    Attributes:
        store: Where the values are.
        index: Rows of the store, int64, shape (N,): in any order, usually rising.
        kept: Columns of the store, rising, or None for all.
        factors: float64, shape (N,): handed to `change`.
        change: From compressed rows and the factors of these to compressed rows; it must not decrease, and leave zeros zero.
    """

    store: Store
    index: Positions
    kept: Positions | None = None
    factors: npt.NDArray[np.float64] | None = None
    change: Change | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        return len(self.index), self.store.shape[1] if self.kept is None else len(self.kept)

    @property
    def nonzero(self) -> npt.NDArray[np.int32]:
        """Values of each row that are not zero, shape (N,)."""
        return self.store.survey(self.kept).nonzero[self.index]

    @property
    def nnz(self) -> int:
        """Values that are not zero."""
        return int(self.nonzero.sum(dtype=np.int64))

    @property
    def bad_rows(self) -> Positions:
        """Rows with a value that is no finite number or not exact in float32."""
        return np.flatnonzero(np.isin(self.index, self.store.survey(self.kept).bad))

    @property
    def witnesses(self) -> npt.NDArray[np.float64]:
        """Values that show what all are: the smallest and largest of each row, and one that is no whole number."""
        survey = self.store.survey(self.kept)
        there = self.index[survey.nonzero[self.index] > 0]
        fraction = [] if survey.fraction is None or self.change is not None else [survey.fraction]
        return np.concatenate([self._extremes(survey.lows, there), self._extremes(survey.highs, there), fraction])

    def _extremes(self, values: npt.NDArray[np.float64], there: Positions) -> npt.NDArray[np.float64]:
        from scipy import sparse

        if self.change is None or self.factors is None:
            return values[there]
        factors = self.factors[self.store.survey(self.kept).nonzero[self.index] > 0]
        starts = np.arange(len(there) + 1)
        column = sparse.csr_matrix((values[there], np.zeros(len(there), np.int32), starts), shape=(len(there), 1))
        return np.asarray(self.change(column, factors).data, np.float64)

    def sum(self, axis: int, dtype: Any = np.float64) -> npt.NDArray[np.float64]:
        """Sum of each row (axis 1), shape (N,), before any change."""
        assert axis == 1
        assert self.change is None
        return self.store.survey(self.kept).totals[self.index]

    def __getitem__(self, key: Any) -> Filed:
        """The rows at `key` (int64), or with `[:, key]` the columns: a view, nothing is read."""
        if not isinstance(key, tuple):
            return replace(self, index=self.index[key], factors=None if self.factors is None else self.factors[key])
        assert key[0] == slice(None)
        assert self.change is None
        columns = key[1] if self.kept is None else self.kept[key[1]]
        return replace(self, kept=None if np.array_equal(columns, np.arange(self.store.shape[1])) else columns)

    def changed(self, change: Change, factors: npt.NDArray[np.float64]) -> Filed:
        """The same rows, with values as `change` makes them out of those that are read and the factors of their rows."""
        assert self.change is None
        return replace(self, change=change, factors=factors)

    def read(self, positions: Positions) -> Any:
        """The rows at `positions`, in that order: scipy's compressed rows (B, F)."""
        from scipy import sparse

        order = np.argsort(self.index[positions], kind="stable")
        ordered = positions[order]
        blocks = [block for _, block in self.in_file_order(ordered)]
        if not blocks:
            return sparse.csr_matrix((0, self.shape[1]), dtype=np.float32)
        rows = blocks[0] if len(blocks) == 1 else sparse.vstack(blocks, format="csr")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return rows if np.array_equal(back, order) and (order[1:] > order[:-1]).all() else rows[back]

    def in_file_order(self, positions: Positions) -> Iterator[tuple[Positions, Any]]:
        """The rows at `positions`, which lie in the order of the store: pieces of them, each with its values."""
        rows = self.index[positions]
        at = 0
        for first, last in self.store.pieces(np.unique(rows)):
            end = int(np.searchsorted(rows, last))
            yield (
                positions[at:end],
                self._finished(self.store.rows(first, last), rows[at:end] - first, positions[at:end]),
            )
            at = end

    def _finished(self, block: Any, rows: Positions, positions: Positions) -> Any:
        if len(rows) != block.shape[0] or not np.array_equal(rows, np.arange(len(rows))):
            block = block[rows]
        if self.kept is not None:
            block = block[:, self.kept]
        if self.change is None or self.factors is None:
            return block
        return self.change(block, self.factors[positions])

    def blocks(self) -> Iterator[Any]:
        """All rows once, in order, a bounded number at a time."""
        if (self.index[1:] >= self.index[:-1]).all():
            yield from (block for _, block in self.in_file_order(np.arange(len(self.index))))
            return
        ends = np.cumsum(np.diff(self.store.starts)[self.index])
        for part in np.split(np.arange(len(ends)), np.flatnonzero(np.diff(ends // self.store.at_once)) + 1):
            yield self.read(part)
