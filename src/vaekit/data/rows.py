"""How the examples of a split are stored when they are no tensor: in rows that become dense a batch at a time."""

# N examples, B batch, F features, nnz stored values

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


class Rows(ABC):
    """Examples that are stored in a form of their own. It answers what `Split` asks of a tensor, and so may stand in its place.

    Attributes:
        shape: (N, F), of the dense form.
        dtype: Of the stored values.
        device: Where a batch is wanted.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    def __len__(self) -> int:
        return self.shape[0]

    def dim(self) -> int:
        """Dimensions of the dense form."""
        return len(self.shape)

    @abstractmethod
    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The rows at `index` (int64, shape (B,)), dense: (B, F) in float32. `dim` is 0, as for a tensor."""

    @abstractmethod
    def part(self, index: Tensor) -> Rows:
        """The rows at `index` (int64), in that order, stored in the same form."""

    @abstractmethod
    def to(self, device: torch.device) -> Rows:
        """The same rows, with batches on another device."""

    @abstractmethod
    def digest(self, update: Callable[[Any], None]) -> None:
        """Hand on bytes that are equal exactly if the rows are."""

    def order(self, generator: torch.Generator) -> Tensor:
        """The order of an epoch, int64, shape (N,): each row once."""
        return torch.randperm(len(self), generator=generator)


@dataclass(frozen=True)
class Sparse(Rows):
    """A matrix by its non-zero values (compressed sparse rows).

    Attributes:
        starts: Where each row begins among the values, int64, shape (N + 1,).
        columns: Of the values, int32, shape (nnz,).
        values: In their storage type, shape (nnz,).
        width: F.
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    width: int

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """(N, F)."""
        return torch.Size([len(self.starts) - 1, self.width])

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the values are."""
        return self.values.device

    @cached_property
    def longest(self) -> int:
        """Most values in a row."""
        return int((self.starts[1:] - self.starts[:-1]).max()) if len(self) else 0

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The rows at `index`, dense: one fill of zeros and one scatter."""
        return self._exactly(index) if self.device.type == "cpu" else self._padded(index)

    def _exactly(self, index: Tensor) -> Tensor:
        """As many values as the rows have. Their number is asked for, which on another device would wait for it."""
        place, row = self._places(index)
        dense = torch.zeros(len(index) * self.width, device=self.device)
        target = row.mul_(self.width).add_(self.columns.index_select(0, place))
        dense.scatter_(0, target, self.values.index_select(0, place).to(dense.dtype))
        return dense.view(len(index), self.width)

    def _padded(self, index: Tensor) -> Tensor:
        """As many values for each row as the longest has, those that it has not written to a place behind the result."""
        first, behind = self.starts[index].unsqueeze(1), len(index) * self.width
        place = first + torch.arange(self.longest, device=self.device)
        there = place < self.starts[index + 1].unsqueeze(1)
        place = torch.where(there, place, 0).view(-1)
        if not len(self.values):
            return torch.zeros(len(index), self.width, device=self.device)
        row = torch.arange(len(index), device=self.device).mul_(self.width).unsqueeze(1)
        target = torch.where(there, row + self.columns.index_select(0, place).view(there.shape), behind)
        dense = torch.zeros(behind + 1, device=self.device)
        dense.scatter_(0, target.view(-1), self.values.index_select(0, place).to(dense.dtype))
        return dense[:behind].view(len(index), self.width)

    def part(self, index: Tensor) -> Sparse:
        """The rows at `index`, sparse."""
        place, _ = self._places(index)
        lengths = self.starts[index + 1] - self.starts[index]
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        return Sparse(starts, self.columns[place], self.values[place], self.width)

    def to(self, device: torch.device) -> Sparse:
        """The same rows on another device, sparse as they are."""
        return Sparse(self.starts.to(device), self.columns.to(device), self.values.to(device), self.width)

    def digest(self, update: Callable[[Any], None]) -> None:
        """Rows, columns and values."""
        for tensor in (self.starts, self.columns, self.values):
            update(tensor.cpu().contiguous().numpy().data)

    def _places(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Where the values of the rows at `index` are stored, and to which of these rows each belongs."""
        first = self.starts.index_select(0, index)
        lengths = self.starts.index_select(0, index + 1) - first
        ends = lengths.cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        row = torch.repeat_interleave(torch.arange(len(index), device=index.device), lengths, output_size=total)
        place = (first - (ends - lengths)).index_select(0, row).add_(torch.arange(total, device=index.device))
        return place, row
