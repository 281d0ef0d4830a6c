"""Tensors in files: the bytes of the format's own writer, in bounded memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save

from vaekit.errors import CheckpointError
from vaekit.training import tensors as module
from vaekit.training.tensors import TensorFile, packed, spill


def every_type() -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    made = {
        f"{name} {i}": torch.randint(0, 2, (5, 7), generator=numbers).to(dtype)
        for i, dtype in enumerate(module._DTYPES.values())
        for name in ("z", "a", 'quoted " \\ \n \x01 \x7f', "ü漢😀")
    }
    made |= {"empty": torch.zeros(0, 3), "scalar": torch.tensor(1.5), "flag": torch.tensor(True)}
    return {**made, "large": torch.randn(37, 1001, generator=numbers)}


@pytest.mark.parametrize("piece", [8, 64, 1 << 24])
@pytest.mark.parametrize("metadata", [None, {"vaekit": "0.2"}, {}], ids=["none", "version", "empty"])
def test_the_bytes_are_those_of_the_formats_own_writer(
    metadata: dict[str, str] | None, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE", piece)
    content = b"".join(packed(every_type(), metadata))
    assert content == save(every_type(), metadata)
    (tmp_path / "file").write_bytes(content)
    assert b"".join(packed(TensorFile(tmp_path / "file"))) == save(every_type())  # a file from a file


def test_no_tensors() -> None:
    assert b"".join(packed({})) == save({})


@pytest.mark.parametrize("piece", [8, 1 << 24])
def test_what_is_written_comes_back(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", piece)
    file = spill(tmp_path / "file", every_type())
    assert set(file) == set(every_type())
    assert len(file) == len(every_type())
    for name, tensor in every_type().items():
        assert file[name].dtype == tensor.dtype
        assert torch.equal(file[name], tensor)
    with pytest.raises(KeyError):
        file["another"]


def test_the_order_of_elements_is_that_of_the_tensor_and_not_of_its_memory(tmp_path: Path) -> None:
    tensor = torch.randn(4, 5, 6)
    views = {"t": tensor.permute(2, 0, 1), "part": tensor[1:3, ::2], "grown": torch.ones(1).expand(7)}
    file = spill(tmp_path / "file", {name: view.requires_grad_(False) for name, view in views.items()})
    assert all(torch.equal(file[name], view) for name, view in views.items())


def test_a_spilt_file_is_replaced_and_never_written_over(tmp_path: Path) -> None:
    first = spill(tmp_path / "first", {"w": torch.zeros(3)})
    second = spill(tmp_path / "second", first)
    assert (tmp_path / "second").samefile(tmp_path / "first")  # another name for it, in place of a copy
    third = spill(tmp_path / "second", {"w": torch.ones(3)})
    assert torch.equal(first["w"], torch.zeros(3))
    assert torch.equal(third["w"], torch.ones(3))
    assert second.path == third.path


def test_where_files_cannot_have_two_names_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    first = spill(tmp_path / "first", every_type())
    second = spill(tmp_path / "second", first)
    assert (tmp_path / "second").read_bytes() == (tmp_path / "first").read_bytes()
    assert not (tmp_path / "second").samefile(tmp_path / "first")
    assert set(second) == set(first)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Cannot write the best weights to .*none/file: No such file"):
        spill(tmp_path / "none" / "file", {})


@pytest.mark.parametrize("tensor", [torch.ones(1, dtype=torch.complex64), torch.ones(1, dtype=torch.uint16)])
def test_a_type_that_is_not_stored_is_refused(tensor: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=re.escape(f"'w' is of type {tensor.dtype}, expected one of torch.int64")):
        list(packed({"w": tensor}))
    (tmp_path / "file").write_bytes(save({"w": tensor}))
    with pytest.raises(ValueError, match="'w' is of type"):
        TensorFile(tmp_path / "file")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04N.", b"\xff" * 8, (2).to_bytes(8, "little") + b"[]", save({"w": torch.ones(9)})[:-1],
     save({"w": torch.ones(9)}) + b" "],
    ids=["empty", "pickle", "long header", "list", "short", "long"],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises((SafetensorError, ValueError)):
        TensorFile(tmp_path / "file")


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    file = spill(tmp_path / "file", {"w": torch.ones(9)})
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-1])
    with pytest.raises(OSError, match="has become shorter"):
        file["w"]


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """192 MiB are kept as best weights, saved and verified, and not a third of that is needed beside them."""
    code = """
        import re, sys
        from pathlib import Path
        import torch
        from vaekit.training.checkpoint import Checkpoint, load, save
        from vaekit.training.tensors import spill
        folder = Path(sys.argv[1])
        weights = {str(i): torch.ones(1 << 23) for i in range(6)}
        def now(key):
            return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
        before = now("VmRSS")
        best = spill(folder / "best", weights)
        load(save(folder / "c", Checkpoint(1, {"model": weights, "best": best}, {})))
        print(now("VmHWM") - before)
    """
    lines = "\n".join(line[8:] for line in code.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", lines, tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    assert float(done.stdout) < 64
