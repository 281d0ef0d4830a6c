"""The named data sets hold what is known of them, and are found where they should be."""

import gzip
import shutil
import struct
from pathlib import Path

import pytest
import torch

from vaekit import data
from vaekit.data import catalog, entries
from vaekit.data.download import RemoteFile
from vaekit.data.locate import cache_folder, search

pytestmark = pytest.mark.usefixtures("untouched")

MNIST_TRAIN = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


def counts(*splits):
    return tuple(sum(torch.bincount(split.labels, minlength=10) for split in splits).tolist())


def mean(*splits):
    return sum(split.stored.sum().item() for split in splits) / sum(split.stored.numel() for split in splits) / 255


def test_mnist_is_mnist(need):
    need("mnist")
    mnist = data.named("mnist")
    assert [len(s) for s in (mnist.train, mnist.validation, mnist.test)] == [59_000, 1_000, 10_000]
    assert counts(mnist.train, mnist.validation) == MNIST_TRAIN
    assert counts(mnist.test) == MNIST_TEST
    assert mean(mnist.train, mnist.validation) == pytest.approx(0.1307, abs=5e-5)
    assert (mnist.low, mnist.high, mnist.binary, mnist.event_shape) == (0, 1, False, (1, 28, 28))
    assert mnist.train.stored.dtype == torch.uint8
    assert mnist.class_names == tuple("0123456789")


def test_fashion_mnist_is_fashion_mnist(need):
    need("fashion_mnist")
    fashion = data.named("fashion_mnist")
    assert counts(fashion.train, fashion.validation) == (6_000,) * 10
    assert counts(fashion.test) == (1_000,) * 10
    assert mean(fashion.train, fashion.validation) == pytest.approx(0.2860, abs=5e-5)
    assert fashion.class_names[9] == "Ankle boot"


def roughness(x):
    return x.diff(dim=-2).abs().mean()


def test_frey_faces_are_upright_and_in_the_order_of_time(need):
    need("freyfaces")
    frey = data.named("freyfaces")
    sizes = [len(s) for s in (frey.train, frey.validation, frey.test)]
    assert sizes == [1670, 98, 197]
    assert "neighbouring frames are alike, so standard errors over them are too small" in frey.description
    assert sum(sizes) == 1965
    assert frey.event_shape == (1, 28, 20)
    assert (frey.low, frey.high) == (pytest.approx(8 / 255), pytest.approx(238 / 255))
    x = frey.train.batch(torch.arange(len(frey.train))).x
    # read with the wrong width, rows do not meet; and a face is like its mirror image, but not like itself upside down
    assert roughness(x) < 0.6 * roughness(x.reshape(-1, 1, 20, 28))
    assert (x - x.flip(-1)).abs().mean() < 0.7 * (x - x.flip(-2)).abs().mean()
    # consecutive frames are alike across the borders of the parts, frames far apart are not
    last, first = frey.train.stored[-1].float(), frey.validation.stored[0].float()
    assert (last - first).abs().mean() < (last - frey.train.stored[0].float()).abs().mean()


def test_digits_come_without_files_and_are_stratified():
    digits = data.named("digits")
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [1437, 180, 180]
    assert digits.event_shape == (1, 8, 8)
    assert (digits.low, digits.high) == (0, 1)
    assert all(17 <= n <= 19 for n in counts(digits.test))
    rows = torch.cat([s.stored.flatten(1) for s in (digits.train, digits.validation, digits.test)])
    from sklearn.datasets import load_digits

    original = torch.from_numpy(load_digits().data).to(torch.uint8)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, original.tolist()))


def test_the_split_of_digits_does_not_follow_the_seed():
    assert data.named("digits", seed=1).fingerprint() == data.named("digits", seed=2).fingerprint()


def test_digits_are_read_from_no_path_and_are_not_fetched(tmp_path):
    with pytest.raises(ValueError, match=r"read from no path; leave out data\.path"):
        data.named("digits", path=tmp_path)
    with pytest.raises(ValueError, match="needs no download"):
        data.fetch_named("digits")


def test_an_unknown_name_gives_the_closest():
    with pytest.raises(ValueError, match=r"'mnits'.*closest: mnist"):
        data.named("mnits")


# ---- where files are found, on a small stand-in for MNIST


def idx(*shape, fill=0):
    content = bytearray(torch.full(shape, fill, dtype=torch.uint8).flatten().tolist())
    content[0] = 255 if len(shape) == 3 else 0
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(content)


CONTENT = {
    "train-images-idx3-ubyte": idx(1010, 2, 2),
    "train-labels-idx1-ubyte": idx(1010, fill=3),
    "t10k-images-idx3-ubyte": idx(5, 2, 2),
    "t10k-labels-idx1-ubyte": idx(5, fill=7),
}


@pytest.fixture
def empty_machine(tmp_path, monkeypatch):
    """Neither VAEKIT_DATA nor a cache nor a network."""
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def no_network(*args, **kwargs):
        raise data.DownloadError("no network in this test")

    monkeypatch.setattr(catalog, "fetch", no_network)
    return tmp_path


def put(folder: Path, suffix=""):
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / (name + suffix)).write_bytes(gzip.compress(content, mtime=0) if suffix else content)
    return folder


@pytest.mark.parametrize("folder", ["mnist", "MNIST", "MNIST/raw", "."])
def test_unpacked_files_are_found_in_usual_folders(empty_machine, folder):
    put(empty_machine / "root" / folder)
    mnist = data.named("mnist", path=empty_machine / "root")
    assert [len(s) for s in (mnist.train, mnist.validation, mnist.test)] == [10, 1000, 5]


def test_one_of_the_files_stands_for_its_folder(empty_machine):
    folder = put(empty_machine / "anywhere")
    assert len(data.named("mnist", path=folder / "t10k-labels-idx1-ubyte").test) == 5


def test_the_variable_and_the_cache_are_searched(empty_machine, monkeypatch):
    put(cache_folder("mnist"))
    assert len(data.named("mnist").test) == 5
    monkeypatch.setenv("VAEKIT_DATA", str(put(empty_machine / "elsewhere" / "mnist").parent))
    shutil.rmtree(cache_folder("mnist"))
    assert len(data.named("mnist").test) == 5


def test_files_that_differ_from_the_published_ones_are_used_with_a_warning(empty_machine):
    put(empty_machine / "mnist", ".gz")
    with pytest.warns(UserWarning, match="not the published file of mnist") as warned:
        data.named("mnist", path=empty_machine)
    assert len(warned) == 4
    assert warned[0].filename == __file__


def test_files_of_another_set_are_refused(empty_machine, need, monkeypatch):
    folder = put(empty_machine / "set", ".gz")
    from vaekit.data.download import sha256

    other = entries.ENTRIES["fashion_mnist"]
    path = folder / "train-images-idx3-ubyte.gz"
    stolen = entries.Entry(**{**vars(other), "files": (RemoteFile(path.name, 1, sha256(path)),)})
    monkeypatch.setitem(entries.ENTRIES, "fashion_mnist", stolen)
    with pytest.raises(data.DataFormatError, match="is a file of fashion_mnist, expected one of mnist"):
        data.named("mnist", path=folder)


def test_nothing_found_is_one_error_that_says_what_to_do(empty_machine, monkeypatch):
    monkeypatch.setenv("VAEKIT_DATA", str(empty_machine / "variable"))
    (empty_machine / "given").mkdir()
    with pytest.raises(data.DataNotFoundError) as caught:
        data.named("mnist", path=empty_machine / "given")
    message = str(caught.value)
    for part in (
        *("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", str(empty_machine / "given")),
        *(str(empty_machine / "variable"), str(cache_folder("mnist")), "--data_path DIR", "VAEKIT_DATA=DIR"),
        *("https://storage.googleapis.com/cvdf-datasets/mnist/", "digits", "no network in this test"),
    ):
        assert part in message
    assert isinstance(caught.value, FileNotFoundError)


def test_a_path_that_does_not_exist_is_refused_before_any_search(empty_machine, monkeypatch):
    monkeypatch.setattr(catalog, "search", None)
    with pytest.raises(data.DataNotFoundError, match=r"nowhere does not exist"):
        data.named("mnist", path=empty_machine / "nowhere")


def test_a_part_of_the_files_is_not_enough(empty_machine):
    folder = put(empty_machine / "mnist")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(data.DataNotFoundError, match=r"missing t10k-labels-idx1-ubyte.gz\."):
        data.named("mnist", path=empty_machine)


def test_what_cannot_be_fetched_is_told_with_files_and_places(empty_machine):
    with pytest.raises(
        data.DataNotFoundError, match=r"missing train-images.*\n.*\nPut the files.*\n.*https:.*\n.*digits"
    ):
        data.fetch_named("mnist")


def test_search_never_mixes_folders(tmp_path):
    for folder, name in (("one", "a"), ("two", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"")
    assert search(["a", "b"], ["one", "two"], [tmp_path]).missing == ("b",)


def test_fetched_files_are_used(empty_machine, monkeypatch):
    def give(files, folder):
        put(folder)
        for name in CONTENT:
            (folder / name).rename(folder / f"{name}.gz")

    monkeypatch.setattr(catalog, "fetch", give)
    assert len(data.named("mnist").test) == 5


def test_status_tells_what_there_is(empty_machine):
    put(cache_folder("mnist"), ".gz")
    by_name = {entry.name: entry for entry in data.status()}
    assert by_name["mnist"].folder == cache_folder("mnist")
    assert not by_name["mnist"].verified
    assert by_name["freyfaces"].folder is None
    assert by_name["digits"].verified
    assert by_name["fashion_mnist"].size == 30_878_645


def test_status_verifies_real_files(need):
    need("freyfaces")
    assert {entry.name: entry.verified for entry in data.status()}["freyfaces"]


def test_images_and_labels_must_agree(empty_machine):
    folder = put(empty_machine / "mnist")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(4))
    with pytest.raises(data.DataFormatError, match=r"has 4 labels up to 0, expected 5 below 10"):
        data.named("mnist", path=empty_machine)
