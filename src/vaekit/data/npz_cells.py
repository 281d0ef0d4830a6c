"""Sparse matrices in .npz archives, as scipy.sparse.save_npz writes them."""

# N cells, F features

from __future__ import annotations

from pathlib import Path

import numpy as np

from vaekit.data.errors import DataFormatError
from vaekit.data.matrix import Cells, checked_csr, unique
from vaekit.data.npy import read_arrays

_PARTS = ("data", "indices", "indptr", "shape")
_FEW = 2**20  # features that may be more than there are values
_NAMES = ("genes", "features", "var_names")


def read_npz(path: Path) -> Cells:
    """The cells in an archive with data, indices, indptr, shape and format (csr or csc).

    Other arrays of shape (N,) in it are columns of what is known of the cells; one of strings called genes, features or
    var_names has the names of the features, which are their numbers otherwise.

    Raises:
        FileNotFoundError: If there is no such file.
        DataFormatError: If it is damaged, holds Python objects, or no sparse matrix.
    """
    arrays = read_arrays(path)
    lacking = [name for name in _PARTS if name not in arrays]
    if lacking:
        raise DataFormatError(
            f"{path} holds {', '.join(arrays)}, expected {', '.join(lacking)} too: save it with scipy.sparse.save_npz. "
            "A dense array is read with data=array."
        )
    form = arrays["format"].item() if "format" in arrays and arrays["format"].ndim == 0 else b"csr"
    layout = form.decode("ascii", errors="replace") if isinstance(form, bytes) else str(form)
    shape = arrays["shape"]
    if layout not in ("csr", "csc") or shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise DataFormatError(
            f"{path} has a matrix of format {layout} and shape {shape}, expected csr or csc and (N, F)."
        )
    n, width = int(shape[0]), int(shape[1])
    matrix = checked_csr(*(arrays[name] for name in _PARTS[:3]), shape=(n, width), layout=layout, where=str(path))
    given = next((arrays[name] for name in _NAMES if name in arrays and arrays[name].shape == (width,)), None)
    if given is None and width > max(_FEW, len(arrays["data"])):
        raise DataFormatError(
            f"{path} states {width:,} features for {len(arrays['data']):,} values, and has no names of them."
        )
    genes = map(str, range(width)) if given is None else given.astype(np.str_)
    rest = {name: values for name, values in arrays.items() if name not in (*_PARTS, *_NAMES, "format")}
    return Cells(
        matrix, unique(list(genes)), {k: v for k, v in rest.items() if v.shape == (n,) and v.dtype.kind in "biufU"}
    )
