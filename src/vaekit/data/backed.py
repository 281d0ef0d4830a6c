"""Rows that stay in a file larger than memory: a training reads them window by window, everything else a batch at a time."""

# N cells, F features, B batch, nnz stored values

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data.filed import Filed, Positions
from vaekit.data.rows import Rows, Sparse

_BLOCK = 1024  # rows; a block is what is read in one stretch
_BLOCKS = 8  # a window has at least so many, as long as a row is not larger than an eighth of it
_PER_VALUE, _PER_ROW = 8, 24  # bytes in a window: value and column; start, place in the split and sorting of it


class Backed(Rows):
    r"""Rows of a `Filed` matrix.

    **Order.** An epoch cuts the rows of the split, in their order, into blocks of up to 1,024 (at cuts that differ from epoch to
    epoch), shuffles the blocks, takes as many of them as fit into memory for a window, and shuffles the rows of a window. So the
    rows of a batch come from anywhere in the window, and those of a window from blocks anywhere in the file: with W rows in
    windows of blocks of b, a batch sees W/b places of the file, and rows of one block stay within one window of an epoch. Where a
    file is sorted (by donor, say) a window has what is in its blocks: give memory for many. With memory for all rows there is one
    window, and the order is a uniform permutation. It depends on the generator, the rows and the memory only.

    **Memory.** With m bytes: a window takes :math:`8\,\mathrm{nnz} + 24\,W \le \tfrac34 m`, a read of at most m/256 values
    :math:`\tfrac14 m`, unless one row has more than that. Splits of one file share one window. Beside that there are, whatever m,
    up to 60 bytes for each row of the file (where it starts, its sums and extremes, its place in the order), and the dense batch.

    **Reading.** A batch that is a stretch of the current order is served from its window, which is read front to back in the
    order of the file when its first batch is asked for. Any other batch (evaluation in order, examples at random) is read by
    itself, in the order of the file. What is read is the same.

    Arguments:
        matrix: Its rows.
        device: Where batches are wanted: they go there sparse, and become dense there.
    """

    def __init__(self, matrix: Filed, device: torch.device | None = None) -> None:
        self.matrix = matrix
        self.shape = torch.Size(matrix.shape)
        self.dtype = torch.float32
        self.device = torch.device("cpu") if device is None else device
        self._plan: _Plan | None = None

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The rows at `index`, dense, float32, shape (B, F)."""
        asked = index.cpu().numpy()
        if not self._expected(asked):
            return self._dense(_sparse(self.matrix.read(asked)))
        assert self._plan is not None
        dense = torch.empty(len(asked), self.shape[1], device=self.device)
        numbers = self._plan.windows[asked]
        for number in dict.fromkeys(numbers.tolist()):  # two where a batch goes on in the next window
            places = np.flatnonzero(numbers == number)
            rows = self._window(number).part(
                asked[places]
            )  # no name for the window, which would keep it beside the next
            dense[torch.from_numpy(places).to(self.device)] = self._dense(rows)
        return dense

    def part(self, index: Tensor) -> Backed:
        """The rows at `index`: a view of the same file."""
        return Backed(self.matrix[index.cpu().numpy()], self.device)

    def to(self, device: torch.device) -> Backed:
        """The same rows of the same file, with batches on another device."""
        return Backed(self.matrix, device)

    def digest(self, update: Callable[[Any], None]) -> None:
        """Digests of the lengths, of the columns and of the values of all rows: the same for equal rows, however they are read."""
        digests = [hashlib.sha256() for _ in range(3)]
        for block in self.matrix.blocks():
            rows = _sparse(block)
            for digest, part in zip(digests, (rows.starts.diff(), rows.columns, rows.values), strict=True):
                digest.update(part.numpy().data)
        for digest in digests:
            update(digest.digest())

    def order(self, generator: torch.Generator) -> Tensor:
        """The order of an epoch, int64, shape (N,), each row once; what is asked for from now on is expected to follow it."""
        store = self.matrix.store
        self._plan = store.window = None  # room for the next
        costs = self.matrix.nonzero.astype(np.int64) * _PER_VALUE + _PER_ROW
        self._plan = _planned(costs, store.memory - store.memory // 4, generator)
        return torch.from_numpy(self._plan.order.copy())

    def _expected(self, index: Positions) -> bool:
        """Whether the rows follow each other in the order of the epoch, or are in memory anyway."""
        plan, window = self._plan, self.matrix.store.window
        if plan is None or not len(index):
            return False
        here = window is not None and window.plan is plan and bool((plan.windows[index] == window.number).all())
        return here or plan.follows(index)

    def _window(self, number: int) -> _Window:
        store, plan = self.matrix.store, self._plan
        assert plan is not None
        if store.window is None or store.window.plan is not plan or store.window.number != number:
            store.window = None  # let go of the old one before the next takes memory
            store.window = _loaded(self.matrix, plan, number)
        window: _Window = store.window
        return window

    def _dense(self, rows: Sparse) -> Tensor:
        moved = rows.to(self.device)
        return moved.index_select(0, torch.arange(len(rows), device=self.device))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_plan": None}


@dataclass(frozen=True, eq=False)
class _Plan:
    """The order of an epoch, cut into windows.

    Attributes:
        order: int64, shape (N,).
        places: Where each row stands in it, int64, shape (N,).
        windows: In which window each row is, int32, shape (N,).
        cuts: Where the windows begin in the order, and its length.
    """

    order: Positions
    places: Positions
    windows: Any
    cuts: Positions

    def follows(self, index: Positions) -> bool:
        """Whether the rows follow each other in the order. A single row says nothing, unless a window begins with it."""
        first = int(self.places[index[0]])
        if len(index) == 1:
            return first in self.cuts
        return np.array_equal(self.order[first : first + len(index)], index)

    def rows(self, number: int) -> Positions:
        """Of a window, rising."""
        return np.sort(self.order[self.cuts[number] : self.cuts[number + 1]])


def _planned(costs: Positions, budget: int, generator: torch.Generator) -> _Plan:
    n = len(costs)
    if costs.sum() <= budget:
        order, sizes = torch.randperm(n, generator=generator).numpy(), [n]
    else:
        blocks = _blocks(n, _block_size(costs, budget), generator)
        groups = _groups([int(costs[first:last].sum()) for first, last in blocks], budget)
        rows = [np.concatenate([np.arange(*blocks[b]) for b in group]) for group in groups]
        order = np.concatenate([part[torch.randperm(len(part), generator=generator).numpy()] for part in rows])
        sizes = [len(part) for part in rows]
    cuts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    places, windows = np.empty(n, np.int64), np.empty(n, np.int32)
    places[order] = np.arange(n)
    windows[order] = np.repeat(np.arange(len(sizes)), sizes)
    return _Plan(order, places, windows, cuts)


def _block_size(costs: Positions, budget: int) -> int:
    """1,024 rows, or as many as make an eighth of a window."""
    return int(np.clip(budget // _BLOCKS // max(1, int(costs.mean())), 1, _BLOCK))


def _blocks(n: int, size: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Stretches of up to `size` of n rows, at a random offset and in random order."""
    offset = int(torch.randint(size, (), generator=generator))
    cuts = np.unique(np.concatenate([[0], np.arange(offset, n, size), [n]]))
    stretches = list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
    return [stretches[b] for b in torch.randperm(len(stretches), generator=generator).tolist()]


def _groups(costs: list[int], budget: int) -> list[list[int]]:
    """Numbers of consecutive blocks, in groups about equally large: the last window is no smaller than the others."""
    share = max(budget - max(costs), 1)
    count = -(-sum(costs) // share)
    target = sum(costs) / count
    groups: list[list[int]] = [[]]
    done = 0
    for block, cost in enumerate(costs):
        if groups[-1] and done >= target * len(groups):
            groups.append([])
        groups[-1].append(block)
        done += cost
    return groups  # each costs up to the target and one block more, which the share left room for


@dataclass(frozen=True, eq=False)
class _Window:
    """Rows in memory.

    Attributes:
        plan: Of whose order they are.
        number: Which of its windows.
        positions: Of the rows, in the order of the file.
        rising: Sorts them.
        rows: As many.
    """

    plan: _Plan
    number: int
    positions: Positions
    rising: Positions
    rows: Sparse

    def part(self, index: Positions) -> Sparse:
        """The rows at `index`."""
        found = self.rising[np.searchsorted(self.positions, index, sorter=self.rising)]
        return self.rows.part(torch.from_numpy(found))


def _loaded(matrix: Filed, plan: _Plan, number: int) -> _Window:
    """A window out of the file: into arrays of their final size, so that nothing is held twice."""
    positions = plan.rows(number)
    positions = positions[np.argsort(matrix.index[positions], kind="stable")]
    lengths = matrix.nonzero[positions]
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    columns, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    filled = 0
    for _, block in matrix.in_file_order(positions):
        end = filled + block.nnz
        columns[filled:end], values[filled:end] = block.indices, block.data
        filled = end
    assert filled == starts[-1]
    rows = Sparse(torch.from_numpy(starts), torch.from_numpy(columns), torch.from_numpy(values), matrix.shape[1])
    return _Window(plan, number, positions, np.argsort(positions), rows)


def _sparse(matrix: Any) -> Sparse:
    starts, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32, copy=False)
    values = np.ascontiguousarray(matrix.data, dtype=np.float32)
    return Sparse(torch.from_numpy(starts), torch.from_numpy(columns), torch.from_numpy(values), int(matrix.shape[1]))
