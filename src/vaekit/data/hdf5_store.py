"""A matrix of an HDF5 file, left there: compressed rows or dense."""

# N cells, F features, nnz stored values

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.errors import DataFormatError
from vaekit.data.filed import Filed, Positions, Store
from vaekit.data.h5ad import matrix_node, read_columns, read_index, sparse_layout
from vaekit.data.hdf5 import open_hdf5
from vaekit.data.matrix import Cells, checked_csr, sparse_of_rows, unique


class HDF5Store(Store):
    """X, a layer or raw of an .h5ad file.

    The file is looked over as a whole whenever it is opened: at the first read, and again in every process, for a handle can
    neither be forked nor sent. It has to stay the file that it was. Beside values, the memory holds 8 bytes for each row.

    Arguments:
        path: The file.
        layer: As of `read_h5ad`.
        memory: MiB, as of `Store`.

    Raises:
        FileNotFoundError: If there is no such file.
        DataFormatError: If it is damaged, is refused by `open_hdf5`, or stores the matrix by columns.
        ValueError: If there is no such layer.
    """

    def __init__(self, path: Path, layer: str | None, memory: int) -> None:
        super().__init__(memory)
        self.path, self.layer = path.resolve(), layer
        self._state = self._signature() if path.is_file() else (0, 0)
        self._opened: tuple[int, AbstractContextManager[Any], Any] | None = None
        node = self._node()
        self._dense = hasattr(node, "shape")
        self.shape = _dense_shape(node, path) if self._dense else self._sparse_shape(node)
        self._starts = self._read_starts(node)

    @property
    def starts(self) -> Positions:
        """Values before each row; of a dense matrix all of them."""
        return self._starts

    def rows(self, first: int, last: int) -> Any:
        """The rows from `first` to before `last`, in compressed rows."""
        node = self._node()
        try:
            if self._dense:
                return sparse_of_rows([node[first:last]], self.shape[1])
            begin, end = int(self._starts[first]), int(self._starts[last])
            values, indices = node["data"][begin:end], node["indices"][begin:end]
        except (OSError, RuntimeError) as error:
            raise DataFormatError(f"{self.path} cannot be read at rows {first:,} to {last:,}: {error}.") from error
        starts, shape = self._starts[first : last + 1] - begin, (last - first, self.shape[1])
        return checked_csr(values, indices, starts, shape=shape, layout="csr", where=f"{self.path}: {node.name}")

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].__exit__(None, None, None)

    def cells(self) -> Cells:
        """The matrix, which is not read, with the names of its features and what is known of its cells, which are."""
        node = self._node(parent=True)
        names = matrix_node(node, self.layer, self.path)[1]
        genes = unique(read_index(names, self.path))
        if len(genes) != self.shape[1]:
            raise DataFormatError(f"{self.path} has {self.shape[1]:,} features, but {len(genes):,} names of them.")
        return Cells(Filed(self, np.arange(self.shape[0])), genes, read_columns(node, "obs", self.path))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_opened": None}

    def _node(self, *, parent: bool = False) -> Any:
        """The node of the matrix, or the file that it is in."""
        if self._opened is None or self._opened[0] != os.getpid():
            if self.path.is_file() and self._signature() != self._state:
                raise DataFormatError(f"{self.path} was changed while it was in use. Start again.")
            context = open_hdf5(self.path)
            self._opened = (os.getpid(), context, context.__enter__())
        file = self._opened[2]
        return file if parent else matrix_node(file, self.layer, self.path)[0]

    def _signature(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    def _sparse_shape(self, node: Any) -> tuple[int, int]:
        layout, shape = sparse_layout(node, self.path)
        if layout != "csr":
            raise DataFormatError(
                f"{self.path}: {node.name} is stored by columns ({layout}), of which no row can be read alone. Save it by rows "
                "(adata.X = adata.X.tocsr()), or write data.backed=false."
            )
        return shape

    def _read_starts(self, node: Any) -> Positions:
        n, width = self.shape
        if self._dense:
            return np.arange(n + 1, dtype=np.int64) * width
        starts, count = node["indptr"], len(node["data"])
        sound = starts.shape == (n + 1,) and starts.dtype.kind in "iu" and len(node["indices"]) == count
        read = starts[()].astype(np.int64) if sound else np.zeros(0, np.int64)
        if not sound or read[0] != 0 or read[-1] != count or (read[1:] < read[:-1]).any():
            raise DataFormatError(f"{self.path}: {node.name} is damaged: its parts do not make up {self.shape}.")
        return read


def _dense_shape(node: Any, path: Path) -> tuple[int, int]:
    if len(node.shape) != 2 or node.dtype.kind not in "biuf":
        raise DataFormatError(
            f"{path}: {node.name} has shape {node.shape} and type {node.dtype}, expected numbers (N, F)."
        )
    return int(node.shape[0]), int(node.shape[1])
