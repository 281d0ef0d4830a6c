"""Sparse rows answer as the dense matrix would, and are never made dense as a whole."""

import hashlib
import time

import numpy as np
import pytest
import torch

from vaekit import data
from vaekit.data.batch import Split
from vaekit.data.matrix import is_dense, stored
from vaekit.data.rows import Sparse


def random_rows(n=40, width=30, high=200, seed=0):
    """A dense matrix with empty rows and columns, and the same in sparse rows."""
    from scipy import sparse

    generator = np.random.default_rng(seed)
    dense = generator.integers(1, high, (n, width)) * (generator.random((n, width)) < 0.2)
    dense[[0, 7, n - 1]] = 0
    dense[:, [0, width - 1]] = 0
    return torch.from_numpy(dense).float(), stored(sparse.csr_matrix(dense))


@pytest.mark.parametrize("gather", [Sparse._exactly, Sparse._padded], ids=["host", "device"])
@pytest.mark.parametrize("index", [[3], [0], [39, 0, 7], [5, 5, 2, 5], list(range(40)), list(range(39, -1, -1)), []])
def test_a_batch_equals_the_rows_of_the_dense_matrix(gather, index):
    dense, rows = random_rows()
    index = torch.tensor(index, dtype=torch.int64)
    batch = gather(rows, index)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous()
    assert torch.equal(batch, dense[index])
    assert torch.equal(rows.index_select(0, index), dense[index])


@pytest.mark.parametrize("gather", [Sparse._exactly, Sparse._padded], ids=["host", "device"])
def test_rows_without_any_value(gather):
    rows = Sparse(
        torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int32), torch.zeros(0, dtype=torch.uint8), 5
    )
    assert rows.longest == 0
    assert torch.equal(gather(rows, torch.tensor([2, 0])), torch.zeros(2, 5))
    assert len(rows.part(torch.tensor([], dtype=torch.int64))) == 0


def test_it_stands_for_a_tensor():
    dense, rows = random_rows()
    assert (len(rows), rows.dim(), rows.shape, rows.device) == (40, 2, dense.shape, dense.device)
    assert rows.longest == int((dense > 0).sum(1).max())
    assert torch.equal(rows.to(torch.device("cpu")).index_select(0, torch.arange(40)), dense)


def test_a_part_is_the_rows_in_that_order_and_sparse():
    dense, rows = random_rows()
    index = torch.tensor([9, 0, 31, 9])
    part = rows.part(index)
    assert isinstance(part, Sparse)
    assert len(part.values) == int((dense[index] > 0).sum())
    assert torch.equal(part.index_select(0, torch.arange(4)), dense[index])
    assert torch.equal(part.part(torch.tensor([2])).index_select(0, torch.tensor([0])), dense[31:32])


@pytest.mark.parametrize(
    ("high", "kind"),
    [(200, torch.uint8), (256, torch.uint8), (257, torch.int16), (32768, torch.int16), (32769, torch.int32)],
)
def test_counts_are_kept_in_the_smallest_type_that_has_them(high, kind):
    from scipy import sparse

    matrix = sparse.csr_matrix(np.array([[0, 1.0, 0, 0], [0, 0, 0, high - 1.0]]))
    rows = stored(matrix)
    assert rows.dtype == kind
    assert rows.index_select(0, torch.tensor([1])).tolist() == [[0, 0, 0, high - 1]]


def test_fractions_and_negative_numbers_keep_their_values():
    from scipy import sparse

    assert stored(sparse.csr_matrix(np.array([[0.5, 0, 0]]))).dtype == torch.float32
    rows = stored(sparse.csr_matrix(np.array([[-3.0, 0, 0]])))
    assert rows.dtype == torch.int16
    assert rows.index_select(0, torch.tensor([0])).tolist() == [[-3, 0, 0]]


def test_what_is_mostly_not_zero_is_a_tensor():
    from scipy import sparse

    dense = np.array([[1.5, 2, 0], [3, -4, 5]])
    assert is_dense(sparse.csr_matrix(dense))
    assert not is_dense(sparse.csr_matrix(dense * [[0, 1, 0], [0, 1, 1]]))
    kept = stored(sparse.csr_matrix(dense), dense=True)
    assert isinstance(kept, torch.Tensor)
    assert torch.equal(kept, torch.from_numpy(dense).float())


def digest(rows):
    sha = hashlib.sha256()
    rows.digest(sha.update)
    return sha.hexdigest()


def test_digests_are_equal_exactly_if_the_rows_are():
    _, rows = random_rows()
    assert digest(rows) == digest(random_rows()[1])
    assert digest(rows) == digest(rows.part(torch.arange(40)))
    changed = rows.values.clone()
    changed[5] += 1
    moved = rows.columns.clone()
    moved[0] -= 1
    shifted = rows.starts.clone()
    shifted[2] -= 1
    others = [
        Sparse(rows.starts, rows.columns, changed, rows.width),
        Sparse(rows.starts, moved, rows.values, rows.width),
        Sparse(shifted, rows.columns, rows.values, rows.width),
        rows.part(torch.arange(39, -1, -1)),
    ]
    assert len({digest(rows), *map(digest, others)}) == 5


def test_the_order_of_an_epoch_has_each_row_once_and_follows_the_generator():
    _, rows = random_rows()
    first, again, other = (rows.order(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.sort().values.tolist() == list(range(40))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # as a split that stores a tensor
    dense = Split(torch.zeros(40, 1), ())
    assert torch.equal(first, dense.order(torch.Generator().manual_seed(1)))


def test_a_split_of_sparse_rows_behaves_as_one_of_a_tensor():
    dense, rows = random_rows()
    names = {"cell": np.array([f"c{n}" for n in range(40)])}
    split = Split(rows, (torch.log1p,), torch.arange(40), torch.arange(40.0)[:, None], names)
    index = torch.tensor([4, 30])
    part = split.part(index)
    for batch in (split.batch(index), part.batch(torch.arange(2))):
        assert torch.equal(batch.x, dense[index].log1p())
        assert batch.labels.tolist() == [4, 30]
        assert batch.context.tolist() == [[4.0], [30.0]]
    assert part.annotations["cell"].tolist() == ["c4", "c30"]


def test_gathering_records_no_gradient():
    _, rows = random_rows()
    with torch.enable_grad():
        assert not rows.index_select(0, torch.tensor([1])).requires_grad


def test_a_batch_of_cells_costs_milliseconds(need):
    need("pbmc3k")
    rows = data.cells(name="pbmc3k").train.stored
    index = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:128]
    times = []
    for _ in range(40):
        start = time.perf_counter()
        rows.index_select(0, index)
        times.append(time.perf_counter() - start)
    # measured 2 ms; the best of forty, as others compute on this machine too
    assert min(times) < 0.015
