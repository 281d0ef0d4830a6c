"""Arrays from files: what is accepted comes back exactly, what is not is named."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from vaekit import data

pytestmark = pytest.mark.usefixtures("untouched")

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 5, 4), dtype=np.uint8)
TABLE = RNG.random((20, 3))


@pytest.fixture
def npy(tmp_path):
    def save(values):
        np.save(tmp_path / "values.npy", values)
        return tmp_path / "values.npy"

    return save


@pytest.fixture
def npz(tmp_path):
    def save(**arrays):
        np.savez_compressed(tmp_path / "values.npz", **arrays)
        return tmp_path / "values.npz"

    return save


def splits(d):
    return d.train, d.validation, d.test


def everything(d):
    return torch.cat([split.stored for split in splits(d)])


def test_a_table_is_kept_in_float32_and_split_by_the_seed(npy):
    d = data.array(npy(TABLE))
    assert [len(s) for s in splits(d)] == [16, 2, 2]
    assert d.train.stored.dtype == torch.float32
    assert d.name == "values"
    rows = {tuple(row) for row in everything(d).tolist()}
    assert rows == {tuple(row) for row in TABLE.astype(np.float32).tolist()}
    assert data.array(npy(TABLE)).fingerprint() == d.fingerprint()
    assert data.array(npy(TABLE), seed=1).fingerprint() != d.fingerprint()
    assert (d.low, d.high) == (everything(d).min(), everything(d).max())


@pytest.mark.parametrize(
    ("shape", "event"),
    [
        ((20, 6), (6,)),
        ((20, 1), (1,)),
        ((20, 5, 4), (1, 5, 4)),
        ((20, 3, 5, 4), (3, 5, 4)),
        ((20, 5, 4, 3), (3, 5, 4)),
        ((20, 5, 4, 1), (1, 5, 4)),
        ((20, 3, 8, 3), (3, 8, 3)),
        ((20, 4, 4, 3), (4, 4, 3)),
    ],
)
def test_shapes(npy, shape, event):
    assert data.array(npy(np.zeros(shape, np.uint8))).event_shape == event


def test_channels_last_are_moved_not_reshaped(npy):
    x = RNG.integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
    d = data.array(npy(x))
    assert sorted(i.tobytes() for i in everything(d).numpy()) == sorted(np.moveaxis(i, 2, 0).tobytes() for i in x)


@pytest.mark.parametrize(
    "shape", [(20,), (), (20, 5, 4, 7), (20, 2, 5, 5), (2, 2, 2, 2, 3), (0, 5), (20, 0), (20, 0, 3)]
)
def test_other_shapes_are_refused_with_the_shape(npy, shape):
    with pytest.raises(ValueError, match=r"has shape \(.*expected \(N, F\)") as caught:
        data.array(npy(np.zeros(shape, np.float32)))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (TABLE.astype(np.float32), torch.float32),
        (TABLE.astype(np.float16), torch.float32),
        (TABLE.astype(">f8"), torch.float32),
        (TABLE > 0.5, torch.uint8),
        (IMAGES, torch.uint8),
        (IMAGES.astype(np.int64), torch.uint8),
        (IMAGES.astype(np.int16) - 100, torch.float32),
        (IMAGES.astype(np.uint16) * 257, torch.float32),
    ],
)
def test_types(npy, values, dtype):
    d = data.array(npy(values), test=0.05, validation=0.05)
    assert d.train.stored.dtype == dtype
    assert sorted(everything(d).flatten().tolist()) == sorted(values.astype(np.float32).flatten().tolist())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((9, 2), 2**24 + 1), "16777216 in size"),
        (np.full((9, 2), -(2**63)), "in size"),
        (np.full((9, 2), 2**64 - 1, np.uint64), "in size"),
        (np.ones((9, 2), complex), "complex128, expected real"),
        (np.full((9, 2), "a"), "<U1, expected real"),
        (np.zeros(9, [("a", "f4")]), "expected real"),
        (np.full((9, 2), "2020-01-01", "M8[D]"), "expected real"),
    ],
)
def test_other_types_are_refused(npy, values, message):
    with pytest.raises(ValueError, match=message):
        data.array(npy(values))


def test_rows_that_are_not_finite_are_listed(npy):
    x = np.zeros((30, 4))
    x[3:15, 1], x[20, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"in 13 of 30 rows: 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, \.\.\."):
        data.array(npy(x))
    with pytest.raises(ValueError, match=r"in 1 of 9 rows: 0\."):
        data.array(npy(np.array([[1e300]] + [[0.0]] * 8)))


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_examples_are_refused_with_the_numbers(npy, n):
    with pytest.raises(ValueError, match=f"{n} examples leave 0 for training beside 1 for validation and 1"):
        data.array(npy(np.zeros((n, 2))))


def test_three_examples_make_three_parts(npy):
    assert [len(s) for s in splits(data.array(npy(np.zeros((3, 1)))))] == [1, 1, 1]


@pytest.mark.parametrize(
    "arguments", [{"validation": 0.0}, {"test": 1.0}, {"test": -0.1}, {"validation": float("nan")}]
)
def test_fractions_are_checked(npy, arguments):
    with pytest.raises(ValueError, match="expected a fraction between 0 and 1"):
        data.array(npy(TABLE), **arguments)
    with pytest.raises(ValueError, match="leave 0 for training"):
        data.array(npy(TABLE), validation=0.5, test=0.5)


def test_scale_and_its_advice(npy):
    d = data.array(npy(IMAGES))
    assert d.remedies == {"scale": "data.scale=255"}
    assert d.high == IMAGES.max()
    scaled = data.array(npy(IMAGES), scale=255)
    assert scaled.remedies == {}
    assert scaled.high == pytest.approx(IMAGES.max() / 255)
    assert "value / 255" in scaled.description
    assert data.array(npy(IMAGES.astype(np.uint16) * 257)).remedies == {"scale": "data.scale=65535"}
    assert data.array(npy(TABLE * 12.5 / TABLE.max())).remedies == {"scale": "data.scale=12.5"}
    assert data.array(npy(TABLE - 1)).remedies == {}
    with pytest.raises(ValueError, match=r"received values in .* from values. Write data.scale=255"):
        data.array(npy(IMAGES), binarisation="static")
    assert data.array(npy(IMAGES), scale=255, binarisation="static").binary


# ---- archives


def test_an_archive_of_one_array_needs_no_key(npz):
    assert data.array(npz(anything=TABLE)).event_shape == (3,)
    assert data.array(npz(y=TABLE)).train.labels is None
    assert data.array(npz(images=TABLE, labels=np.arange(20))).train.labels is not None
    assert data.array(npz(images=TABLE, kind=np.arange(20)), labels="kind").train.labels is not None


@pytest.mark.parametrize("name", ["x", "data", "X"])
def test_usual_names_are_found_and_labels_follow_their_rows(npz, name):
    y = (TABLE[:, 0] > 0.5).astype(int)
    d = data.array(npz(**{name: TABLE, "labels": y, "more": TABLE}))
    for split in splits(d):
        assert torch.equal(split.labels, (split.stored[:, 0] > 0.5).long())
    assert d.class_names == ("0", "1")


def test_a_key_and_string_labels(npz):
    kind = np.where(TABLE[:, 0] > 0.5, "high", "below")
    d = data.array(npz(a=TABLE, b=TABLE[:, :1], kind=kind), key="a", labels="kind")
    assert d.class_names == ("below", "high")
    assert torch.equal(d.train.labels, (d.train.stored[:, 0] > 0.5).long())


def test_labels_of_any_numbers_become_classes(npz):
    d = data.array(npz(x=TABLE, y=np.tile([7.0, -1.0], 10)[:, None]))
    assert d.class_names == ("-1", "7")
    assert set(d.train.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("y", [np.zeros(19), np.zeros((20, 2)), np.full(20, 0.5), np.full(20, np.nan)])
def test_labels_that_will_not_do_are_refused(npz, y):
    with pytest.raises(ValueError, match=r"labels y have shape .*expected \(20,\) and whole numbers or strings"):
        data.array(npz(x=TABLE, y=y))


def test_absent_names_list_those_there(npz):
    with pytest.raises(ValueError, match=r"holds a, b, expected an array called x, data or X. Write data.key=NAME"):
        data.array(npz(a=TABLE, b=TABLE))
    with pytest.raises(ValueError, match="holds a, b, expected an array called 'c'"):
        data.array(npz(a=TABLE, b=TABLE), key="c")
    with pytest.raises(ValueError, match="holds x, b, expected labels called 'c'"):
        data.array(npz(x=TABLE, b=TABLE), labels="c")


def test_splits_of_the_archive_are_kept(npz):
    d = data.array(npz(train=TABLE[:12], valid=TABLE[12:15], test=TABLE[15:]))
    torch.testing.assert_close(everything(d), torch.from_numpy(TABLE).float())
    assert [len(s) for s in splits(d)] == [12, 3, 5]
    assert "as the file says" in d.description


def test_an_archive_without_validation_holds_it_out(npz):
    y = (TABLE[:, 0] > 0.5).astype(int)
    d = data.array(npz(x_train=TABLE[:15], y_train=y[:15], x_test=TABLE[15:], y_test=y[15:]), validation=0.2)
    assert [len(s) for s in splits(d)] == [12, 3, 5]
    torch.testing.assert_close(d.test.stored, torch.from_numpy(TABLE[15:]).float())
    for split in splits(d):
        assert torch.equal(split.labels, (split.stored[:, 0] > 0.5).long())


def test_given_splits_must_agree(npz):
    with pytest.raises(ValueError, match="parts of different shapes"):
        data.array(npz(train=TABLE, test=TABLE[:, :2]))
    with pytest.raises(ValueError, match="labels for some parts only, not for test"):
        data.array(npz(train=TABLE, test=TABLE, y_train=np.zeros(20)))


# ---- hostile files


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def header(shape, dtype="<f4"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickles_are_refused_and_not_run(tmp_path, suffix):
    canary, path = tmp_path / "canary", tmp_path / f"file{suffix}"
    hostile = np.empty(1, object)
    hostile[0] = Canary(canary)
    buffer = io.BytesIO()
    (np.save if suffix == ".npy" else np.savez)(buffer, hostile)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(data.DataFormatError, match=r"Python objects \(pickle\)"):
        data.array(path)
    path.write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(data.DataFormatError):
        data.array(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        header("(1000000, 1000000)") + bytes(16),
        header("(4, 2)") + bytes(31),
        header("(4, 2)") + bytes(33),
        header("(-4, -2)") + bytes(32),
        header("(4, 2") + bytes(32),
        header("(4, 'a')") + bytes(32),
        header("(4, 2)", "nonsense") + bytes(32),
        b"\x93NUMPY\x09\x00" + header("(4, 2)")[8:] + bytes(32),
        b"\x93NUMPY\x01\x00\xff\xff{",
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damaged_arrays_are_refused_before_memory_is_taken(tmp_path, suffix, content):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    with pytest.raises(ValueError, match=r"file\.np"):
        data.array(path)


def test_an_archive_that_expands_too_far_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("vaekit.data.npy._FREE", 2**16)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((1000, 1000)))
    with pytest.raises(data.DataFormatError, match=r"would expand from .* to 8,000,128 bytes"):
        data.array(tmp_path / "bomb.npz")


def test_a_wrong_path_or_suffix_says_what_to_write(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Write data.path=FILE"):
        data.array(tmp_path / "absent.npy")
    (tmp_path / "file.pkl").write_bytes(b"")
    with pytest.raises(data.DataFormatError, match=r"'\.pkl', expected \.npy or \.npz"):
        data.array(tmp_path / "file.pkl")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    with pytest.raises(data.DataFormatError, match="holds no arrays"):
        data.array(tmp_path / "empty.npz")
