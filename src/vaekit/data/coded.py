"""Rows of a table in a compact form: numbers, and for categories which level, in place of unit vectors."""

# N rows, B batch, W values of an example

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vaekit.data.rows import Rows


@dataclass(frozen=True)
class Coded(Rows):
    """Rows of a table, which a batch makes dense: numbers as they are, categories as unit vectors.

    Attributes:
        layout: Of the columns: 0 for a number, -1 for one that may be missing, k for a category of k levels.
        numbers: Of the columns that have numbers, float32, shape (N, numbers); 0 where one is missing.
        observed: Of those that may be missing, whether they are there, uint8, shape (N, optional).
        codes: Of the categories, which level, int32, shape (N, categories).
    """

    layout: tuple[int, ...]
    numbers: Tensor
    observed: Tensor
    codes: Tensor

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """(N, W)."""
        return torch.Size([len(self.numbers), self._starts[-1]])

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Of the numbers."""
        return self.numbers.dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the rows are."""
        return self.numbers.device

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The rows at `index`, dense, (B, W)."""
        numbers, observed, categories = self._places
        dense = torch.zeros(len(index), self._starts[-1], dtype=self.numbers.dtype, device=self.device)
        dense[:, numbers] = self.numbers.index_select(0, index)
        dense[:, observed] = self.observed.index_select(0, index).to(dense.dtype)
        return dense.scatter_(1, categories + self.codes.index_select(0, index), 1.0)

    def part(self, index: Tensor) -> Coded:
        """The rows at `index`."""
        return Coded(self.layout, *(values.index_select(0, index) for values in self._tensors))

    def to(self, device: torch.device) -> Coded:
        """The same rows on another device."""
        return Coded(self.layout, *(values.to(device) for values in self._tensors))

    def digest(self, update: Callable[[Any], None]) -> None:
        """Layout, numbers and levels."""
        update(repr(self.layout).encode())
        for tensor in self._tensors:
            update(tensor.cpu().contiguous().numpy().tobytes())

    @property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.numbers, self.observed, self.codes

    @cached_property
    def _starts(self) -> Sequence[int]:
        """Where each column begins in an example, and at the end W."""
        return list(accumulate(({0: 1, -1: 2}.get(kind, kind) for kind in self.layout), initial=0))

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where in an example numbers stand, whether those that may be missing are observed, and where categories begin."""
        columns = list(zip(self._starts, self.layout, strict=False))
        found = (
            [start for start, kind in columns if kind <= 0],
            [start + 1 for start, kind in columns if kind == -1],
            [start for start, kind in columns if kind > 0],
        )
        numbers, observed, categories = (
            torch.tensor(places, dtype=torch.int64, device=self.device) for places in found
        )
        return numbers, observed, categories
