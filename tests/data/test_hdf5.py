"""HDF5 files that lead out of themselves, or promise more than they hold, are refused before any value is read."""

import tracemalloc

import numpy as np
import pytest

from vaekit import data
from vaekit.data.errors import DataFormatError
from vaekit.data.hdf5 import open_hdf5, row_blocks, texts
from vaekit.errors import ConfigError

h5py = pytest.importorskip("h5py")

SECRET = b"correct horse battery staple"


@pytest.fixture
def secret(tmp_path):
    """A file of the machine that no data set may show, as raw bytes and as HDF5."""
    (tmp_path / "secret.bin").write_bytes(SECRET)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["values"] = np.frombuffer(SECRET, dtype=np.uint8)
    return tmp_path


def sound(path):
    """A small AnnData file, for something to be added to."""
    file = h5py.File(path, "w")
    x = file.create_group("X")
    x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [30, 3]})
    x["data"], x["indices"] = np.arange(1, 31, dtype=np.float32), np.arange(30, dtype=np.int32) % 3
    x["indptr"] = np.arange(31, dtype=np.int32)
    for name, size in (("obs", 30), ("var", 3)):
        group = file.create_group(name)
        group.attrs["_index"] = "names"
        group["names"] = [f"{name}{n}".encode() for n in range(size)]
    return file


def external_link(file, folder):
    file["obs/stolen"] = h5py.ExternalLink(str(folder / "secret.h5"), "values")
    return "/obs/stolen is an external link"


def soft_link(file, folder):
    file["obs/stolen"] = h5py.SoftLink("/X/data")
    return "/obs/stolen is a soft link"


def dangling_soft_link(file, folder):
    file["obs/stolen"] = h5py.SoftLink("/obs/stolen")
    return "/obs/stolen is a soft link"


def external_storage(file, folder):
    file["obs"].create_dataset("stolen", (len(SECRET),), "u1", external=[(str(folder / "secret.bin"), 0, len(SECRET))])
    return "/obs/stolen keeps its values in another file"


def virtual_data_set(file, folder):
    layout = h5py.VirtualLayout((len(SECRET),), "u1")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "values", (len(SECRET),))
    file["obs"].create_virtual_dataset("stolen", layout)
    return "/obs/stolen is a virtual data set"


def references(file, folder):
    file["obs"].create_dataset("stolen", (30,), h5py.ref_dtype)[:] = file["X"].ref
    return "/obs/stolen holds references"


def region_references(file, folder):
    file["obs"].create_dataset("stolen", (1,), h5py.regionref_dtype)[0] = file["X/data"].regionref[0:2]
    return "/obs/stolen holds references"


def references_in_a_table(file, folder):
    kind = np.dtype([("a", "i4"), ("b", h5py.ref_dtype)])
    file["obs"].create_dataset("stolen", (30,), kind)
    return "/obs/stolen holds references"


def a_reference_in_an_attribute(file, folder):
    file["obs"].attrs.create("stolen", file["X"].ref, dtype=h5py.ref_dtype)
    return "/obs@stolen holds references"


def unwritten_values(file, folder):
    file["obs"].create_dataset("bomb", (10**13,), "f8", chunks=(1000,))
    return "/obs/bomb would expand from 0 to 80,000,000,000,000 bytes"


def a_whole_matrix_unwritten(file, folder):
    del file["X"]
    file.create_dataset("X", (30, 10**10), "f8", chunks=(1, 1000))
    return "/X would expand from 0"


def compressed_zeros(file, folder):
    bomb = file["obs"].create_dataset(
        "bomb", (4 * 10**8,), "u1", chunks=(10**8,), compression="gzip", compression_opts=9
    )
    bomb[: 10**8] = 0
    return "/obs/bomb would expand"


def an_enormous_chunk(file, folder):
    file["obs"].create_dataset("bomb", (5,), "u1", chunks=(2**31,), maxshape=(None,))
    return "/obs/bomb would expand from 0 to 2,147,483,648 bytes"


def many_small_bombs(file, folder):
    for n in range(40):
        file["obs"].create_dataset(f"bomb{n}", (2 * 10**8,), "u1", chunks=(1000,))
    return "would expand"


def space_that_is_not_there(file, folder):
    # contiguous values are said to lie in the file; the end of the file is cut off below
    file["obs"]["cut"] = np.zeros(10**6)
    return "cut off"


HOSTILE = [
    *(external_link, soft_link, dangling_soft_link, external_storage, virtual_data_set, references, region_references),
    *(references_in_a_table, a_reference_in_an_attribute, unwritten_values, a_whole_matrix_unwritten, compressed_zeros),
    *(an_enormous_chunk, many_small_bombs),
]


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_file_is_refused_before_a_value_is_read(make, secret, monkeypatch):
    path = secret / "hostile.h5ad"
    with sound(path) as file:
        expected = make(file, secret)

    def read(*arguments):
        raise AssertionError("a value was read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    tracemalloc.start()
    with pytest.raises(DataFormatError) as refused:
        data.cells(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    message = str(refused.value)
    assert expected in message
    assert str(path) in message
    assert "nothing was read" in message
    assert "\n" not in message
    assert SECRET.decode() not in message
    assert peak < 16 * 2**20


def test_the_same_file_without_anything_hostile_is_read(secret):
    with sound(secret / "sound.h5ad"):
        pass
    cells = data.cells(secret / "sound.h5ad")
    assert sum(map(len, cells.splits)) == 30
    assert cells.high == 30


def test_a_group_that_holds_itself_does_not_trap_the_walk(tmp_path):
    with sound(tmp_path / "round.h5ad") as file:
        file["obs/loop"] = file["obs"]  # a hard link
        file["obs/twice"] = file["obs/names"]
    assert data.cells(tmp_path / "round.h5ad").train.annotations["twice"][0].startswith("obs")


def test_bombs_between_bounds_are_read(tmp_path):
    with h5py.File(tmp_path / "zeros.h5", "w") as file:
        file.create_dataset("zeros", (10**7,), "u1", chunks=(10**6,), compression="gzip")[:] = (
            0  # 1,000 times, but small
        )
    with open_hdf5(tmp_path / "zeros.h5") as file:
        assert file["zeros"][:5].tolist() == [0] * 5


@pytest.mark.parametrize("keep", [0, 8, 100, 700, 1500, 3000, 5000, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_an_error_of_its_format(tmp_path, keep):
    with sound(tmp_path / "whole.h5ad") as file:
        space_that_is_not_there(file, tmp_path)
    content = (tmp_path / "whole.h5ad").read_bytes()
    (tmp_path / "cut.h5ad").write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(DataFormatError, match="cannot be read as HDF5") as error:
        data.cells(tmp_path / "cut.h5ad")
    assert "\n" not in str(error.value)


def test_what_is_no_hdf5_and_what_is_not_there(tmp_path):
    (tmp_path / "page.h5ad").write_text("<html>not found</html>")
    with pytest.raises(DataFormatError, match=r"page\.h5ad cannot be read as HDF5"):
        data.cells(tmp_path / "page.h5ad")
    with pytest.raises(FileNotFoundError, match=r"none\.h5ad is not a file"):
        data.cells(tmp_path / "none.h5ad")


def test_without_h5py_one_line_says_what_to_install(tmp_path, monkeypatch):
    with sound(tmp_path / "a.h5ad"):
        pass
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"pip install 'vaekit\[cells\]'") as error:
        data.cells(tmp_path / "a.h5ad")
    assert "\n" not in str(error.value)


def test_texts_and_blocks_are_read_whole(tmp_path):
    names = ["a", "", "ünï", "x" * 1000] * 50
    values = np.arange(7 * 13).reshape(13, 7)
    with h5py.File(tmp_path / "texts.h5", "w") as file:
        file["variable"], file["fixed"] = names, [name.encode() for name in names]
        file.create_dataset("chunked", data=values, chunks=(4, 7))
        file["plain"] = values
    with open_hdf5(tmp_path / "texts.h5") as file:
        assert texts(file["variable"], tmp_path / "texts.h5").tolist() == names
        assert texts(file["fixed"], tmp_path / "texts.h5").tolist() == names
        for name in ("chunked", "plain"):
            blocks = list(row_blocks(file[name], 14))
            assert np.array_equal(np.concatenate(blocks), values)
            assert max(map(len, blocks)) == (4 if name == "chunked" else 2)
