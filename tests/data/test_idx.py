"""Damaged IDX files are refused, and a false header reserves nothing."""

import gzip
import struct
import tracemalloc

import pytest
import torch

from vaekit.data import DataFormatError
from vaekit.data.idx import read_idx

GOOD = struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 2, 3) + bytes(range(12))


def write(folder, content):
    path = folder / "images"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_values_come_back(tmp_path, pack):
    assert torch.equal(read_idx(write(tmp_path, pack(GOOD)), 3), torch.arange(12, dtype=torch.uint8).reshape(2, 2, 3))


DAMAGED = {
    "empty": (b"", "starts with nothing, expected 00000803"),
    "other magic": (b"<html>" + GOOD, "starts with 3c68746d"),
    "labels for images": (struct.pack(">BBBBI", 0, 0, 8, 1, 2) + b"12", "expected 00000803"),
    "floats": (b"\0\0\x0d\3" + GOOD[4:], "expected 00000803"),
    "cut in the header": (GOOD[:9], "inside its header"),
    "cut": (GOOD[:-1], "ends after 11 of 12"),
    "trailing": (GOOD + b"!", "goes on after the 12"),
    "no examples": (struct.pack(">BBBB3I", 0, 0, 8, 3, 0, 2, 3), "promises 0"),
    "bomb header": (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "promises"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_named(tmp_path, pack, content, message):
    with pytest.raises(DataFormatError, match=message):
        read_idx(write(tmp_path, pack(content)), 3)


@pytest.mark.parametrize("position", [0, 1, 2, *range(10, len(gzip.compress(GOOD, mtime=0)), 3)])
def test_a_damaged_gzip_stream_is_one_error(tmp_path, position):
    packed = bytearray(gzip.compress(GOOD, mtime=0))
    packed[position] ^= 0xFF
    with pytest.raises(DataFormatError):
        read_idx(write(tmp_path, bytes(packed)), 3)


@pytest.mark.parametrize("keep", [1, 8, 15, -9, -1])
def test_a_cut_gzip_stream_is_one_error(tmp_path, keep):
    with pytest.raises(DataFormatError):
        read_idx(write(tmp_path, gzip.compress(GOOD)[:keep]), 3)


def test_a_bomb_is_not_expanded(tmp_path):
    path = write(tmp_path, gzip.compress(GOOD + bytes(100 * 2**20)))
    tracemalloc.start()
    with pytest.raises(DataFormatError, match="goes on"):
        read_idx(path, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20
