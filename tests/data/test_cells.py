"""Data sets of cells: split, labelled, conditioned, filtered, never dense as a whole; and what is known of the published ones."""

import functools
import re
import tracemalloc

import numpy as np
import pytest
import torch

from vaekit import data
from vaekit.data.catalog import find_files
from vaekit.data.entries import ENTRIES
from vaekit.data.published_cells import READERS
from vaekit.data.rows import Sparse
from vaekit.data.variable import highly_variable, standardised_variance

pytestmark = pytest.mark.usefixtures("untouched")

N, WIDTH = 100, 8


def counts(seed=0):
    x = np.random.default_rng(seed).poisson(0.35, (N, WIDTH))
    x[:, 0] += 1
    return x


def columns():
    return {
        "kind": np.array(["B", "T", "NK", "T"] * 25),
        "donor": np.arange(N) % 3 + 1,
        "age": np.linspace(20, 60, N),
        "treated": np.arange(N) % 2 == 0,
        "condition": np.array(["control", "stimulated", "control", "other"] * 25),
    }


@pytest.fixture
def saved(tmp_path):
    """A function that saves counts and columns as a sparse archive."""
    from scipy import sparse

    def save(x=None, **changes):
        matrix = sparse.csr_matrix(counts() if x is None else x)
        parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": matrix.shape}
        genes = [f"g{n}" for n in range(matrix.shape[1])]
        np.savez(
            tmp_path / "mine.npz",
            **parts,
            format=b"csr",
            genes=genes,
            **{"order": np.arange(N), **columns(), **changes},
        )
        return tmp_path / "mine.npz"

    return save


def dense(split):
    return split.batch(torch.arange(len(split))).x.numpy()


def rows(split):
    """Where the cells of a split lie in the file."""
    return split.annotations["order"]


def test_each_cell_is_in_one_part_with_its_own_counts_and_columns(saved):
    cells = data.cells(saved(), labels="kind", validation=0.2, test=0.3)
    assert [len(split) for split in cells.splits] == [50, 20, 30]
    assert sorted(np.concatenate([rows(split) for split in cells.splits])) == list(range(N))
    for split in cells.splits:
        assert isinstance(split.stored, Sparse)
        assert split.stored.dtype == torch.uint8
        assert np.array_equal(dense(split), counts()[rows(split)])
        assert [cells.class_names[n] for n in split.labels] == columns()["kind"][rows(split)].tolist()
        for name, values in columns().items():
            assert np.array_equal(split.annotations[name], values[rows(split)])
    assert cells.class_names == ("B", "NK", "T")
    assert (cells.num_classes, cells.counts, cells.binary, cells.levels) == (3, True, False, None)
    assert (cells.low, cells.high) == (0, counts().max())
    assert cells.feature_names == tuple(f"g{n}" for n in range(WIDTH))
    assert cells.name == "mine"


def test_the_split_follows_the_seed_only(saved):
    path = saved()
    first, again, other = (data.cells(path, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint() == again.fingerprint()
    assert first.fingerprint() != other.fingerprint()
    logged = data.cells(path, expression="log1p")
    assert np.array_equal(rows(first.test), rows(logged.test))


def test_conditions_are_the_library_then_the_batch_then_the_covariates(saved):
    cells = data.cells(saved(), batch="donor", covariates=["age", "kind", "treated"])
    ages = columns()["age"]
    mean, deviation = ages[rows(cells.train)].mean(), ages[rows(cells.train)].std()
    assert (cells.num_batches, cells.num_conditions) == (3, 1 + 3 + 1 + 3 + 2)
    for split in cells.splits:
        c, at = split.conditions.numpy(), rows(split)
        assert split.conditions.dtype == torch.float32
        np.testing.assert_allclose(c[:, 0], np.log(counts()[at].sum(1)), rtol=1e-6)
        assert np.array_equal(c[:, 1:4], np.eye(3)[columns()["donor"][at] - 1])
        np.testing.assert_allclose(c[:, 4], (ages[at] - mean) / deviation, rtol=1e-5, atol=1e-6)
        assert np.array_equal(c[:, 5:8], columns()["kind"][at][:, None] == np.array(["B", "NK", "T"]))
        assert np.array_equal(c[:, 8:], columns()["treated"][at][:, None] == np.array([False, True]))
    assert torch.equal(cells.test.batch(torch.tensor([2])).context, cells.test.conditions[2:3])
    assert (
        "its batch (donor, 3 categories), age (standardised by the training cells), kind (3 categories)"
        in cells.description
    )


def test_without_batch_and_covariates_the_library_is_the_one_condition(saved):
    cells = data.cells(saved())
    assert (cells.num_batches, cells.num_conditions, cells.num_classes) == (0, 1, 0)


@pytest.mark.parametrize("expression", ["counts", "log1p", "standardised"])
def test_the_library_is_that_of_the_kept_features_and_of_counts(saved, expression):
    cells = data.cells(saved(), expression=expression, features=4, target=1e4)
    kept = [int(name[1:]) for name in cells.feature_names]
    assert cells.event_shape == (4,)
    for split in cells.splits:
        expected = counts()[rows(split)]
        np.testing.assert_allclose(split.conditions[:, 0], np.log(expected[:, kept].sum(1)), rtol=1e-6)
        if expression == "log1p":  # normalised by all features of the file
            by_hand = np.log1p(expected[:, kept] * 1e4 / expected.sum(1, keepdims=True))
            np.testing.assert_allclose(dense(split), by_hand, rtol=1e-5)
    assert cells.counts == (expression == "counts")


def test_features_are_chosen_by_the_training_cells(saved):
    from scipy import sparse

    x = counts()
    path = saved(x)
    cells = data.cells(path, features=3)
    chosen = highly_variable(sparse.csr_matrix(x[rows(cells.train)]), 3)
    assert cells.feature_names == tuple(f"g{n}" for n in chosen)
    x[rows(cells.test), 2] = 100  # what varies among the others only
    x[rows(cells.validation), 5] = 77
    assert data.cells(saved(x), features=3).feature_names == cells.feature_names


def test_cells_with_a_value_are_set_aside(saved):
    cells = data.cells(saved(), ood="condition=stimulated", batch="condition", labels="kind")
    condition = columns()["condition"]
    assert set(condition[rows(cells.ood)]) == {"stimulated"}
    assert len(cells.ood) == 25
    assert "stimulated" not in set(np.concatenate([condition[rows(split)] for split in cells.splits]))
    assert sum(map(len, cells.splits)) == 75
    assert cells.split("ood") is cells.ood
    assert np.array_equal(dense(cells.ood), counts()[rows(cells.ood)])
    # the batches are those of training, and none of them is that of these cells
    assert cells.num_batches == 2
    assert not cells.ood.conditions[:, 1:].any()
    assert "after 25 cells with condition=stimulated were set aside" in cells.description
    assert " and 25 out of distribution" in cells.description


@pytest.mark.parametrize(
    ("ood", "name", "values"),
    [
        ("condition=stimulated|other", "condition", {"stimulated", "other"}),
        ("donor=2", "donor", {2}),
        ("treated=True", "treated", {True}),
    ],
)
def test_several_values_and_values_of_other_types(saved, ood, name, values):
    cells = data.cells(saved(), ood=ood)
    assert set(columns()[name][rows(cells.ood)].tolist()) == values
    assert not values & set(columns()[name][np.concatenate([rows(split) for split in cells.splits])].tolist())


@pytest.mark.parametrize(
    ("ood", "message"),
    [
        ("stimulated", "expected COLUMN=VALUE, such as condition=stimulated"),
        ("condition=", "expected COLUMN=VALUE"),
        ("condtion=stimulated", "no such column; closest: condition"),
        ("condition=stimulatd", "no cell has condition=stimulatd; closest: stimulated"),
        ("treated=True|False", "sets every cell aside"),
    ],
)
def test_what_cannot_be_set_aside_is_said(saved, ood, message):
    with pytest.raises(ValueError, match=message):
        data.cells(saved(), ood=ood)


def test_cells_without_a_label_are_left_out_and_counted(saved):
    kind = columns()["kind"]
    kind[:7] = ""
    path = saved(kind=kind, level=np.where(np.arange(N) < 5, np.nan, np.arange(N) % 2))
    labelled = data.cells(path, labels="kind")
    assert sum(map(len, labelled.splits)) == 93
    assert labelled.class_names == ("B", "NK", "T")
    assert "7 cells with no kind left out" in labelled.description
    assert data.cells(path, labels="level").class_names == ("0", "1")
    assert sum(map(len, data.cells(path, labels="level").splits)) == 95
    assert sum(map(len, data.cells(path).splits)) == N


def test_cells_without_counts_are_left_out_and_counted(saved):
    x = counts()
    x[[3, 50, 70]] = 0
    cells = data.cells(saved(x))
    assert sum(map(len, cells.splits)) == 97
    assert "3 cells with no counts left out" in cells.description
    assert all(bool(split.conditions.isfinite().all()) for split in cells.splits)
    few = data.cells(saved(x), min_counts=6)
    assert sum(map(len, few.splits)) == np.count_nonzero(x.sum(1) >= 6)
    assert "cells with fewer than 6 counts left out" in few.description


def test_features_in_few_training_cells_are_left_out(saved):
    x = counts()
    x[:, 3] = 0
    x[:2, 3] = 1
    cells = data.cells(saved(x), min_cells=3)
    assert cells.feature_names == tuple(f"g{n}" for n in range(WIDTH) if n != 3)
    assert "1 features in fewer than 3 training cells left out" in cells.description


def test_cells_that_lose_all_counts_with_their_features_are_left_out(saved):
    x = counts()
    x[:, 1:] += 1
    x[::10] = 0
    x[::10, 7] = 1  # these have counts in the last feature only, and it is too rare to be kept
    x[np.arange(N) % 10 != 0, 7] = 0
    cells = data.cells(saved(x), min_cells=20)
    assert cells.feature_names == tuple(f"g{n}" for n in range(7))
    assert sum(map(len, cells.splits)) == 90
    assert "10 cells without counts in these left out" in cells.description
    assert all(bool(split.conditions.isfinite().all()) for split in cells.splits)


def test_values_as_they_are(saved):
    x = np.where(counts() > 0, counts() - 1.5, 0)
    cells = data.cells(saved(x), expression="as_is", batch="donor")
    assert (cells.counts, cells.low, cells.high) == (False, x.min(), x.max())
    assert np.array_equal(dense(cells.train), x[rows(cells.train)].astype(np.float32))
    assert not cells.train.conditions[:, 0].any()  # no counts, no library
    assert cells.remedies == {}
    whole = data.cells(saved(), expression="as_is")
    assert whole.counts


def test_remedies_name_the_expression(saved):
    for expression in ("counts", "log1p"):
        assert data.cells(saved(), expression=expression).remedies == {
            "counts": "expression=counts",
            "logarithm": "expression=log1p",
        }


WRONG = {
    "no such label": ({"labels": "kinds"}, "data.labels is 'kinds', but the cells have no such column; closest: kind"),
    "no such batch": ({"batch": "plate"}, "data.batch is 'plate', but the cells have no such column"),
    "no such covariate": ({"covariates": ["ages"]}, "data.covariates is 'ages', .*closest: age"),
    "labels that are fractions": ({"labels": "age"}, "whole numbers or strings"),
    "a constant number": ({"covariates": ["constant"]}, "constant is 4 for every training cell"),
    "a missing number": ({"covariates": ["gaps"]}, "gaps is NaN or infinite for"),
    "a covariate that is the batch": ({"batch": "donor", "covariates": ["donor"]}, "which is data.batch already"),
    "no features": ({"features": 0}, "data.features is 0, expected 1 to 8"),
    "too many features": ({"features": 9}, "data.features is 9, expected 1 to 8"),
    "too few training cells for any feature": ({"min_cells": 1000}, "min_cells=1000 leaves no feature"),
    "no counts asked for": ({"min_counts": 0}, "data.min_counts is 0"),
    "too many counts asked for": ({"min_counts": 10_000}, "0 examples leave 0 for training"),
    "no training part": ({"test": 0.95}, "leave 0 for training|expected at least one"),
    "another set": ({"name": "mnist"}, "mnist is no data set of cells: write data=mnist"),
}


@pytest.mark.parametrize(("wrong", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_named(saved, wrong, message):
    gaps = columns()["age"]
    gaps[::2] = np.nan
    with pytest.raises(ValueError, match=message) as error:
        data.cells(saved(constant=np.full(N, 4.0), gaps=gaps), **wrong)
    assert "\n" not in str(error.value)


def test_choosing_features_needs_counts(saved):
    fractions = saved(counts() / 2)
    with pytest.raises(ValueError, match=r"data\.features=3 chooses features by the variance of counts"):
        data.cells(fractions, expression="as_is", features=3)
    with pytest.raises(ValueError, match=r"data\.min_counts=5 is for counts"):
        data.cells(fractions, expression="as_is", min_counts=5)


def test_more_categories_than_a_batch_has(saved, monkeypatch):
    from vaekit.data import covariates

    monkeypatch.setattr(covariates, "_CATEGORIES", 50)
    with pytest.raises(
        ValueError, match="the column order has 80 different values over the training cells, expected at most 50"
    ):
        data.cells(saved(), batch="order")


def test_a_file_is_asked_for():
    with pytest.raises(ValueError, match=r"write data\.path=FILE\.h5ad"):
        data.cells()


# --- the published ones ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pbmc3k_read():
    """The cells as they are read, once for all."""
    _, result = find_files(ENTRIES["pbmc3k"], None)
    if result.missing:
        pytest.skip("needs the data set pbmc3k: put it where VAEKIT_DATA points to")
    return READERS["pbmc3k"](result.found)


@pytest.fixture
def pbmc3k(pbmc3k_read, monkeypatch):
    """`data.cells` of pbmc3k, without reading it again."""
    monkeypatch.setitem(READERS, "pbmc3k", lambda files: pbmc3k_read)
    return functools.partial(data.cells, name="pbmc3k")


def test_pbmc3k_is_pbmc3k(pbmc3k):
    cells = pbmc3k()
    assert [len(split) for split in cells.splits] == [2160, 270, 270]
    assert cells.event_shape == (32738,)
    stored = [split.stored for split in cells.splits]
    assert sum(len(rows.values) for rows in stored) == 2_286_884
    assert sum(int(rows.values.sum()) for rows in stored) == 6_390_631
    assert (cells.low, cells.high) == (0, 419)
    assert len(set(cells.feature_names)) == 32738
    assert np.median(
        np.concatenate([split.conditions[:, 0].double().exp() for split in cells.splits])
    ) == pytest.approx(2197, rel=1e-6)


def test_the_types_of_pbmc3k_are_those_of_the_tutorial(pbmc3k):
    cells = pbmc3k(labels="cell_type")
    numbers = sum(torch.bincount(split.labels, minlength=8) for split in cells.splits)
    assert dict(zip(cells.class_names, numbers.tolist(), strict=True)) == {
        "CD4 T cells": 1144,
        "CD14+ Monocytes": 480,
        "B cells": 342,
        "CD8 T cells": 316,
        "NK cells": 154,
        "FCGR3A+ Monocytes": 150,
        "Dendritic cells": 37,
        "Megakaryocytes": 15,
    }
    assert "62 cells with no cell_type left out" in cells.description
    # genes that are known for a type are counted there and not elsewhere
    batch = cells.train.batch(torch.arange(500))
    for gene, kind in (("CD79A", "B cells"), ("GNLY", "NK cells"), ("LYZ", "CD14+ Monocytes")):
        x, of_kind = batch.x[:, cells.feature_names.index(gene)], batch.labels == cells.class_names.index(kind)
        assert x[of_kind].mean() > 4 * x[~of_kind].mean()


def test_the_types_equal_the_published_list(pbmc3k_read):
    _, result = find_files(ENTRIES["pbmc3k"], None)
    places = next(iter(result.found.values())).parents
    listed = next((place / "cell_types.tsv" for place in places if (place / "cell_types.tsv").is_file()), None)
    if listed is None:
        pytest.skip("the list of types is not beside the data")
    expected = dict(line.split("\t") for line in listed.read_text().splitlines()[1:])
    columns = pbmc3k_read.columns
    assert columns["cell_type"].tolist() == [expected.get(name, "") for name in columns["index"].tolist()]


def test_genes_that_mark_a_type_lead_the_variable_ones(pbmc3k_read):
    kept = np.flatnonzero(np.bincount(pbmc3k_read.matrix.indices, minlength=32738) >= 3)
    assert len(kept) == 13_714
    order = np.argsort(-standardised_variance(pbmc3k_read.matrix[:, kept]))
    names = [pbmc3k_read.genes[kept[n]] for n in order[:12]]
    assert names[0] == "PPBP"
    # those that the usual tutorials label, of platelets, monocytes, plasma cells, killer and dendritic cells
    assert {"LYZ", "S100A9", "IGLL5", "GNLY", "FTL", "PF4", "FTH1", "GNG11", "S100A8", "FCER1A"} <= set(names)


def test_paul15_is_paul15(need):
    need("paul15")
    cells = data.cells(name="paul15", labels="cluster", batch="batch")
    assert sum(map(len, cells.splits)) == 2730
    assert cells.event_shape == (8716,)
    assert (cells.high, cells.num_batches, cells.num_classes) == (161, 16, 19)
    assert np.median(
        np.concatenate([split.conditions[:, 0].double().exp() for split in cells.splits])
    ) == pytest.approx(2622, rel=1e-6)
    batches = sum(split.conditions[:, 1:].sum(0) for split in cells.splits)
    assert (batches.min(), batches.max()) == (127, 185)
    clusters = sum(torch.bincount(split.labels, minlength=19) for split in cells.splits)
    assert (clusters.min(), clusters.max()) == (9, 373)
    nonzero = sum(len(split.stored.values) for split in cells.splits) / (2730 * 8716)
    assert 1 - nonzero == pytest.approx(0.828, abs=5e-4)
    assert not any(";" in name for name in cells.feature_names)
    # a gene of red blood cells in their clusters, and one of neutrophils in theirs
    names, kinds = cells.feature_names, np.array(cells.class_names)[cells.train.labels]
    x = dense(cells.train)
    red, white = (np.char.find(kinds, word) >= 0 for word in ("Ery", "Neu"))
    hemoglobin, elastase = x[:, names.index("Hba-a2")], x[:, names.index("Elane")]
    assert hemoglobin[red].mean() > 5 * hemoglobin[white].mean()
    assert elastase[white].mean() > 5 * elastase[red].mean()


def test_kang_has_two_conditions(need):
    need("kang_pbmc")
    cells = data.cells(name="kang_pbmc", ood="condition=stim")
    assert (sum(map(len, cells.splits)), len(cells.ood)) == (1000, 1000)
    assert cells.event_shape == (9015,)
    # a gene that interferon beta raises
    gene = cells.feature_names.index("ISG15")
    assert dense(cells.ood)[:, gene].mean() > 10 * dense(cells.train)[:, gene].mean()


def test_pbmc68k_reduced_has_no_counts(need):
    need("pbmc68k_reduced")
    cells = data.cells(name="pbmc68k_reduced", expression="as_is", labels="bulk_labels")
    assert (sum(map(len, cells.splits)), cells.event_shape, cells.num_classes, cells.counts) == (700, (765,), 10, False)
    raw = data.cells(name="pbmc68k_reduced", expression="as_is", layer="raw")
    assert raw.low == 0
    with pytest.raises(ValueError, match=r"pbmc68k_reduced has values down to -2.*expression=as_is"):
        data.cells(name="pbmc68k_reduced")


def test_other_cells_than_the_published_have_no_types(tmp_path):
    (tmp_path / "matrix.mtx").write_text(
        "%%MatrixMarket matrix coordinate integer general\n1 3 3\n1 1 1\n1 2 1\n1 3 4\n"
    )
    (tmp_path / "genes.tsv").write_text("ENSG1\tA\n")
    (tmp_path / "barcodes.tsv").write_text("AAACATACAACCAC-1\nAAACATTGAGCTAC-1\nother\n")
    cells = data.cells(name="pbmc3k", path=tmp_path)
    assert "cell_type" not in cells.train.annotations
    with pytest.raises(
        ValueError, match=r"data\.labels is 'cell_type', but the cells have no such column; valid: index"
    ):
        data.cells(name="pbmc3k", path=tmp_path, labels="cell_type")


def test_another_function_reads_cells_by_name():
    with pytest.raises(ValueError, match=r"data\.cells\(name=NAME\)"):
        data.named("kang_pbmc")


def test_the_matrix_is_never_dense_as_a_whole(need):
    need("pbmc3k")
    tracemalloc.start()
    cells = data.cells(name="pbmc3k", expression="standardised")  # which makes most copies
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    dense_size = 2700 * 32738 * 4
    assert peak < 0.5 * dense_size
    stored = [split.stored for split in cells.splits]
    assert sum(t.nbytes for rows in stored for t in (rows.starts, rows.columns, rows.values)) < 0.06 * dense_size
    assert held < 0.2 * dense_size


def test_the_description_is_one_sentence_for_a_reader(saved):
    said = data.cells(saved(), features=4, expression="standardised").description
    assert re.fullmatch(
        r"mine: 80 training, 10 validation and 10 test cells, with 4 features; log\(1 \+ x\) of counts per [\d.]+, the median of "
        r"the training cells, standardised by the training cells, held within 10 standard deviations; split at random with seed 0; "
        r"the 4 most variable features of the training cells; for models that take conditions: the logarithm of the library\.",
        said,
    )
