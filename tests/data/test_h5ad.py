"""AnnData files are read as anndata reads them, in the current layout and in the two before."""

import warnings

import numpy as np
import pytest

from vaekit import data
from vaekit.data.errors import DataFormatError
from vaekit.data.h5ad import read_h5ad

h5py = pytest.importorskip("h5py")

N, WIDTH = 24, 6


@pytest.fixture(scope="module")
def anndata():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("anndata")


def counts(seed=0):
    generator = np.random.default_rng(seed)
    return (generator.poisson(0.8, (N, WIDTH)) + np.eye(N, WIDTH)).astype(np.float32)


@pytest.fixture
def written(anndata, tmp_path):
    """A function that writes an AnnData object as anndata does today."""
    import pandas
    from scipy import sparse

    def write(x, name="a.h5ad"):
        obs = pandas.DataFrame(
            {
                "kind": pandas.Categorical(["B", "T", None] * (N // 3), categories=["T", "B", "never"]),
                "level": pandas.Categorical([3, 1] * (N // 2)),
                "text": [f"t{n % 5}" for n in range(N)],
                "number": np.linspace(0, 1, N),
                "whole": pandas.array([1, None] * (N // 2), dtype="Int64"),
                "flag": pandas.array([True, None] * (N // 2), dtype="boolean"),
                "yes": np.arange(N) % 2 == 0,
            },
            index=[f"cell{n}" for n in range(N)],
        )
        var = pandas.DataFrame({"id": [f"g{n}" for n in range(WIDTH)]}, index=["A", "B", "A", "C", "A", "A-1"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = anndata.AnnData(x, obs=obs, var=var)
            made.layers["dense"], made.layers["columns"] = counts(1), sparse.csc_matrix(counts(2))
            made.raw = anndata.AnnData(counts(3), obs=obs, var=var)
            made.obsm["X_pca"] = np.zeros((N, 2))
            made.uns["note"] = {"a": 1, "b": ["c"]}
            made.write_h5ad(tmp_path / name, compression="gzip")
        return tmp_path / name

    return write


@pytest.mark.parametrize("form", ["dense", "csr_matrix", "csc_matrix", "csr_array"])
def test_values_are_those_of_anndata_however_they_are_stored(written, form):
    from scipy import sparse

    x = counts()
    path = written(x if form == "dense" else getattr(sparse, form)(x))
    for layer, expected in ((None, x), ("dense", counts(1)), ("columns", counts(2)), ("raw", counts(3))):
        cells = read_h5ad(path, layer)
        assert np.array_equal(cells.matrix.toarray(), expected)
        assert cells.matrix.has_canonical_format


def test_columns_have_the_values_of_anndata_and_missing_ones_are_empty_or_nan(written):
    columns = read_h5ad(written(counts())).columns
    assert set(columns) == {"index", "kind", "level", "text", "number", "whole", "flag", "yes"}
    assert columns["index"].tolist() == [f"cell{n}" for n in range(N)]
    assert columns["kind"].tolist() == ["B", "T", ""] * (N // 3)
    assert columns["level"].tolist() == [3, 1] * (N // 2)
    assert columns["text"].tolist() == [f"t{n % 5}" for n in range(N)]
    assert np.array_equal(columns["number"], np.linspace(0, 1, N))
    for name in ("whole", "flag"):
        assert columns[name][0] == 1
        assert np.isnan(columns[name][1])
    assert columns["yes"].dtype == bool
    assert columns["yes"][:3].tolist() == [True, False, True]


def test_names_of_features_are_made_distinct(written):
    assert read_h5ad(written(counts())).genes == ("A", "B", "A-2", "C", "A-3", "A-1")


def test_a_layer_that_is_not_there(written):
    path = written(counts())
    with pytest.raises(
        ValueError, match=r"layer is 'spliced', but the layers of .* are: raw, columns, dense\. Leave it out"
    ):
        read_h5ad(path, "spliced")


def before_08(path):
    """anndata 0.7: categories of a column through a reference in an attribute of it."""
    with h5py.File(path, "w") as file:
        file["X"] = counts()
        file["X"].attrs["encoding-type"] = "array"
        for name, size in (("obs", N), ("var", WIDTH)):
            group = file.create_group(name)
            group.attrs.update({"_index": "_index", "encoding-type": "dataframe", "encoding-version": "0.1.0"})
            group["_index"] = [f"{name}{n}" for n in range(size)]
        codes = file["obs"].create_dataset("kind", data=np.arange(N, dtype=np.int8) % 3 - 1)
        categories = file["obs"].create_group("__categories").create_dataset("kind", data=["left", "right"])
        codes.attrs["categories"] = categories.ref
        file["obs/number"] = np.arange(N)
    return path


def before_07(path):
    """anndata before 0.7: compound tables, categories in uns, sparse matrices with other attributes, raw at the top."""
    from scipy import sparse

    x = sparse.csr_matrix(counts())
    with h5py.File(path, "w") as file:
        for place, attributes in (
            ("X", ("h5sparse_format", "h5sparse_shape")),
            ("raw.X", ("h5sparse_format", "h5sparse_shape")),
        ):
            group = file.create_group(place)
            group.attrs[attributes[0]], group.attrs[attributes[1]] = "csr", x.shape
            group["data"], group["indices"], group["indptr"] = x.data, x.indices, x.indptr
        obs = np.zeros(N, dtype=[("index", "S8"), ("kind", "i1"), ("number", "f4"), ("text", "S4")])
        obs["index"], obs["kind"] = [f"obs{n}".encode() for n in range(N)], np.arange(N) % 3 - 1
        obs["number"], obs["text"] = np.arange(N), b"t"
        var = np.zeros(WIDTH, dtype=[("index", "S8")])
        var["index"] = [f"var{n}".encode() for n in range(WIDTH)]
        file["obs"], file["var"], file["raw.var"] = obs, var, var
        file["uns/kind_categories"] = [b"left", b"right"]
    return path


@pytest.mark.parametrize("write", [before_08, before_07], ids=lambda write: write.__name__)
def test_older_layouts(write, tmp_path):
    cells = read_h5ad(write(tmp_path / "old.h5ad"))
    assert np.array_equal(cells.matrix.toarray(), counts())
    assert cells.genes == tuple(f"var{n}" for n in range(WIDTH))
    assert cells.columns["index"].tolist() == [f"obs{n}" for n in range(N)]
    assert cells.columns["kind"].tolist() == ["", "left", "right"] * (N // 3)
    assert cells.columns["number"].tolist() == list(range(N))
    if write is before_07:
        assert cells.columns["text"].tolist() == ["t"] * N
        assert np.array_equal(read_h5ad(tmp_path / "old.h5ad", "raw").matrix.toarray(), counts())


def test_the_reduced_pbmc68k_is_read_as_anndata_reads_it(need, anndata):
    need("pbmc68k_reduced")
    from vaekit.data.catalog import located

    _, files = located("pbmc68k_reduced", None)
    path = next(iter(files.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = anndata.read_h5ad(path)
    cells = read_h5ad(path)
    assert np.array_equal(cells.matrix.toarray(), expected.X)
    assert np.array_equal(read_h5ad(path, "raw").matrix.toarray(), expected.raw.X.toarray())
    assert cells.genes == tuple(expected.var_names)
    assert cells.columns["index"].tolist() == list(expected.obs_names)
    for name in expected.obs:
        assert cells.columns[name].tolist() == expected.obs[name].tolist(), name


def broken(**parts):
    """A sparse X of which some parts are replaced."""

    def write(path):
        before_08(path)
        from scipy import sparse

        x = sparse.csr_matrix(counts())
        whole = {"data": x.data, "indices": x.indices, "indptr": x.indptr, "shape": x.shape, "kind": "csr_matrix"}
        whole |= {name: make(whole[name]) for name, make in parts.items()}
        with h5py.File(path, "a") as file:
            del file["X"]
            group = file.create_group("X")
            group.attrs["encoding-type"], group.attrs["shape"] = whole["kind"], whole["shape"]
            for name in ("data", "indices", "indptr"):
                group[name] = whole[name]
        return path

    return write


def changed(at, value):
    def change(values):
        values = values.copy()
        values[at] = value
        return values

    return change


BROKEN = {
    "nothing": (broken(), None),
    "a column beyond the last": (broken(indices=changed(3, WIDTH)), "is damaged"),
    "a negative column": (broken(indices=changed(0, -1)), "is damaged"),
    "rows that go back": (broken(indptr=changed(4, 10**6)), "is damaged"),
    "a start below zero": (broken(indptr=changed(1, -5)), "is damaged"),
    "a first row that is not at the beginning": (broken(indptr=changed(0, 1)), "is damaged"),
    "too few values": (broken(data=lambda v: v[:-1]), "is damaged"),
    "too few rows": (broken(indptr=lambda v: v[:-1]), "is damaged"),
    "more cells than it has": (broken(shape=lambda s: (10**12, WIDTH)), "is damaged"),
    "other features": (broken(shape=lambda s: (N, WIDTH + 1)), "has 7 features, but there are 6 names"),
    "texts for values": (broken(data=lambda v: np.array([b"x"] * len(v))), "is damaged"),
    "fractions for columns": (broken(indices=lambda v: v.astype(np.float64)), "is damaged"),
    "a kind that nobody knows": (broken(kind=lambda k: "coo_matrix"), "expected a dense, csr or csc matrix"),
    "no number": (broken(data=changed(2, np.nan)), "NaN, infinite or above 16,777,216 in 1 of 24 cells"),
}


@pytest.mark.parametrize(("write", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_matrix_that_contradicts_itself_is_refused(write, message, tmp_path):
    path = write(tmp_path / "broken.h5ad")
    if message is None:
        assert data.cells(path).event_shape == (WIDTH,)
        return
    with pytest.raises(ValueError, match=message) as error:
        data.cells(path)
    assert "broken" in str(error.value)


def test_codes_beyond_the_categories_are_refused(tmp_path):
    with h5py.File(before_08(tmp_path / "a.h5ad"), "a") as file:
        file["obs/kind"][0] = 2
    with pytest.raises(DataFormatError, match="codes up to 2, but 2 categories"):
        read_h5ad(tmp_path / "a.h5ad")


@pytest.mark.parametrize("kind", ["texts", "categories"])
def test_texts_of_which_one_would_make_all_enormous_are_refused(kind, tmp_path):
    """An array of strings gives each as much room as the longest: 400 MB here, in a file of a tenth of a megabyte."""
    broken()(tmp_path / "a.h5ad")
    rows = 1000
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        long = ["x" * 100_000, "y"]
        if kind == "texts":
            file["obs"].create_dataset("wide", data=[long[0], *[long[1]] * (rows - 1)])
        else:
            group = file["obs"].create_group("wide")
            group["categories"], group["codes"] = long, np.zeros(rows, np.int8)
    with pytest.raises(DataFormatError, match=r"1,000 texts of up to 100,000 characters"):
        read_h5ad(tmp_path / "a.h5ad")


@pytest.mark.parametrize("shape", [(1, 10**12), (10**12, 1)])
@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_a_shape_that_the_values_do_not_justify_is_refused(shape, layout):
    from vaekit.data.matrix import checked_csr

    starts = np.array([0, 1])
    with pytest.raises(DataFormatError, match="damaged"):
        checked_csr(np.ones(1), np.zeros(1, int), starts, shape=shape, layout=layout, where="here")


def test_a_column_of_another_length_is_refused(tmp_path):
    with h5py.File(before_08(tmp_path / "a.h5ad"), "a") as file:
        file["obs/short"] = np.arange(3)
    with pytest.raises(DataFormatError, match="24 cells and 6 features has column 'short' of 3"):
        read_h5ad(tmp_path / "a.h5ad")


def test_an_hdf5_file_that_is_no_anndata(tmp_path):
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["table"] = np.zeros(3)
    with pytest.raises(DataFormatError, match="has no obs, var, but table; expected an AnnData file"):
        read_h5ad(tmp_path / "other.h5ad")


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int64, np.uint16, np.bool_, ">f4", ">i4"])
def test_every_type_of_number_is_read(kind, tmp_path):
    with h5py.File(before_08(tmp_path / "a.h5ad"), "a") as file:
        del file["X"]
        file["X"] = counts().astype(kind)
    assert np.array_equal(read_h5ad(tmp_path / "a.h5ad").matrix.toarray(), counts().astype(kind))
