"""Data sets of cells: counts of genes out of .h5ad, 10x folders and .npz files, kept sparse from the file to the batch."""

# N cells, F features

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vaekit.data.arrays import as_labels
from vaekit.data.backed import Backed
from vaekit.data.batch import Dataset, Split
from vaekit.data.catalog import located, names
from vaekit.data.cell_parts import Chosen, Parts, sums
from vaekit.data.covariates import Conditions, conditions
from vaekit.data.errors import DataFormatError
from vaekit.data.expression import EXPRESSIONS, Expressed, Library, check_counts, express, value_range
from vaekit.data.filed import Filed
from vaekit.data.h5ad import read_h5ad
from vaekit.data.in_place import is_experiment, left_in_place
from vaekit.data.matrix import Cells, is_dense, must_be_finite, stored, witnesses
from vaekit.data.npz_cells import read_npz
from vaekit.data.published_cells import READERS
from vaekit.data.rows import Rows
from vaekit.data.tenx import read_tenx
from vaekit.errors import closest

_REMEDIES = {"counts": "expression=counts", "logarithm": "expression=log1p"}


def cells(
    path: str | os.PathLike[str] | None = None,
    name: str | None = None,
    layer: str | None = None,
    expression: str = "counts",
    features: int | None = None,
    labels: str | None = None,
    batch: str | None = None,
    covariates: Sequence[str] | None = None,
    ood: str | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    min_counts: int = 1,
    min_cells: int = 0,
    target: float | None = None,
    clip: float | None = 10.0,
    backed: bool = False,
    memory: int = 256,
) -> Dataset:
    """Cells by features, with what is known of each cell.

    Counts stay sparse; a batch of them is made dense when it is asked for. Everything that is fitted (choice of features, target of
    the normalisation, means and deviations) is fitted to the training cells. Each cell is conditioned on the logarithm of its
    library (the sum of its counts over the features that are kept), then the unit vector of its batch, then its covariates;
    models that are not conditional take no notice. All columns of the file are kept as annotations, the name of a cell as `index`.

    Arguments:
        path: An .h5ad file, a folder of 10x Genomics (or one above it), an .npz file of scipy.sparse.save_npz, or a TileDB-SOMA
            experiment (folder or URI), which is always left where it is. For a data set with a name, where to look for its
            files, or None.
        name: Of a data set in the catalogue, such as pbmc3k.
        layer: Of an .h5ad file: None for X, raw, or the name of a layer. Of an experiment: MEASUREMENT/LAYER, None if there is one.
        expression: counts, normalised (counts per target), log1p (its logarithm), standardised (that, by its mean and deviation),
            or as_is for values that are no counts.
        features: Keep so many highly variable ones, by the standardised variance of their counts; None for all.
        labels: Column of the cell types. Cells without one are left out.
        batch: Column of the experimental batch.
        covariates: Further columns that a cell is conditioned on: categories become unit vectors, numbers are standardised.
        ood: `COLUMN=VALUE` or `COLUMN=VALUE|VALUE`: these cells are set aside as the split `ood`.
        validation: Fraction of the other cells for validation.
        test: Fraction for the test part.
        seed: Of the split.
        min_counts: Cells with fewer counts are left out; at least 1, as a cell without counts has no library.
        min_cells: Features with counts in fewer training cells are left out.
        target: Sum that each cell is normalised to over all features; None for the median of the training cells.
        clip: Of standardised values, in standard deviations; None not to clip.
        backed: Leave the values of an .h5ad file there, and read them when they are needed: for files larger than memory. They are
            the same values; the order of training differs (`vaekit.data.backed.Backed` says what is mixed with what).
        memory: MiB for reading and for the window that a training mixes, of what is left in its file; at least 4.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        DataFormatError: If a file is damaged, or would read something else than itself.
        ValueError: If values do not suit the expression, a column or layer is not there, or too few cells are left.
        ConfigError: If h5py or tiledbsoma is needed and not installed.
    """
    if expression not in EXPRESSIONS:
        raise ValueError(f"expression is {expression!r}{closest(str(expression), EXPRESSIONS)}")
    if min_counts < 1 or min_cells < 0:
        raise ValueError(f"data.min_counts is {min_counts} and data.min_cells {min_cells}, expected at least 1 and 0.")
    wishes = _Wishes(expression, labels, batch, tuple(covariates or ()), Library(target, clip))
    given = None if path is None else Path(path).expanduser()
    if name is None:
        read = (
            _read(given, layer)
            if path is None or not (backed or is_experiment(path))
            else left_in_place(path, layer, memory)
        )
    else:
        _must_be_read(name, backed=backed)
        _must_be_cells(name)
        read = _published(name, located(name, given)[1], layer)
    where = name or _stem(given)
    must_be_finite(read, where)
    counted = check_counts(expression, witnesses(read.matrix), where)
    chosen = Chosen(read, counted, []).with_counts(min_counts).labelled(labels)
    parts, splitting = chosen.divided(ood, (validation, test), seed)
    parts = parts.with_features(min_cells, features)
    return _dataset(where, parts, wishes, splitting)


def read_cells(path: Path, layer: str | None = None) -> Cells:
    """Cells out of a file or folder, by what it is called.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        DataFormatError: If it is nothing that can be read, or damaged.
    """
    kind = "".join(path.suffixes[-2:]).lower()
    if layer is not None and not kind.endswith(".h5ad"):
        raise ValueError(f"data.layer is {layer!r}, but {path} is no .h5ad file and has no layers. Leave it out.")
    if path.is_dir():
        return read_tenx(path)
    if kind.endswith(".h5ad"):
        return read_h5ad(path, layer)
    if kind.endswith(".npz"):
        return read_npz(path)
    if kind.endswith((".mtx", ".mtx.gz")):
        return read_tenx(path.parent)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist. Write data.path= an .h5ad or .npz file, a folder of 10x Genomics, or a TileDB-SOMA experiment."
        )
    raise DataFormatError(
        f"{path} ends in {path.suffix!r}, expected .h5ad, .npz (scipy.sparse.save_npz), or a folder with matrix.mtx. "
        "A table of text is read with data=table."
    )


def _read(path: Path | None, layer: str | None) -> Cells:
    if path is None:
        raise ValueError("data=cells needs a file: write data.path=FILE.h5ad, or a folder of 10x Genomics.")
    return read_cells(path, layer)


def _must_be_read(name: str, *, backed: bool) -> None:
    if backed:
        raise ValueError(
            f"{name} fits into memory, data.backed=true is for your own .h5ad file: data=cells data.path=FILE."
        )


def _must_be_cells(name: str) -> None:
    if name in names() and name not in READERS:
        raise ValueError(
            f"{name} is no data set of cells: write data={name}; the sets of cells are {', '.join(READERS)}."
        )


def _published(name: str, files: Mapping[str, Path], layer: str | None) -> Cells:
    return READERS[name](files) if layer is None else read_cells(next(iter(files.values())), layer)


def _stem(path: Path | None) -> str:
    assert path is not None
    return path.resolve().name.removesuffix(".gz").rsplit(".", 1)[0] if not path.is_dir() else path.resolve().name


@dataclass(frozen=True)
class _Wishes:
    expression: str
    labels: str | None
    batch: str | None
    covariates: tuple[str, ...]
    library: Library


def _dataset(name: str, parts: Parts, wishes: _Wishes, splitting: str) -> Dataset:
    genes = parts.cells[0].genes
    logs = [np.log(sums(cells.matrix)) if parts.counted else np.zeros(len(cells)) for cells in parts.cells]
    expressed = express(wishes.expression, [cells.matrix for cells in parts.cells], parts.totals, wishes.library, genes)
    given = conditions(logs, [cells.columns for cells in parts.cells], wishes.batch, wishes.covariates)
    labels, class_names = _labels(parts, wishes.labels)
    dense = is_dense(expressed.matrices[0])
    splits = [
        Split(_stored(matrix, dense=dense), expressed.transforms, label, condition, dict(cells.columns))
        for matrix, label, condition, cells in zip(expressed.matrices, labels, given.parts, parts.cells, strict=True)
    ]
    low, high = value_range(expressed)
    return Dataset(
        name=name,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        ood=splits[3] if len(splits) > 3 else None,
        description=_description(name, parts, expressed, given, splitting),
        binary=False,
        low=low,
        high=high,
        class_names=class_names,
        remedies=dict(_REMEDIES) if parts.counted else {},
        counts=parts.counted and wishes.expression in ("counts", "as_is"),
        feature_names=genes,
        num_batches=given.num_batches,
        restore=expressed.restore,
    )


def _stored(matrix: Any, *, dense: bool) -> Tensor | Rows:
    return Backed(matrix) if isinstance(matrix, Filed) else stored(matrix, dense=dense)


def _labels(parts: Parts, name: str | None) -> tuple[list[Tensor | None], tuple[str, ...]]:
    if name is None:
        return [None] * len(parts.cells), ()
    values = [cells.columns[name] for cells in parts.cells]
    numbers, class_names = as_labels(values, [len(cells) for cells in parts.cells], name)
    return list(numbers), class_names


def _description(name: str, parts: Parts, expressed: Expressed, given: Conditions, splitting: str) -> str:
    train, validation, test, *aside = (len(part) for part in parts.cells)
    sizes = f"{train:,} training, {validation:,} validation and {test:,} test cells"
    beside = f" and {aside[0]:,} out of distribution" if aside else ""
    said = "; ".join(filter(None, (expressed.description, splitting, *parts.notes, given.description)))
    return f"{name}: {sizes}{beside}, with {len(parts.cells[0].genes):,} features; {said}."
