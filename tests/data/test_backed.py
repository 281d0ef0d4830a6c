"""Cells that stay in their file: the same numbers as in memory, in an order of their own, within the memory that was stated."""

import os
import pickle
import tracemalloc
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from vaekit import data
from vaekit.compose import compose, data_node
from vaekit.data.backed import _BLOCK, Backed
from vaekit.data.errors import DataFormatError
from vaekit.data.filed import Filed
from vaekit.data.hdf5_store import HDF5Store
from vaekit.data.stream import Stream
from vaekit.errors import ConfigError
from vaekit.evaluation.passes import Plan
from vaekit.recipe import make_session, open_data, resolved, validate
from vaekit.training import fit

h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.usefixtures("untouched")

N, WIDTH = 300, 40


def counts(n=N, width=WIDTH, rate=0.5):
    x = np.random.default_rng(3).poisson(rate, (n, width)).astype(np.float32)
    x[:, 1] *= np.arange(n) % 7
    x[::11, 2] = 9
    return x


def put(file, place, x, form):
    from scipy import sparse

    if form == "dense":
        file.create_dataset(place, data=x, compression="gzip")
        return
    matrix = sparse.csr_matrix(x) if form == "csr" else sparse.csc_matrix(x)
    group = file.create_group(place)
    group.attrs.update({"encoding-type": f"{form}_matrix", "shape": matrix.shape})
    for name in ("data", "indices", "indptr"):
        group.create_dataset(name, data=getattr(matrix, name), compression="gzip")


@pytest.fixture
def saved(tmp_path):
    """A function that writes an .h5ad file."""

    def save(x=None, form="csr", name="big.h5ad"):
        x = counts() if x is None else x
        with h5py.File(tmp_path / name, "w") as file:
            put(file, "X", x, form)
            put(file, "layers/other", x + 1, form)
            for node, size in zip(("obs", "var"), x.shape, strict=True):
                file.create_group(node).attrs["_index"] = "_index"
                file[node]["_index"] = [f"{node}{n}" for n in range(size)]
            file["obs/order"] = np.arange(len(x))
            file["obs/kind"] = [("B", "T", "")[n % 3] for n in range(len(x))]
            file["obs/condition"] = [("control", "stimulated", "control", "other")[n % 4] for n in range(len(x))]
        return tmp_path / name

    return save


@pytest.fixture
def large(saved):
    """Rows for 3 windows of 3 MiB."""
    return data.cells(saved(counts(24_000, 60, 1.0)), backed=True, memory=4, test=0.01, validation=0.01)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def everything(split):
    return split.batch(torch.arange(len(split)))


def epoch(split, generator, size=128):
    """Batches of an epoch, each with its index."""
    return [(index, split.batch(index).x) for index in split.order(generator).split(size)]


@pytest.mark.parametrize("form", ["csr", "dense"])
@pytest.mark.parametrize("expression", ["counts", "normalised", "log1p", "standardised"])
def test_all_numbers_are_those_in_memory(saved, form, expression):
    path = saved(form=form)
    wishes = {
        "expression": expression,
        "labels": "kind",
        "batch": "condition",
        "ood": "condition=other",
        "features": 20,
    }
    here = data.cells(path, min_cells=2, **wishes)
    there = data.cells(path, min_cells=2, backed=True, memory=4, **wishes)
    assert there.description == here.description
    assert there.feature_names == here.feature_names
    assert (there.low, there.high) == pytest.approx((here.low, here.high), rel=1e-12)
    assert (there.counts, there.num_batches, there.class_names) == (here.counts, here.num_batches, here.class_names)
    some = torch.tensor([7, 150, 7, 0, 33])
    index = torch.randperm(len(here.train), generator=seeded())[:50]
    for a, b in ((here.train, there.train), (here.train.part(index), there.train.part(index))):
        chosen = some if len(a) > 150 else some % 50
        torch.testing.assert_close(a.batch(chosen).x, b.batch(chosen).x, rtol=1e-6, atol=1e-6)
    for name in ("train", "validation", "test", "ood"):
        a, b = everything(here.split(name)), everything(there.split(name))
        assert isinstance(there.split(name).stored, Backed)
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.conditions, b.conditions)
        if expression == "standardised":  # sums of moments are added up in another order
            torch.testing.assert_close(a.x, b.x, rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(a.x, b.x)
        assert np.array_equal(here.split(name).annotations["order"], there.split(name).annotations["order"])


def test_a_layer_and_values_that_are_no_counts(saved):
    path = saved(counts() / 2 - 1)
    for layer in (None, "other"):
        here, there = (data.cells(path, layer=layer, expression="as_is", backed=b) for b in (False, True))
        assert torch.equal(everything(here.test).x, everything(there.test).x)
        assert (there.low, there.high, there.counts) == (here.low, here.high, here.counts)


def test_what_is_wrong_with_values_is_said_as_in_memory(saved):
    wrong = counts()
    wrong[[20, 250], 3] = [np.nan, np.inf]
    for x in (counts() / 2, -counts(), wrong):
        path = saved(x, name=f"{x.min()}.h5ad")
        with pytest.raises(ValueError, match=r"Write expression|remove or fill") as here:
            data.cells(path)
        with pytest.raises(ValueError, match=r"Write expression|remove or fill") as there:
            data.cells(path, backed=True)
        assert str(there.value) == str(here.value)


def test_an_epoch_has_each_row_once_and_its_batches_are_those_rows(large):
    split = large.train
    stored = split.stored
    expected = counts(24_000, 60, 1.0)[split.annotations["order"]]
    seen = []
    for index, x in epoch(split, seeded()):
        assert np.array_equal(x.numpy(), expected[index])
        seen += index.tolist()
    assert seen != sorted(seen)
    assert sorted(seen) == list(range(len(split)))
    assert len(stored._plan.cuts) - 1 >= 3
    sizes = np.diff(stored._plan.cuts)
    assert sizes.max() - sizes.min() <= 2 * _BLOCK  # the last is no smaller than the others


def test_the_order_follows_the_generator_only(large):
    split = large.train
    first, again, other = (split.order(seeded(n)) for n in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, split.part(torch.arange(len(split))).order(seeded(1)))


def test_a_batch_comes_from_all_over_its_window_and_a_window_from_all_over_the_file(large):
    split = large.train
    order = split.order(seeded()).numpy()
    plan = split.stored._plan
    first = order[: plan.cuts[1]]
    pieces = 1 + np.count_nonzero(np.diff(np.sort(first)) > 1)
    blocks = len(first) / _BLOCK
    assert blocks >= 4
    assert 0.5 * blocks <= pieces <= blocks + 1.5
    # ranks in the window are uniform in a batch: the mean of 128 of them is within 5 standard errors, 6e-7
    ranks = np.argsort(np.argsort(first))[:128] / len(first)
    assert abs(ranks.mean() - 0.5) < 5 * (1 / 12 / 128) ** 0.5
    # which rows share a block changes from epoch to epoch
    neighbours = [_cuts(split, seed) for seed in (1, 2)]
    assert neighbours[0] != neighbours[1]


def _cuts(split, seed):
    order = split.order(seeded(seed)).numpy()
    first = np.sort(order[: split.stored._plan.cuts[1]])
    return set((first[1:][np.diff(first) > 1] % _BLOCK).tolist())


def test_with_memory_for_all_the_order_is_a_plain_permutation(saved):
    split = data.cells(saved(), backed=True).train
    assert torch.equal(split.order(seeded(4)), torch.randperm(len(split), generator=seeded(4)))


def test_an_epoch_reads_each_window_once_front_to_back(large, monkeypatch):
    split, store = large.train, large.train.stored.matrix.store
    ranges = []
    rows = HDF5Store.rows
    monkeypatch.setattr(HDF5Store, "rows", lambda self, a, b: ranges.append((a, b)) or rows(self, a, b))
    order = split.order(seeded())
    per_window = []
    for index in order.split(100):  # windows do not end where batches do
        before = len(ranges)
        split.batch(index)
        if len(ranges) > before:
            per_window.append(ranges[before:])
    windows = len(split.stored._plan.cuts) - 1
    assert len(per_window) == windows
    for read in per_window:
        assert all(a[1] <= b[0] for a, b in pairwise(read))
    total = sum(b - a for a, b in ranges)
    assert len(split) <= total <= 24_000 + windows * 2 * _BLOCK
    assert max(store.starts[b] - store.starts[a] for a, b in ranges) <= 2 * store.at_once
    window = store.window
    ranges.clear()
    split.batch(torch.arange(256))  # in order, as an evaluation does: read by itself, the window stays
    assert len(ranges) >= 1
    assert store.window is window


def test_any_rows_at_any_time(large):
    split = large.train
    expected = counts(24_000, 60, 1.0)[split.annotations["order"]]
    order = split.order(seeded())
    asked = [
        order[:1],
        order[5:6],
        order[-1:],
        torch.tensor([7, 3, 7]),
        torch.zeros(0, dtype=torch.int64),
        order[4000:12_000],
    ]
    for index in asked:
        assert np.array_equal(split.batch(index).x.numpy(), expected[index.numpy()])
    parts = split.part(torch.tensor([9, 2, 2, 20_000]))
    assert np.array_equal(everything(parts).x.numpy(), expected[[9, 2, 2, 20_000]])
    assert sorted(parts.order(seeded()).tolist()) == [0, 1, 2, 3]
    blocks = list(split.part(order).stored.matrix.blocks())  # rows that do not rise
    assert len(blocks) > 4
    assert np.array_equal(np.concatenate([block.toarray() for block in blocks]), expected[order])


def test_resumed_anywhere_the_batches_are_the_same_bit_for_bit(large):
    stream = Stream(large.train, 1000, seed=5)
    steps = 2 * stream.steps_per_epoch
    undisturbed = [stream(step).x for step in range(steps)]
    assert len(pickle.dumps(large.train.stored)) < 60 * 24_000  # neither the window nor a handle goes along
    for start in (1, 11, stream.steps_per_epoch, steps - 1):
        sent = pickle.loads(pickle.dumps(large.train))
        resumed = Stream(sent, 1000, seed=5)
        for step in range(start, min(start + 3, steps)):
            assert torch.equal(resumed(step).x, undisturbed[step])


def test_memory_stays_within_what_was_stated(saved):
    n, width, memory = 30_000, 200, 8
    x = counts(n, width, 0.6)
    path, held = saved(x), 8 * int((x > 0).sum())
    del x
    assert held > 2.5 * memory * 2**20  # the non-zero values alone
    tracemalloc.start()
    try:
        cells = data.cells(path, backed=True, memory=memory, expression="log1p")
        cells.fingerprint()
        opening = tracemalloc.get_traced_memory()[1]
        columns = sum(v.nbytes for split in cells.splits for v in split.annotations.values())
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(2):
            for index in cells.train.order(seeded()).split(64):
                cells.train.batch(index)
        everything(cells.test.part(torch.arange(100)))
        training = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert training < memory * 2**20 + 60 * n
    assert training > memory * 2**20 / 2  # what was given is used
    # a read, what is known of each row, and the columns, which are read whole and copied when cells are left out and divided
    assert opening < memory * 2**20 / 4 + 60 * n + 4 * columns
    assert max(opening, training) < held


def test_the_file_is_opened_again_in_another_process(saved):
    cells = data.cells(saved(), backed=True)
    expected = everything(cells.test).x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
        child = os.fork()
    if not child:
        try:
            same = torch.equal(everything(cells.test).x, expected)
            os._exit(0 if same and cells.test.stored.matrix.store._opened[0] == os.getpid() else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(everything(cells.test).x, expected)  # and this one's handle still serves


def test_closing_lets_go_of_the_file_and_reading_opens_it_again(saved):
    path = saved()
    cells = data.cells(path, backed=True)
    expected, store = everything(cells.test).x, cells.test.stored.matrix.store
    store.close()
    with h5py.File(path, "r+"):  # refused while somebody reads
        pass
    stamp = path.stat()
    os.utime(path, ns=(stamp.st_atime_ns, store._state[1]))
    assert torch.equal(everything(cells.test).x, expected)


def test_a_file_that_was_changed_meanwhile_is_refused(saved):
    cells = data.cells(saved(), backed=True)
    cells.test.stored.matrix.store.close()
    saved(counts() + 1)
    with pytest.raises(DataFormatError, match=r"big\.h5ad was changed while it was in use"):
        everything(cells.test)


def test_equal_rows_have_equal_fingerprints_however_they_are_read(saved):
    path = saved()
    one = data.cells(path, backed=True, memory=4)
    other = data.cells(saved(form="dense", name="dense.h5ad"), backed=True, memory=300)
    changed = counts()
    changed[17, 5] += 1
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != data.cells(saved(changed, name="changed.h5ad"), backed=True).fingerprint()
    assert one.fingerprint() != data.cells(path, backed=True, seed=1).fingerprint()


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ("csc", {}, r"stored by columns \(csc\).*adata\.X\.tocsr\(\).*data\.backed=false"),
        ("csr", {"memory": 3}, r"data\.memory is 3, expected at least 4"),
        ("csr", {"layer": "spliced"}, r"data\.layer is 'spliced', but the layers of .* are: other"),
        ("csr", {"name": "pbmc3k"}, r"pbmc3k fits into memory"),
    ],
)
def test_what_cannot_be_left_on_disk_is_refused_with_the_remedy(saved, form, options, message):
    with pytest.raises(ValueError, match=message):
        data.cells(saved(form=form), backed=True, **options)


def test_other_kinds_of_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    with pytest.raises(DataFormatError, match=r"a\.npz cannot be left on disk.*Save it as \.h5ad"):
        data.cells(tmp_path / "a.npz", backed=True)
    with pytest.raises(FileNotFoundError, match=r"none\.h5ad"):
        data.cells(tmp_path / "none.h5ad", backed=True)


def test_a_file_that_leads_elsewhere_is_refused(saved):
    path = saved()
    with h5py.File(path, "r+") as file:
        file["uns"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(DataFormatError, match=r"external link.*nothing was read"):
        data.cells(path, backed=True)


@pytest.mark.parametrize("damage", ["indices", "indptr", "count"])
def test_damage_is_found_before_it_is_used(saved, damage):
    path = saved()
    with h5py.File(path, "r+") as file:
        if damage == "indices":
            file["X/indices"][1000] = WIDTH
        elif damage == "indptr":
            file["X/indptr"][100] = file["X/indptr"][102] + 1
        else:
            file["X"].attrs["shape"] = (N + 1, WIDTH)
    with pytest.raises(DataFormatError, match=r"big\.h5ad: /X is damaged"):
        data.cells(path, backed=True)


def test_one_window_serves_all_parts(large):
    large.train.batch(large.train.order(seeded())[:10])
    store = large.train.stored.matrix.store
    assert store.window.plan is large.train.stored._plan
    large.test.order(seeded())
    assert store.window is None
    assert isinstance(large.test.stored.matrix, Filed)
    assert large.test.stored.matrix.store is store


def begun(path, *overrides):
    """As `vaekit train` begins."""
    chosen = ("hidden_dim=8", "latent_dim=2", "training.batch_size=50", "device=cpu", "evaluation.samples=2")
    config = compose(["data=cells", f"data.path={path}", "model=scvi", *chosen, *overrides])
    dataset = open_data(data_node(config))
    return make_session(resolved(config, dataset), dataset, torch.device("cpu")), dataset


def trained(session, steps):
    with session.generators.borrowed():
        fit(
            session.model,
            session.objective,
            session.players,
            session.stream,
            steps=steps,
            steps_per_epoch=session.stream.steps_per_epoch,
        )
    return [tensor.clone() for tensor in session.model.state_dict().values()]


def test_with_memory_for_all_a_training_and_its_numbers_are_those_in_memory(saved):
    path = saved()
    weights, numbers = [], []
    for overrides in ((), ("data.backed=true", "data.memory=64")):
        session, dataset = begun(path, *overrides)
        weights.append(trained(session, 8))
        numbers.append([validate(session, replace(dataset, validation=part), Plan(50)) for part in dataset.splits])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    assert numbers[0] == numbers[1]


def test_a_training_over_windows_sees_the_rows_of_the_one_in_memory(saved):
    path = saved(counts(9000, 60, 3.0))
    session, dataset = begun(path, "data.backed=true", "data.memory=4", "training.batch_size=1000")
    trained(session, session.stream.steps_per_epoch)
    assert len(session.stream.split.stored._plan.cuts) > 2
    assert all(value.isfinite().all() for value in session.model.state_dict().values())
    in_memory = begun(path)[1]
    for a, b in zip(in_memory.splits, dataset.splits, strict=True):
        assert torch.equal(everything(a).x, everything(b).x)
    numbers = [validate(session, each, Plan(1000)) for each in (in_memory, dataset)]
    assert numbers[0] == numbers[1]


class TestSOMA:
    """The same through a TileDB-SOMA experiment."""

    @pytest.fixture
    def experiment(self, tmp_path):
        from scipy import sparse

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            soma = pytest.importorskip("tiledbsoma")
            pytest.importorskip("anndata")
            import anndata
            import pandas
            import tiledbsoma.io  # noqa: F401

            obs = pandas.DataFrame(
                {"kind": pandas.Categorical([("B", "T", None)[n % 3] for n in range(N)]), "order": np.arange(N)},
                index=[f"cell{n}" for n in range(N)],
            )
            made = anndata.AnnData(
                sparse.csr_matrix(counts()), obs=obs, var=pandas.DataFrame(index=[f"g{n}" for n in range(WIDTH)])
            )
            soma.io.from_anndata(str(tmp_path / "experiment"), made, measurement_name="RNA")
        return tmp_path / "experiment"

    def test_its_numbers_are_those_of_the_matrix(self, experiment):
        cells = data.cells(experiment, labels="kind", features=20, memory=4)
        chosen = [int(name[1:]) for name in cells.feature_names]
        for split in cells.splits:
            assert np.array_equal(everything(split).x.numpy(), counts()[split.annotations["order"]][:, chosen])
            assert split.annotations["index"].tolist() == [f"cell{n}" for n in split.annotations["order"]]
        assert cells.class_names == ("B", "T")
        assert sorted(cells.train.order(seeded()).tolist()) == list(range(len(cells.train)))
        sent = pickle.loads(pickle.dumps(cells.train))
        assert torch.equal(everything(sent).x, everything(cells.train).x)

    def test_what_is_not_there_is_said(self, experiment):
        for layer in ("ATAC/data", "RNA/scaled"):
            with pytest.raises(ValueError, match="asked for is"):
                data.cells(experiment, layer=layer)


def test_an_experiment_without_the_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tiledbsoma", None)
    (tmp_path / "__group").mkdir()
    with pytest.raises(ConfigError, match=r"pip install 'vaekit\[soma\]'"):
        data.cells(tmp_path)
