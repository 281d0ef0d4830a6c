"""How the cells of the catalogue are read: PBMC 3k, Paul et al. 2015, Kang et al. 2018, and a reduced PBMC 68k."""

# N cells, F features

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.data.errors import DataFormatError
from vaekit.data.h5ad import read_h5ad
from vaekit.data.hdf5 import as_text, open_hdf5, row_blocks
from vaekit.data.matrix import Cells, canonical, sparse_of_rows, unique
from vaekit.data.tenx import tenx_of

PAUL15, KANG, PBMC68K = "paul15.h5", "kang2018_pbmc_ctrl_stim_2000.h5ad", "10x_pbmc68k_reduced.h5ad"
PBMC3K = "pbmc3k_raw.h5ad"

# SHA-256 of the sorted barcodes, one a line: the cells whose types pbmc3k_cell_types.txt lists in that order, a digit each
_PBMC3K_BARCODES = "c68847ef4fbf23a8bb3dd3d29692fdd4e0cdb4e979caabd355395fe4549b5316"
_PBMC3K_TYPES = (
    *("", "B cells", "CD14+ Monocytes", "CD4 T cells", "CD8 T cells", "Dendritic cells"),
    *("FCGR3A+ Monocytes", "Megakaryocytes", "NK cells"),
)
_PAUL15_TYPES = (
    *("1Ery", "2Ery", "3Ery", "4Ery", "5Ery", "6Ery", "7MEP", "8Mk", "9GMP", "10GMP", "11DC", "12Baso", "13Baso"),
    *("14Mo", "15Mo", "16Neu", "17Neu", "18Eos", "19Lymph"),
)


def _pbmc3k(files: Mapping[str, Path]) -> Cells:
    """The counts, and as `cell_type` the cluster of the 2,638 cells that pass the filter of scanpy's tutorial, "" of the others."""
    if PBMC3K in files:
        cells = read_h5ad(files[PBMC3K])
    else:
        kinds = {"matrix": "matrix.mtx", "genes": "genes.tsv", "barcodes": "barcodes.tsv"}
        cells = tenx_of({kind: files.get(f"{name}.gz") or files[name] for kind, name in kinds.items()})
    barcodes = cells.columns["index"]
    order = np.argsort(barcodes)
    listed = "\n".join(barcodes[order].tolist())
    if hashlib.sha256(listed.encode()).hexdigest() != _PBMC3K_BARCODES:
        return cells  # other cells than the published ones
    codes = resources("vaekit").joinpath("data", "pbmc3k_cell_types.txt").read_text(encoding="ascii").split()
    types = np.empty(len(order), dtype=f"<U{max(map(len, _PBMC3K_TYPES))}")
    types[order] = np.array(_PBMC3K_TYPES)[[int(digit) for digit in "".join(codes)]]
    return Cells(cells.matrix, cells.genes, {**cells.columns, "cell_type": types})


def _paul15(files: Mapping[str, Path]) -> Cells:
    """Counts as sequenced, not after the authors' correction of batches; `cluster` and `batch`. Genes are rows in the file."""
    path = files[PAUL15]
    with open_hdf5(path) as file:
        needed = ("data", "data_rownames", "data_colnames", "cluster.id", "batch.names")
        lacking = [name for name in needed if name not in file]
        if lacking:
            raise DataFormatError(f"{path} has no {', '.join(lacking)}. Fetch it again.")
        matrix = canonical(sparse_of_rows(row_blocks(file["data"]), file["data"].shape[1]).T)
        clusters, batches = (
            _numbers(file[name], 1, top, path) for name, top in (("cluster.id", 19), ("batch.names", 16))
        )
        # a gene can have synonyms, separated by semicolons: the first is its name
        genes = unique([as_text(name).split(";")[0] for name in file["data_rownames"][()]])
        names = np.array([as_text(name) for name in file["data_colnames"][()]])
    types = np.array(_PAUL15_TYPES)[clusters - 1]
    return Cells(matrix, genes, {"index": names, "cluster": types, "batch": batches})


def _numbers(values: Any, low: int, high: int, path: Path) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = values[()].reshape(-1).astype(np.int64)
    if not low <= int(numbers.min()) <= int(numbers.max()) <= high:
        raise DataFormatError(f"{path}: {values.name} has numbers outside {low} to {high}. Fetch it again.")
    return numbers


READERS: dict[str, Callable[[Mapping[str, Path]], Cells]] = {
    "pbmc3k": _pbmc3k,
    "paul15": _paul15,
    "kang_pbmc": lambda files: read_h5ad(files[KANG]),
    "pbmc68k_reduced": lambda files: read_h5ad(files[PBMC68K]),
}
