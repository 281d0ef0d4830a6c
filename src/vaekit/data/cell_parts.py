"""Which cells and features of a file are kept, and how the cells are divided."""

# N cells, F features

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.data.covariates import column
from vaekit.data.matrix import Cells, blocks
from vaekit.data.splits import random_split
from vaekit.data.variable import highly_variable
from vaekit.errors import closest


@dataclass(frozen=True)
class Chosen:
    """The cells that are left, whether their values are counts, and what was left out so far."""

    cells: Cells
    counted: bool
    notes: list[str]

    def with_counts(self, least: int) -> Chosen:
        """Those with so many counts."""
        if not self.counted:
            if least > 1:
                raise ValueError(f"data.min_counts={least} is for counts, and these values are none. Leave it out.")
            return self
        kept = sums(self.cells.matrix) >= least
        return self._those(kept, f"fewer than {least} counts" if least > 1 else "no counts")

    def labelled(self, name: str | None) -> Chosen:
        """Those that have a label."""
        if name is None:
            return self
        values = column(self.cells.columns, name, "labels")
        return self._those(~np.isnan(values) if values.dtype.kind == "f" else values != "", f"no {name}")

    def _those(self, kept: npt.NDArray[np.bool_], lacking: str) -> Chosen:
        if kept.all():
            return self
        note = f"{np.count_nonzero(~kept):,} cells with {lacking} left out"
        return Chosen(self.cells.part(np.flatnonzero(kept)), self.counted, [*self.notes, note])

    def divided(self, ood: str | None, sizes: tuple[float, float], seed: int) -> tuple[Parts, str]:
        """Training, validation and test part, and what is out of distribution; how, as part of a sentence."""
        aside = np.zeros(len(self.cells), dtype=bool) if ood is None else _out(self.cells, ood)
        rest = np.flatnonzero(~aside)
        indices = [rest[index.numpy()] for index in random_split(len(rest), *sizes, seed)]
        said = f"split at random with seed {seed}"
        if ood is not None:
            indices.append(np.flatnonzero(aside))
            said += f" after {len(indices[3]):,} cells with {ood} were set aside"
        parts = tuple(self.cells.part(index) for index in indices)
        totals = tuple(sums(part.matrix) for part in parts)
        return Parts(parts, totals, self.counted, self.notes), said


@dataclass(frozen=True)
class Parts:
    """Training, validation, test part, and perhaps what is out of distribution.

    Attributes:
        cells: Of each part.
        totals: Sums over all features of the file, of the cells of each part.
        counted: Whether values are counts.
        notes: What was left out.
    """

    cells: tuple[Cells, ...]
    totals: tuple[npt.NDArray[np.float64], ...]
    counted: bool
    notes: list[str]

    def with_features(self, least: int, count: int | None) -> Parts:
        """The same cells with fewer features, chosen by the training cells; those that lose all counts by that are left out."""
        train = self.cells[0].matrix
        kept, notes = np.arange(train.shape[1]), list(self.notes)
        if least:
            kept = np.flatnonzero(
                sum(np.bincount(part.indices, minlength=part.shape[1]) for part in blocks(train)) >= least
            )
            notes.append(f"{train.shape[1] - len(kept):,} features in fewer than {least} training cells left out")
        if count is not None:
            _check_count(count, len(kept), self.counted)
            kept = kept[highly_variable(train[:, kept], count)]
            notes.append(f"the {count:,} most variable features of the training cells")
        if len(kept) == train.shape[1]:
            return self
        if not len(kept):
            raise ValueError(f"data.min_cells={least} leaves no feature. Write a smaller one.")
        return Parts(tuple(cells.features(kept) for cells in self.cells), self.totals, self.counted, notes)._not_empty()

    def _not_empty(self) -> Parts:
        if not self.counted:
            return self
        left = [np.flatnonzero(sums(cells.matrix) > 0) for cells in self.cells]
        lost = sum(map(len, self.cells)) - sum(map(len, left))
        if not lost:
            return self
        if not all(map(len, left)):
            raise ValueError(
                f"no cell of a part has counts in the {len(self.cells[0].genes):,} features that are kept. Keep more."
            )
        parts = tuple(cells.part(index) for cells, index in zip(self.cells, left, strict=True))
        totals = tuple(total[index] for total, index in zip(self.totals, left, strict=True))
        return Parts(parts, totals, True, [*self.notes, f"{lost:,} cells without counts in these left out"])


def _check_count(count: int, available: int, counted: bool) -> None:
    if not 1 <= count <= available:
        raise ValueError(f"data.features is {count:,}, expected 1 to {available:,}, or null for all.")
    if not counted:
        raise ValueError(
            f"data.features={count} chooses features by the variance of counts, and these values are none. Leave it out."
        )


def _out(cells: Cells, ood: str) -> npt.NDArray[np.bool_]:
    name, equals, wanted = ood.partition("=")
    if not equals or not wanted:
        raise ValueError(
            f"data.ood is {ood!r}, expected COLUMN=VALUE, such as condition=stimulated, or COLUMN=VALUE|VALUE."
        )
    values = column(cells.columns, name, "ood")
    written = np.array([_written(value) for value in values.tolist()])
    kinds, asked = sorted(set(written.tolist())), wanted.split("|")
    for kind in asked:
        if kind not in kinds:
            raise ValueError(f"data.ood is {ood!r}, but no cell has {name}={kind}{closest(kind, kinds)}")
    aside = np.isin(written, asked)
    if aside.all():
        raise ValueError(f"data.ood={ood} sets every cell aside. Name fewer values of {name}.")
    return aside


def _written(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def sums(matrix: Any) -> npt.NDArray[np.float64]:
    """Sum of each row, float64, shape (N,)."""
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).reshape(-1)
