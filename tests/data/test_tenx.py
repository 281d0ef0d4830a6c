"""10x folders and sparse archives: transposed, matched with their names, and bounded."""

import gzip
import tracemalloc

import numpy as np
import pytest

from vaekit import data
from vaekit.data.cells import read_cells
from vaekit.data.errors import DataFormatError
from vaekit.data.tenx import read_matrix_market, read_tenx

GENES, CELLS = 5, 12


def counts():
    generator = np.random.default_rng(0)
    return generator.poisson(0.7, (CELLS, GENES)) + np.eye(CELLS, GENES, dtype=np.int64)


def market(matrix, kind="integer"):
    """Matrix Market text of genes x cells."""
    rows, columns = np.nonzero(matrix.T)
    lines = [f"{r + 1} {c + 1} {matrix[c, r]}" for r, c in zip(rows, columns, strict=True)]
    sizes = f"{matrix.shape[1]} {matrix.shape[0]} {len(lines)}"
    return "\n".join([f"%%MatrixMarket matrix coordinate {kind} general", "%a comment", sizes, *lines]) + "\n"


def write(folder, packed=False, newer=False, content=None, genes=None, barcodes=None):
    folder.mkdir(parents=True, exist_ok=True)
    lines = genes or [f"ENSG{n}\tG{n % 4}" + ("\tGene Expression" if newer else "") for n in range(GENES)]
    files = {
        "matrix.mtx": content or market(counts()),
        "features.tsv" if newer else "genes.tsv": "\n".join(lines) + "\n",
        "barcodes.tsv": "\n".join(barcodes or [f"CELL{n}-1" for n in range(CELLS)]) + "\n",
    }
    for name, text in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize("newer", [False, True], ids=["genes", "features"])
@pytest.mark.parametrize("nested", ["", "filtered_gene_bc_matrices/hg19"])
def test_a_folder_is_read_whatever_its_version(tmp_path, packed, newer, nested):
    write(tmp_path / nested, packed, newer)
    cells = read_tenx(tmp_path)
    assert np.array_equal(cells.matrix.toarray(), counts())
    assert cells.genes == ("G0", "G1", "G2", "G3", "G0-1")
    assert cells.columns["index"].tolist() == [f"CELL{n}-1" for n in range(CELLS)]


def test_the_matrix_itself_may_be_named(tmp_path):
    write(tmp_path)
    assert np.array_equal(read_cells(tmp_path / "matrix.mtx").matrix.toarray(), counts())


def test_real_numbers_and_values_that_are_there_twice(tmp_path):
    text = "%%MatrixMarket matrix coordinate real general\n5 12 3\n1 2 1.5\n3 1 2\n1 2 2.5\n"
    cells = read_tenx(write(tmp_path, content=text))
    assert cells.matrix.nnz == 2
    assert (cells.matrix[1, 0], cells.matrix[0, 2]) == (4, 2)


def test_only_gene_expression_is_taken_of_several_kinds(tmp_path):
    kinds = ["Gene Expression", "Antibody Capture", "Gene Expression", "Gene Expression", "Antibody Capture"]
    cells = read_tenx(write(tmp_path, newer=True, genes=[f"E{n}\tG{n}\t{kind}" for n, kind in enumerate(kinds)]))
    assert cells.genes == ("G0", "G2", "G3")
    assert np.array_equal(cells.matrix.toarray(), counts()[:, [0, 2, 3]])


def banner(rest):
    return f"%%MatrixMarket matrix coordinate integer general\n{rest}"


BAD = {
    "an error page": ("<html>", "starts with b'<html>"),
    "a dense matrix": (
        "%%MatrixMarket matrix array real general\n5 12\n1\n",
        "expected %%MatrixMarket matrix coordinate",
    ),
    "a symmetric matrix": ("%%MatrixMarket matrix coordinate real symmetric\n5 5 0\n", "expected %%MatrixMarket"),
    "no sizes": (banner("%c\n"), "states no sizes"),
    "sizes that are no numbers": (banner("5 twelve 3\n"), "states no sizes"),
    "negative sizes": (banner("5 12 -3\n"), "states no sizes"),
    "another shape": (banner("6 12 0\n"), "has 6 features and 12 cells, but the names are of 5 and 12"),
    "the transposed shape": (banner("12 5 0\n"), "has 12 features and 5 cells"),
    "more values than places": (banner("5 12 61\n1 1 1\n"), "states 61 values, more than"),
    "fewer values than stated": (banner("5 12 3\n1 1 1\n"), "Fetch it again"),
    "more values than stated": (banner("5 12 1\n1 1 1\n2 1 1\n"), "Fetch it again"),
    "a row beyond the last": (banner("5 12 1\n6 1 1\n"), "Fetch it again"),
    "a column of zero": (banner("5 12 1\n1 0 1\n"), "Fetch it again"),
    "a word": (banner("5 12 1\n1 1 one\n"), "cannot be read as a Matrix Market file"),
    "a line cut short": (banner("5 12 2\n1 1 1\n1"), "Fetch it again"),
    "a value beyond all integers": (banner("5 12 1\n1 1 99999999999999999999999\n"), "Fetch it again"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_a_damaged_matrix_is_refused(tmp_path, content, message, packed):
    write(tmp_path, packed, content=content)
    with pytest.raises(DataFormatError) as error:
        read_tenx(tmp_path)
    assert message in str(error.value)
    assert "matrix.mtx" in str(error.value)
    assert ".." not in str(error.value).replace(str(tmp_path), "")


def test_sizes_that_would_fill_the_memory_are_refused_before_anything_is_reserved(tmp_path):
    big = "1000000 1000000 900000000000\n1 1 1\n"
    (tmp_path / "matrix.mtx").write_text(banner(big))
    tracemalloc.start()
    with pytest.raises(DataFormatError, match="states 900,000,000,000 values"):
        read_matrix_market(tmp_path / "matrix.mtx", (10**6, 10**6))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_file_that_expands_without_end_is_stopped(tmp_path, monkeypatch):
    from vaekit.data import tenx

    monkeypatch.setattr(tenx, "_FREE", 2**20)
    write(tmp_path, packed=True, content=banner("5 12 1\n1 1 1" + " " * 2**24 + "\n"))
    with pytest.raises(DataFormatError, match=r"expands to more than [\d,]+ bytes, 200 times its size"):
        read_tenx(tmp_path)
    monkeypatch.setattr(tenx, "_NAMES", 20)
    with pytest.raises(DataFormatError, match=r"genes\.tsv\.gz has more than 20 bytes of names"):
        read_tenx(tmp_path)


@pytest.mark.parametrize("name", ["matrix.mtx.gz", "genes.tsv.gz", "barcodes.tsv.gz"])
def test_a_stream_that_is_cut_off_is_refused(tmp_path, name):
    write(tmp_path, packed=True)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataFormatError, match=f"{name} .*Fetch it again"):
        read_tenx(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none is not a folder|none does not exist"):
        data.cells(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"has no matrix\.mtx or matrix\.mtx\.gz"):
        data.cells(tmp_path)
    write(tmp_path)
    (tmp_path / "barcodes.tsv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"has genes\.tsv, matrix\.mtx, expected one of barcodes\.tsv, barcodes\.tsv\.gz"
    ):
        data.cells(tmp_path)


def test_of_several_matrices_one_is_to_be_named(tmp_path):
    write(tmp_path / "a"), write(tmp_path / "b")
    with pytest.raises(ValueError, match=r"several matrices: .*a, .*b\. Write data\.path="):
        data.cells(tmp_path)


def test_names_that_do_not_fit_the_matrix(tmp_path):
    write(tmp_path, barcodes=["one"])
    with pytest.raises(DataFormatError, match="12 cells, but the names are of 5 and 1"):
        read_tenx(tmp_path)


@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "csr_array"])
def test_an_archive_of_scipy(tmp_path, form):
    from scipy import sparse

    sparse.save_npz(tmp_path / "a.npz", getattr(sparse, form)(counts()))
    cells = read_cells(tmp_path / "a.npz")
    assert np.array_equal(cells.matrix.toarray(), counts())
    assert cells.genes == tuple("01234")
    assert dict(cells.columns) == {}
    assert data.cells(tmp_path / "a.npz").num_conditions == 1


def test_an_archive_may_have_names_and_columns(tmp_path):
    from scipy import sparse

    x = sparse.csr_matrix(counts())
    parts = {"data": x.data, "indices": x.indices, "indptr": x.indptr, "shape": x.shape, "format": b"csr"}
    np.savez(tmp_path / "a.npz", **parts, genes=list("abcde"), kind=["B", "T"] * 6, other=np.zeros(3))
    cells = read_cells(tmp_path / "a.npz")
    assert cells.genes == tuple("abcde")
    assert cells.columns["kind"].tolist() == ["B", "T"] * 6
    assert data.cells(tmp_path / "a.npz", labels="kind").class_names == ("B", "T")


def test_one_long_barcode_cannot_fill_the_memory(tmp_path):
    """NumPy gives each text the room of the longest."""
    matrix = "%%MatrixMarket matrix coordinate integer general\n1 2000 1\n1 1 1\n"
    for name, content in {
        "matrix.mtx": matrix,
        "genes.tsv": "g\tG\n",
        "barcodes.tsv": "\n".join(["A" * 100_000, *map(str, range(1999))]) + "\n",
    }.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataFormatError, match=r"its list has 2,000 texts of up to 100,000 characters"):
        read_cells(tmp_path)


def test_archives_that_will_not_do(tmp_path):
    from scipy import sparse

    np.savez(tmp_path / "dense.npz", x=counts())
    with pytest.raises(
        DataFormatError, match=r"expected data, indices, indptr, shape too: save it with scipy\.sparse\.save_npz"
    ):
        data.cells(tmp_path / "dense.npz")
    sparse.save_npz(tmp_path / "coo.npz", sparse.coo_matrix(counts()))
    with pytest.raises(DataFormatError, match="expected indices, indptr too"):
        data.cells(tmp_path / "coo.npz")
    x = sparse.csr_matrix(counts())
    np.savez(tmp_path / "far.npz", data=x.data, indices=x.indices + 1000, indptr=x.indptr, shape=x.shape, format=b"csr")
    with pytest.raises(DataFormatError, match=r"far\.npz is damaged"):
        data.cells(tmp_path / "far.npz")
    (tmp_path / "a.txt").write_text("1")
    with pytest.raises(DataFormatError, match=r"ends in '\.txt', expected \.h5ad, \.npz"):
        data.cells(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"layer is 'raw', but .* is no \.h5ad file"):
        data.cells(tmp_path / "far.npz", layer="raw")
