"""The MATLAB reader agrees with scipy, and refuses damage."""

import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from vaekit.data import DataFormatError
from vaekit.data.matlab import read_matlab

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "u8", "f4", "f8"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_arrays_come_back(tmp_path, dtype, compressed):
    path = tmp_path / "file.mat"
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    savemat(path, {"a": np.zeros(3), "text": "words", "ff": values, "b": np.ones(2)}, do_compression=compressed)
    read = read_matlab(path, "ff")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, values)


def test_frey_faces_as_scipy_reads_them(need):
    need("freyfaces")
    from vaekit.data.locate import roots, search

    folders = ("freyfaces", "frey_face", "FreyFaces")
    path = search(["frey_rawface.mat"], folders, roots(None, "freyfaces")).found["frey_rawface.mat"]
    np.testing.assert_array_equal(read_matlab(path, "ff"), loadmat(path)["ff"])


def test_an_absent_variable_is_named(tmp_path):
    savemat(tmp_path / "file.mat", {"gg": np.zeros(3)})
    with pytest.raises(DataFormatError, match="no variable 'ff', but 'gg'"):
        read_matlab(tmp_path / "file.mat", "ff")


@pytest.mark.parametrize("compressed", [False, True])
def test_every_cut_and_every_flipped_byte_is_an_array_or_one_error(tmp_path, compressed):
    path = tmp_path / "file.mat"
    savemat(path, {"ff": np.arange(6, dtype="u1").reshape(2, 3)}, do_compression=compressed)
    content = path.read_bytes()
    damaged = [content[:n] for n in range(len(content))]
    for at in range(124, len(content)):
        damaged += [content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :] for flip in (0x01, 0x80, 0xFF)]
    refused = 0
    for version in damaged:
        path.write_bytes(version)
        try:
            read_matlab(path, "ff")
        except DataFormatError:
            refused += 1
    assert refused >= len(content) - 8  # all cuts but those in the padding at the end


def test_a_bomb_is_not_expanded(tmp_path, monkeypatch):
    monkeypatch.setattr("vaekit.data.matlab._LIMIT", 2**20)
    path = tmp_path / "file.mat"
    packed = zlib.compress(bytes(2**24))
    header = b" " * 124 + b"\x00\x01IM"
    path.write_bytes(header + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed)
    with pytest.raises(DataFormatError, match="cut short or expands beyond"):
        read_matlab(path, "ff")
