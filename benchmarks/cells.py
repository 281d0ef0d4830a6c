"""Made-up counts of cells: genes of very unequal expression, two fifths of them silent, and five in a hundred values above zero."""

from __future__ import annotations

import torch

from vaekit.data.batch import Dataset, Split
from vaekit.data.rows import Sparse

GENES, CELLS, MOLECULES = 28_231, 1280, 3000.0


def counts(cells: int = CELLS, genes: int = GENES) -> Sparse:
    """Poisson numbers of molecules, about 3,000 a cell; the mean expression of the genes is log-normal."""
    numbers = torch.Generator().manual_seed(0)
    mean = torch.exp(2.2 * torch.randn(genes, generator=numbers))
    mean[torch.randperm(genes, generator=numbers)[: 2 * genes // 5]] = 0.0
    mean *= MOLECULES / mean.sum()
    parts = [torch.poisson(mean.expand(64, genes), generator=numbers).to_sparse() for _ in range(cells // 64)]
    row, column = (whole := torch.cat(parts).coalesce()).indices()
    starts = torch.cat([row.new_zeros(1), torch.bincount(row, minlength=len(whole)).cumsum(0)])
    return Sparse(starts, column.int(), whole.values(), genes)


def dataset(stored: Sparse) -> Dataset:
    """Their logarithms, log(1 + count), computed as a batch is gathered."""
    split = Split(stored, (torch.log1p,))
    return Dataset("cells", split, split, split, "log(1 + count)", False, 0.0, 1e2)
