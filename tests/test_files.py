"""Files are replaced in one piece, whatever happens."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from vaekit.errors import closest
from vaekit.files import as_json, is_folder_name, remove_drafts, write_atomically


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    for content in (b"first", b"", b"x" * 100_000):
        write_atomically(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_json_has_no_word_for_numbers_that_are_not_finite() -> None:
    def refuse(word: str) -> None:
        raise ValueError(word)

    content = {"a": [math.inf, -math.inf, (math.nan, 0.1)], "b": {"ü": 1e300, "c": None, "d": True}}
    said = as_json(content)
    assert json.loads(said, parse_constant=refuse) == {
        "a": [None, None, [None, 0.1]],
        "b": {"ü": 1e300, "c": None, "d": True},
    }
    assert as_json({"a": 1}, indent=2) == '{\n  "a": 1\n}'


def test_others_may_read_it_as_the_users_mask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace"])
def test_a_failure_leaves_the_old_content_and_nothing_else(
    call: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "file", b"old")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(type(error)) as caught:
            write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(tmp_path / "file")  # of the file that was meant


def test_a_write_that_is_cut_short_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:3]))
    write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_the_content_is_on_the_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("write", "fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, call=call: (calls.append(name), call(*a))[1])
    write_atomically(tmp_path / "file", b"x")
    assert calls == ["write", "fsync", "replace", "fsync"]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="file"):
        write_atomically(tmp_path / "nowhere" / "file", b"x")


def test_only_drafts_are_removed(tmp_path: Path) -> None:
    for name in (".gitignore", "model.safetensors", ".notes.2024-01", ".model.safetensors.12-34.draft"):
        (tmp_path / name).write_text("x")
    remove_drafts(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".gitignore", ".notes.2024-01", "model.safetensors"]


def test_names_of_folders() -> None:
    assert all(map(is_folder_name, ["a", "a b", "a/b", "ä☃", "...", "a..b", "it's", "a=b,c"]))
    assert not any(map(is_folder_name, ["", ".", "..", "../a", "a/..", "/a", "a//b", "a/", "a\0", "a\nb", "\x1b[2J"]))


def test_closest() -> None:
    assert closest("latnt_dim", ["latent_dim", "seed"]) == "; closest: latent_dim."
    assert closest("zzz", ["latent_dim", "seed"]) == "; valid: latent_dim, seed."
    assert closest("zzz", [f"key{i:02d}" for i in range(30)]).endswith("key19, ....")
    assert closest("zzz", []) == "."
    assert closest("SCVI", ["scvi", "vae"]) == "; closest: scvi."
    assert closest("cell_Type", ["CELL_TYPE", "Cell_type", "donor"]) == "; closest: CELL_TYPE, Cell_type."
