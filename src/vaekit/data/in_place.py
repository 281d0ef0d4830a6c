"""Cells whose values are left where they are stored: which store reads what."""

from __future__ import annotations

import os
from pathlib import Path

from vaekit.data.errors import DataFormatError
from vaekit.data.filed import Store
from vaekit.data.hdf5_store import HDF5Store
from vaekit.data.matrix import Cells
from vaekit.data.soma import SOMAStore

_GROUP = ("__group", "__tiledb_group.tdb")  # what TileDB puts into a folder that is a group


def is_experiment(path: str | os.PathLike[str]) -> bool:
    """Whether the path is that of a TileDB-SOMA experiment: a URI, or a folder that is a TileDB group."""
    written = os.fspath(path)
    return "://" in written or any((Path(written).expanduser() / name).exists() for name in _GROUP)


def left_in_place(path: str | os.PathLike[str], layer: str | None, memory: int) -> Cells:
    """The cells of a file or an experiment, with a `Filed` matrix.

    Arguments:
        path: An .h5ad file, or an experiment.
        layer: As of `vaekit.data.cells`.
        memory: MiB.

    Raises:
        FileNotFoundError: If there is no such file.
        DataFormatError: If it is of another kind, or damaged.
        ValueError: If there is no such layer, or the memory is too small.
        ConfigError: If the package that reads it is not installed.
    """
    store: Store
    if is_experiment(path):
        store = SOMAStore(os.fspath(path), layer, memory)
        return store.cells()
    given = Path(path).expanduser()
    if given.exists() and given.suffix.lower() != ".h5ad":
        raise DataFormatError(
            f"{given} cannot be left on disk: data.backed=true is for .h5ad files and TileDB-SOMA experiments. "
            "Save it as .h5ad (anndata.AnnData(X).write_h5ad), or write data.backed=false."
        )
    return HDF5Store(given, layer, memory).cells()
