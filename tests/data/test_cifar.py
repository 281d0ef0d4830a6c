"""CIFAR-10 out of every form in which it is handed out, and nothing else out of files that pretend to be it."""

import gzip
import io
import lzma
import pickle
import struct
import tarfile

import numpy as np
import pytest
import torch

from vaekit import data
from vaekit.data import catalog, cifar
from vaekit.data.cifar_python import RefusedError, read_batch
from vaekit.data.tar import read_members

pytestmark = pytest.mark.usefixtures("untouched")

N = 20
RNG = np.random.default_rng(0)
RECORDS = {name: RNG.integers(0, 256, (N, 3073), dtype=np.uint8) for name in cifar.BATCHES}
for _values in RECORDS.values():
    _values[:, 0] %= 10
TRAIN = np.concatenate([RECORDS[name] for name in cifar.BATCHES[:-1]])

strangers = pytest.mark.filterwarnings("ignore:.*is not the published")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Batches of twenty images, nothing elsewhere on the machine, and no network."""
    monkeypatch.setattr(cifar, "_EXAMPLES", N)
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def no_network(*args, **kwargs):
        raise data.DownloadError("no network in this test")

    monkeypatch.setattr(catalog, "fetch", no_network)
    return tmp_path


# ---- the python archive as its authors' program wrote it: Python 2, cPickle, protocol 2


def text(value):
    return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value


def integer(value):
    return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)


def number_of(values):
    """An array as numpy 1 had itself pickled."""
    dtype = b"cnumpy\ndtype\nq\x06" + text(b"u1") + b"K\x00K\x01\x87Rq\x07"
    dtype += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(integer(n) for n in values.shape) + b"\x86"
    made = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85" + text(b"b") + b"\x87Rq\x05"
    return made + b"(K\x01" + shape + dtype + b"\x89" + b"T" + struct.pack("<i", values.size) + values.tobytes() + b"tb"


def batch(records):
    labels = b"]q\x08(" + b"".join(integer(int(n)) for n in records[:, 0]) + b"e"
    names = b"](" + b"".join(text(f"image_{n}.png".encode()) for n in range(len(records))) + b"e"
    items = text(b"batch_label") + text(b"training batch 1 of 5") + text(b"labels") + labels
    items += text(b"data") + number_of(records[:, 1:]) + text(b"filenames") + names
    return b"\x80\x02}q\x01(" + items + b"u."


def test_the_writer_of_these_tests_writes_what_python_reads():
    records = RECORDS["test_batch"]
    loaded = pickle.loads(batch(records), encoding="bytes")
    np.testing.assert_array_equal(loaded[b"data"], records[:, 1:])
    assert loaded[b"labels"] == records[:, 0].tolist()
    assert loaded[b"filenames"][:2] == [b"image_0.png", b"image_1.png"]


def test_the_reader_reads_the_same():
    records = RECORDS["test_batch"]
    read = read_batch(batch(records))
    assert list(read) == ["batch_label", "labels", "data", "filenames"]
    np.testing.assert_array_equal(read["data"], records[:, 1:])
    assert read["labels"] == records[:, 0].tolist()
    assert read["filenames"][-1] == f"image_{N - 1}.png"
    assert read["batch_label"] == "training batch 1 of 5"


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_is_ever_called(tmp_path, protocol):
    for value in ({"data": Canary(tmp_path / "canary")}, [Canary(tmp_path / "canary")], Canary(tmp_path / "canary")):
        with pytest.raises(RefusedError):
            read_batch(pickle.dumps(value, protocol))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02.",
        b"\x80\x02}",
        b"\x80\x02].",
        b"\x80\x02cos\nsystem\n(U\x04trueetR.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x02}U\x01acos\nsystem\ns.",
        b"\x80\x02cnumpy\ndtype\n.",
        b"\x80\x02cnumpy\ndtype\nU\x02O8\x85R.",
        b"\x80\x02T\xff\xff\xff\xff.",
        b"\x80\x02T\xf0\xff\xff\xff.",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02h\x07.",
        b"\x80\x02}K\x01s.",
        b"\x80\x02}K\x01K\x02s.",
        b"\x80\x02]K\x01e.",
        b"\x80\x02K\x01K\x02b.",
        b"\x80\x02)" + b"q\x00h\x00\x86" * 64 + b"}q\x01h\x00K\x01s.",  # a key that would be hashed for ever
        b"\x80\x02i",
        b"\x80\x02Pid\n.",
    ],
)
def test_other_contents_are_refused_at_once(content):
    with pytest.raises(RefusedError):
        read_batch(content)


def test_every_cut_and_flip_is_a_dictionary_or_one_error():
    content = batch(RECORDS["test_batch"][:1])
    interesting = [n for n in range(len(content)) if n < 260 or n > len(content) - 60]
    damaged = [content[:n] for n in interesting]
    damaged += [content[:n] + bytes([content[n] ^ flip]) + content[n + 1 :] for n in interesting for flip in (1, 0x80)]
    refused = 0
    for version in damaged:
        try:
            read_batch(version)
        except RefusedError:
            refused += 1
    assert refused >= len(interesting)  # all cuts, and many flips


def test_a_file_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("vaekit.data.cifar_python._LIMIT", 10)
    with pytest.raises(RefusedError, match="at most 10"):
        read_batch(batch(RECORDS["test_batch"]))


# ---- whole data sets


def archive(path, contents, folder):
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in {"readme.html": b"words", **contents}.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def put(folder, form):
    folder.mkdir(parents=True, exist_ok=True)
    binary = {f"{name}.bin": values.tobytes() for name, values in RECORDS.items()}
    pickled = {name: batch(values) for name, values in RECORDS.items()}
    if form == "binary archive":
        archive(folder / "cifar-10-binary.tar.gz", binary, "cifar-10-batches-bin")
    elif form == "python archive":
        archive(folder / "cifar-10-python.tar.gz", pickled, "cifar-10-batches-py")
    else:
        packed = {f"{name}.xz": lzma.compress(content) for name, content in binary.items()}
        for name, content in {"bin": binary, "xz": packed, "python": pickled}[form].items():
            (folder / name).write_bytes(content)
    return folder


FORMS = ("binary archive", "python archive", "bin", "xz", "python")


@strangers
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(small, form):
    d = data.named("cifar10", path=put(small / "cifar10", form).parent)
    assert [len(split) for split in d.splits] == [90, 10, 20]
    seen = torch.cat([d.train.stored, d.validation.stored])
    np.testing.assert_array_equal(seen.flatten(1).numpy(), TRAIN[:, 1:])
    assert torch.cat([d.train.labels, d.validation.labels]).tolist() == TRAIN[:, 0].tolist()
    np.testing.assert_array_equal(d.test.stored.flatten(1).numpy(), RECORDS["test_batch"][:, 1:])
    # a record is a red, a green and a blue plane, each row by row
    assert d.test.stored[3, 1, 5, 7] == RECORDS["test_batch"][3, 1 + 1024 + 5 * 32 + 7]
    assert (d.event_shape, d.levels, d.num_classes, d.train.stored.dtype) == ((3, 32, 32), 256, 10, torch.uint8)
    assert d.class_names[6] == "frog"


@strangers
def test_a_fifth_of_the_images_is_said(small):
    folder = put(small / "cifar10", "xz")
    for n in (2, 3, 4, 5):
        (folder / f"data_batch_{n}.bin.xz").unlink()
    d = data.named("cifar10", path=small)
    assert [len(split) for split in d.splits] == [18, 2, 20]
    assert "20 of 50,000 training images are there, so numbers are not comparable" in d.description


@strangers
def test_the_whole_is_preferred_and_the_users_path_before_it(small, monkeypatch):
    whole, part = put(small / "whole", "bin"), put(small / "part", "xz")
    for n in (2, 3, 4, 5):
        (part / f"data_batch_{n}.bin.xz").unlink()
    monkeypatch.setenv("VAEKIT_DATA", str(whole))
    assert len(data.named("cifar10").train) == 90
    assert len(data.named("cifar10", path=part).train) == 18
    monkeypatch.setenv("VAEKIT_DATA", str(part))
    put(small / "cache" / "vaekit" / "cifar10", "binary archive")
    assert len(data.named("cifar10").train) == 90


def test_other_batches_are_used_with_a_warning(small):
    put(small / "cifar10", "bin")
    with pytest.warns(UserWarning, match="is not the published batch of CIFAR-10") as warned:
        data.named("cifar10", path=small)
    assert [str(w.message).split()[0] for w in warned] == list(cifar.BATCHES)
    assert warned[0].filename == __file__


@strangers
@pytest.mark.parametrize("form", FORMS)
def test_damage_is_one_error_that_names_the_file(small, form):
    folder = put(small / "cifar10", form)
    path = max(folder.iterdir())
    content = path.read_bytes()
    for damaged in (content[:-9], content[: len(content) // 2], b"words" + content, b""):
        path.write_bytes(damaged)
        with pytest.raises(data.DataFormatError, match=path.name.split(".")[0]):
            data.named("cifar10", path=small)


@strangers
def test_contents_are_checked(small):
    folder = put(small / "cifar10", "bin")
    (folder / "test_batch.bin").write_bytes(bytes([10]) + RECORDS["test_batch"].tobytes()[1:])
    with pytest.raises(data.DataFormatError, match="has a label 10, expected 0 to 9"):
        data.named("cifar10", path=small)
    folder = put(small / "other", "python")
    (folder / "test_batch").write_bytes(batch(RECORDS["test_batch"][:5]))
    with pytest.raises(data.DataFormatError, match=r"data of shape \(5, 3072\), expected \(20, 3072\)"):
        data.named("cifar10", path=folder)


def test_a_hostile_batch_is_refused_with_the_remedy(small):
    folder = put(small / "cifar10", "python")
    (folder / "data_batch_1").write_bytes(pickle.dumps(Canary(small / "canary"), 2))
    with pytest.raises(data.DataFormatError, match=r"data_batch_1 is refused: .*Get cifar-10-binary.tar.gz instead"):
        data.named("cifar10", path=small)
    assert not (small / "canary").exists()


def test_the_real_fifth(need, monkeypatch):
    need("cifar10")
    d = data.named("cifar10")  # a file that differs from the published one would warn, and fail
    assert d.test.labels.bincount().tolist() == [1000] * 10
    if len(d.train) == 9_000:
        train = torch.cat([d.train.labels, d.validation.labels])
        assert train.bincount().tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
        assert "10,000 of 50,000 training images" in d.description
    mean = d.train.stored.double().mean((0, 2, 3)) / 255
    # of all training images; a channel's mean over an image has a standard deviation below 0.2
    assert (mean - torch.tensor([0.49140, 0.48216, 0.44653])).abs().max() < 4 * 0.2 / len(d.train) ** 0.5
    # sky and light come from above
    assert d.test.stored[:, :, :4].float().mean() > d.test.stored[:, :, -4:].float().mean()


# ---- archives


def tar(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), kind
            info.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


FILE = tarfile.REGTYPE
GOOD = tar(("../../a", b"123", FILE), ("/b", b"", FILE))


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_members_come_by_the_last_part_of_their_names_and_touch_no_disk(tmp_path, pack):
    (tmp_path / "inside").mkdir()
    path = tmp_path / "inside" / "file.tar.gz"
    path.write_bytes(pack(GOOD))
    assert read_members(path, {"a": 3, "b": 0}) == {"a": b"123", "b": b""}
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", "file.tar.gz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar(("a", b"1234", FILE)), "more than 3 bytes"),
        (tar(("a", b"", tarfile.SYMTYPE)), "no regular file"),
        (tar(("a", b"", tarfile.LNKTYPE)), "no regular file"),
        (tar(("a", b"", tarfile.CHRTYPE)), "no regular file"),
        (tar(("a", b"1", FILE), ("x/a", b"2", FILE)), "there twice"),
        (tar(("b", b"1", FILE)), "has no a"),
        (tar(*((str(n), b"", FILE) for n in range(101))), "more than 100 members"),
        (GOOD[:700], "ends inside"),
        (GOOD[:100], "ends inside a header"),
        (GOOD[:124] + b"99999999999\0" + GOOD[136:], "no octal number"),
        (GOOD[:124] + b"77777777777\0" + GOOD[136:], "check sum"),
        (b"words" * 200, r"octal|check sum"),
        (b"", "has no a"),
    ],
)
def test_archives_that_will_not_do(tmp_path, content, message):
    for packed in (gzip.compress(content), content):
        (tmp_path / "file.tar.gz").write_bytes(packed)
        with pytest.raises(data.DataFormatError, match=message):
            read_members(tmp_path / "file.tar.gz", {"a": 3})


def test_a_bomb_is_not_expanded(tmp_path, monkeypatch):
    monkeypatch.setattr("vaekit.data.tar._TOTAL", 10_000)
    (tmp_path / "file.tar.gz").write_bytes(gzip.compress(tar(("x", bytes(20_000), FILE), ("a", b"", FILE))))
    with pytest.raises(data.DataFormatError, match="more than 10,000 bytes"):
        read_members(tmp_path / "file.tar.gz", {"a": 3})
