"""TileDB-SOMA experiments: cells in a folder or behind a URI, read by ranges of their ids."""

# N cells, F features, nnz stored values

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.data.errors import DataFormatError
from vaekit.data.extra import extra
from vaekit.data.filed import Filed, Positions, Store
from vaekit.data.matrix import Cells, canonical, unique
from vaekit.errors import closest

_CELLS, _GENES = ("obs_id", "index"), ("feature_name", "gene_name", "feature_id", "var_id", "index")
_BUFFER = 2**20  # bytes, the smallest worth asking for


class SOMAStore(Store):
    """A layer of X of one measurement of an experiment.

    An experiment may name arrays that lie elsewhere, and a URI goes to the network: open those that you trust. The memory bounds
    what is asked for at a time and what is kept of it; what TileDB takes by itself beside that is its own.

    Arguments:
        uri: Of the experiment.
        layer: `MEASUREMENT/LAYER`, or a layer of the only measurement; None for the only one of each, or RNA and data.
        memory: MiB, as of `Store`.

    Raises:
        DataFormatError: If it is no experiment or cannot be read.
        ValueError: If there is no such measurement or layer.
        ConfigError: If tiledbsoma is not installed.
    """

    def __init__(self, uri: str, layer: str | None, memory: int) -> None:
        super().__init__(memory)
        self.uri = uri if "://" in uri else str(Path(uri).expanduser().resolve())
        self._opened: tuple[int, Any, Any] | None = None
        experiment = self._experiment()
        self.measurement, self.layer = _chosen(experiment, layer, uri)
        self._cells = _ids(experiment.obs)
        self._genes = _ids(experiment.ms[self.measurement].var)
        self.shape = len(self._cells), len(self._genes)
        self._mean = -(-int(self._matrix().nnz) // max(1, len(self._cells)))

    @property
    def starts(self) -> Positions:
        """Values before each row, as if all rows had equally many: how many each has is nowhere stored."""
        return np.arange(self.shape[0] + 1, dtype=np.int64) * max(1, self._mean)

    def rows(self, first: int, last: int) -> Any:
        """The rows from `first` to before `last`, in the order of their ids."""
        from scipy import sparse

        ids = self._cells[first:last]
        try:
            table = self._matrix().read((slice(int(ids[0]), int(ids[-1])),)).tables().concat()
        except Exception as error:
            raise DataFormatError(f"{self.uri} cannot be read at cells {first:,} to {last:,}: {error}") from error
        cells, genes, values = (table.column(name).to_numpy() for name in ("soma_dim_0", "soma_dim_1", "soma_data"))
        row, column = np.searchsorted(ids, cells), np.searchsorted(self._genes, genes)
        known = (ids[row.clip(max=len(ids) - 1)] == cells) & (
            self._genes[column.clip(max=len(self._genes) - 1)] == genes
        )
        places = row[known].astype(np.int32), column[known].astype(np.int32)
        return canonical(sparse.coo_matrix((values[known], places), shape=(last - first, self.shape[1])))

    def cells(self) -> Cells:
        """The matrix, which is not read, with the names of its features and what is known of its cells, which are."""
        experiment = self._experiment()
        columns = _columns(experiment.obs)
        features = _columns(experiment.ms[self.measurement].var)
        name = next((name for name in _GENES if name in features), "soma_joinid")
        index = next((name for name in _CELLS if name in columns), "soma_joinid")
        known = {key: values for key, values in columns.items() if key not in ("soma_joinid", index)}
        named = {"index": columns[index].astype(np.str_)} | known
        return Cells(Filed(self, np.arange(self.shape[0])), unique(features[name].astype(np.str_)), named)

    def close(self) -> None:
        """Let go of the experiment; the next read opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_opened": None}

    def _matrix(self) -> Any:
        experiment = self._experiment()
        assert self._opened is not None
        if self._opened[2] is None:
            self._opened = (*self._opened[:2], experiment.ms[self.measurement].X[self.layer])
        return self._opened[2]

    def _experiment(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            soma = extra("tiledbsoma", "soma", f"{self.uri} is a TileDB-SOMA experiment, which")
            # of three columns, a buffer each; the package would take 1 GiB for each by itself
            buffer = max(_BUFFER, self.memory // 32)
            context = soma.SOMATileDBContext(tiledb_config={"soma.init_buffer_bytes": buffer})
            try:
                opened = soma.open(self.uri, context=context)
            except Exception as error:
                raise DataFormatError(f"{self.uri} cannot be opened as a TileDB-SOMA experiment: {error}") from error
            if not isinstance(opened, soma.Experiment):
                raise DataFormatError(
                    f"{self.uri} is a {type(opened).__name__} of TileDB-SOMA, expected an Experiment."
                )
            self._opened = (os.getpid(), opened, None)
        return self._opened[1]


def _chosen(experiment: Any, layer: str | None, uri: str) -> tuple[str, str]:
    """Measurement and layer."""
    asked, slash, below = (layer or "").rpartition("/")
    there = list(experiment.ms)
    measurement = _one(asked if slash else None, there, "RNA", "measurement", uri)
    found = _one(below or None, list(experiment.ms[measurement].X), "data", f"layer of {measurement}", uri)
    return measurement, found


def _one(asked: str | None, there: list[str], usual: str, what: str, uri: str) -> str:
    if asked is None and (len(there) == 1 or usual in there):
        return there[0] if len(there) == 1 else usual
    if asked in there:
        assert asked is not None
        return asked
    said = "none" if asked is None else repr(asked)
    near = closest(asked, there) if asked else f": write data.layer=MEASUREMENT/LAYER; there are {', '.join(there)}."
    raise ValueError(f"{uri}: the {what} asked for is {said}{near}")


def _ids(frame: Any) -> Positions:
    """The ids of the rows of obs or var, rising."""
    ids: Positions = np.sort(frame.read(column_names=["soma_joinid"]).concat()["soma_joinid"].to_numpy())
    return ids


def _columns(frame: Any) -> dict[str, npt.NDArray[Any]]:
    """Numbers, booleans and texts of obs or var by column, in the order of their ids."""
    table = frame.read().concat().sort_by("soma_joinid")
    read = {name: _column(table[name]) for name in table.column_names}
    return {name: values for name, values in read.items() if values is not None}


def _column(column: Any) -> npt.NDArray[Any] | None:
    """A missing text is "", a missing number NaN; None for what is neither."""
    values = np.asarray(column.to_pandas())
    if values.dtype.kind in "biuf":
        return values
    listed = column.to_pylist()
    if all(value is None or isinstance(value, str) for value in listed):
        return np.array(["" if value is None else value for value in listed], dtype=np.str_)
    if all(value is None or isinstance(value, bool | int | float) for value in listed):
        return np.array([np.nan if value is None else value for value in listed], dtype=np.float64)
    return None
