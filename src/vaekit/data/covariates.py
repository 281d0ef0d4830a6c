"""What a cell is conditioned on: the logarithm of its library, its experimental batch, and covariates."""

# N cells, F conditions

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vaekit.errors import closest

Column = npt.NDArray[Any]
_CATEGORIES = 1000  # unit vectors longer than this are more likely the name of a cell than that of a batch


@dataclass(frozen=True)
class Conditions:
    """Conditions of all parts.

    Attributes:
        parts: float32, (N, F) each, in the order of the parts.
        num_batches: Batches, whose unit vector stands from the second condition on.
        description: What they are, as part of a sentence; empty where there are none but zeros.
    """

    parts: tuple[Tensor, ...]
    num_batches: int
    description: str


def conditions(
    logs: Sequence[Column],
    columns: Sequence[Mapping[str, Column]],
    batch: str | None,
    covariates: Sequence[str],
) -> Conditions:
    r"""Conditions of each cell: :math:`\log l`, the unit vector of its batch, and its covariates.

    Strings and booleans, and the batch whatever its type, become unit vectors over the values of the training part, the first
    part here: a value that is not among these is all zeros. Other numbers are standardised by the training part.

    Arguments:
        logs: :math:`\log l` of the cells of each part, zeros for data that are no counts, shape (N,) each.
        columns: What is known of the cells of each part, by name.
        batch: Name of the column of the batch, or None.
        covariates: Names of further columns.

    Raises:
        ValueError: If there is no such column, it is no finite number, does not vary, or has more than 1,000 values.
    """
    blocks: list[list[Column]] = [[values[:, None] for values in logs]]
    said = ["the logarithm of the library"] if any(values.any() for values in logs) else []
    num_batches = 0
    if batch is not None:
        encoded, kinds = _unit_vectors(_parts(columns, batch, "batch"), batch)
        blocks.append(encoded)
        num_batches = len(kinds)
        said.append(f"its batch ({batch}, {_said(num_batches)})")
    for name in covariates:
        if name == batch:
            raise ValueError(f"data.covariates has {name!r}, which is data.batch already; leave it out of one.")
        encoded, how = _covariate(_parts(columns, name, "covariates"), name)
        blocks.append(encoded)
        said.append(f"{name} ({how})")
    stacked = [np.concatenate(part, axis=1).astype(np.float32) for part in zip(*blocks, strict=True)]
    return Conditions(
        tuple(map(torch.from_numpy, stacked)),
        num_batches,
        f"for models that take conditions: {', '.join(said)}" if said else "",
    )


def column(columns: Mapping[str, Column], name: str, argument: str) -> Column:
    """The column called `name`.

    Raises:
        ValueError: If there is none; the message lists the closest ones, or all.
    """
    if name not in columns:
        raise ValueError(f"data.{argument} is {name!r}, but the cells have no such column{closest(name, columns)}")
    return columns[name]


def _parts(columns: Sequence[Mapping[str, Column]], name: str, argument: str) -> list[Column]:
    return [column(part, name, argument) for part in columns]


def _covariate(parts: Sequence[Column], name: str) -> tuple[list[Column], str]:
    if parts[0].dtype.kind in "Ub":
        encoded, kinds = _unit_vectors(parts, name)
        return encoded, _said(len(kinds))
    for values in parts:
        if not np.isfinite(values).all():
            missing = np.flatnonzero(~np.isfinite(values))
            raise ValueError(
                f"data.covariates: {name} is NaN or infinite for {len(missing)} of {len(values)} cells. Fill them, or leave it out."
            )
    train = parts[0].astype(np.float64)
    if train.min() == train.max():
        raise ValueError(
            f"data.covariates: {name} is {train[0]:g} for every training cell. Leave out what is constant."
        )
    return [((values - train.mean()) / train.std())[:, None] for values in parts], "standardised by the training cells"


def _said(kinds: int) -> str:
    return f"{kinds} categories" if kinds > 1 else "one category"


def _unit_vectors(parts: Sequence[Column], name: str) -> tuple[list[Column], list[str]]:
    kinds = np.unique(parts[0])
    if len(kinds) > _CATEGORIES:
        raise ValueError(
            f"the column {name} has {len(kinds):,} different values over the training cells, expected at most {_CATEGORIES:,} "
            "for batches or categories. Is it the name of a cell, or a number?"
        )
    encoded = [(values[:, None] == kinds[None, :]).astype(np.float64) for values in parts]
    return encoded, [str(kind) for kind in kinds]
