"""AnnData files (.h5ad): the current layout, and those of anndata before 0.7 and before 0.8."""

# Read with h5py alone rather than with anndata: texts are read a bounded number at a time, an old layout's references to objects
# are never followed, and importing pandas would take longer than reading the file.

# N cells, F features, nnz stored values

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.data.errors import DataFormatError
from vaekit.data.hdf5 import as_text, must_fit, open_hdf5, row_blocks, texts
from vaekit.data.matrix import Cells, checked_csr, sparse_of_rows, unique

_CATEGORIES = "__categories"  # of anndata 0.7


def read_h5ad(path: Path, layer: str | None = None) -> Cells:
    """The cells in an AnnData file.

    Arguments:
        path: The file.
        layer: None for X, `raw` for what was kept before genes were chosen, else the name of a layer.

    Raises:
        FileNotFoundError: If there is no such file.
        DataFormatError: If it is damaged, is no AnnData file, or is refused by `open_hdf5`.
        ValueError: If there is no such layer; the message lists those that are there.
    """
    with open_hdf5(path) as file:
        values, names = matrix_node(file, layer, path)
        genes = unique(read_index(names, path))
        columns = read_columns(file, "obs", path)
        return Cells(read_matrix(values, path, len(genes)), genes, columns)


def matrix_node(file: Any, layer: str | None, path: Path) -> tuple[Any, Any]:
    """The node of the values and the node of what is known of their features.

    Raises:
        DataFormatError: If the file has no obs, var or X.
        ValueError: If there is no such layer.
    """
    found: dict[str | None, tuple[str, str]] = {None: ("X", "var")}
    for raw in (("raw/X", "raw/var"), ("raw.X", "raw.var")):  # the second before anndata 0.7
        if raw[0] in file and raw[1] in file:
            found["raw"] = raw
    for name in file.get("layers", ()):
        found[name] = (f"layers/{name}", "var")
    lacking = [name for name in ("obs", "var") if name not in file]
    if lacking or (layer is None and "X" not in file):
        others = ", ".join(str(name) for name in found if name) or "no layers"
        raise DataFormatError(
            f"{path} has no {', '.join(lacking) or 'X'}, but {', '.join(file) or 'nothing'}; "
            f"expected an AnnData file. Layers: {others}."
        )
    if layer not in found:
        there = ", ".join(str(name) for name in found if name) or "none beside X"
        raise ValueError(f"data.layer is {layer!r}, but the layers of {path} are: {there}. Leave it out for X.")
    values, names = found[layer]
    return file[values], file[names]


def read_matrix(node: Any, path: Path, width: int) -> Any:
    """The values as a scipy matrix in compressed rows, whatever they are stored as.

    Raises:
        DataFormatError: If they are damaged, or have another width than there are names of features.
    """
    if hasattr(node, "shape"):
        if len(node.shape) != 2 or node.dtype.kind not in "biuf":
            raise DataFormatError(
                f"{path}: {node.name} has shape {node.shape} and type {node.dtype}, expected numbers (N, F)."
            )
        _must_have_width(node, node.shape[1], width, path)
        return sparse_of_rows(row_blocks(node), width)
    layout, shape = sparse_layout(node, path)
    _must_have_width(node, shape[1], width, path)
    parts = (node["data"][()], node["indices"][()], node["indptr"][()])
    return checked_csr(*parts, shape=shape, layout=layout, where=f"{path}: {node.name}")


def sparse_layout(node: Any, path: Path) -> tuple[str, tuple[int, int]]:
    """Whether a sparse matrix lies in compressed rows ("csr") or columns ("csc"), and its shape (N, F).

    Raises:
        DataFormatError: If the node is no sparse matrix.
    """
    kind = as_text(node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", "")))
    shape = node.attrs.get("shape", node.attrs.get("h5sparse_shape"))
    layout = kind.removesuffix("_matrix")
    if (
        layout not in ("csr", "csc")
        or shape is None
        or len(shape) != 2
        or not {"data", "indices", "indptr"} <= set(node)
    ):
        raise DataFormatError(
            f"{path}: {node.name} is {kind or 'of no stated kind'}, expected a dense, csr or csc matrix."
        )
    return layout, (int(shape[0]), int(shape[1]))


def _must_have_width(node: Any, found: int, width: int, path: Path) -> None:
    if found != width:
        raise DataFormatError(f"{path}: {node.name} has {found:,} features, but there are {width:,} names of them.")


def read_index(node: Any, path: Path) -> npt.NDArray[np.str_]:
    """The names of the rows of obs or var."""
    if hasattr(node, "dtype"):  # a compound table
        name = "index" if "index" in node.dtype.names else node.dtype.names[0]
        return np.array([as_text(value) for value in node[name]], dtype=np.str_)
    found = _column(node, as_text(node.attrs.get("_index", "_index")), path)
    if found is None:
        raise DataFormatError(f"{path}: {node.name} has no names of its rows.")
    return found.astype(np.str_)


def read_columns(file: Any, name: str, path: Path) -> dict[str, npt.NDArray[Any]]:
    """What a file says of its cells (name "obs") or features ("var"), by column: numbers, booleans or strings, each of shape (N,).

    The names of the rows are the column `index`. A missing text is "", a missing number NaN. What is no such column is left out.
    """
    node = file[name]
    columns: dict[str, npt.NDArray[Any]] = {"index": read_index(node, path)}
    if hasattr(node, "dtype"):
        return columns | _compound(node, file.get("uns", {}), path)
    index = as_text(node.attrs.get("_index", "_index"))
    for column in node:
        if column not in (index, _CATEGORIES) and (values := _column(node, column, path)) is not None:
            columns[column] = values
    return columns


def _compound(node: Any, uns: Mapping[str, Any], path: Path) -> dict[str, npt.NDArray[Any]]:
    table = node[()]
    columns = {}
    for name in table.dtype.names[1:]:
        values = table[name]
        if values.ndim != 1:
            continue
        if f"{name}_categories" in uns and values.dtype.kind in "iu":
            values = _of_categories(values, np.array([as_text(v) for v in uns[f"{name}_categories"][()]]), path)
        columns[name] = np.array([as_text(v) for v in values]) if values.dtype.kind in "SO" else values
    return columns


def _column(node: Any, name: str, path: Path) -> npt.NDArray[Any] | None:
    values = node.get(name)
    if values is None:
        return None
    if hasattr(values, "dtype"):
        old = node.get(_CATEGORIES, {})
        if name in old:
            read = _plain(old[name], path)
            return None if read is None else _of_categories(values[()], read, path)
        return _plain(values, path)
    if {"codes", "categories"} <= set(values):
        categories = _column(values, "categories", path)
        return None if categories is None else _of_categories(values["codes"][()], categories, path)
    if {"values", "mask"} <= set(values):
        read = _plain(values["values"], path)
        return None if read is None else _masked(read, values["mask"][()].astype(bool))
    return None


def _plain(values: Any, path: Path) -> npt.NDArray[Any] | None:
    """Numbers, booleans or texts of shape (N,), else None."""
    if values.shape is None or len(values.shape) != 1:
        return None
    if values.dtype.kind in "OS":
        return texts(values, path)
    read: npt.NDArray[Any] = values[()]
    return read if read.dtype.kind in "biuf" else None


def _of_categories(codes: npt.NDArray[Any], categories: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """The category of each row; a code of -1 is a missing one."""
    if codes.size and not -1 <= int(codes.min()) <= int(codes.max()) < len(categories):
        raise DataFormatError(f"{path}: a column has codes up to {codes.max()}, but {len(categories)} categories.")
    if not len(categories):
        return np.full(len(codes), "", dtype=np.str_)
    if categories.dtype.kind == "U":
        must_fit(len(codes), categories.dtype.itemsize // 4, path, "a column of categories")
    return _masked(categories[codes], codes == -1)


def _masked(values: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    if not missing.any():
        return values
    if values.dtype.kind == "U":
        return np.where(missing, "", values)
    return np.where(missing, np.nan, values.astype(np.float64))
