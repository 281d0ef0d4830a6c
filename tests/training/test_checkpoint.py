"""Checkpoints: whole or not at all, verified when read, and never a reason to trust a stranger."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit.errors import CheckpointError
from vaekit.training import checkpoint as module
from vaekit.training.checkpoint import Checkpoint, clean, latest, latest_step, load, save
from vaekit.training.tensors import spill


def made(step: int) -> Checkpoint:
    numbers = torch.Generator().manual_seed(step)
    groups = {
        "model": {"weight": torch.randn(20, 3, generator=numbers), "scalar": torch.tensor(float(step))},
        "optimizer": {"model/0/step": torch.tensor(float(step))},
        "best": {},
    }
    return Checkpoint(step, groups, {"vaekit": "0", "history": {"examples": step, "sums": [0.1 * step]}})


def equal(a: Checkpoint, b: Checkpoint) -> bool:
    same = a.tensors.keys() == b.tensors.keys() and all(a.tensors[g].keys() == b.tensors[g].keys() for g in a.tensors)
    return same and all(torch.equal(a.tensors[g][n], b.tensors[g][n]) for g in a.tensors for n in a.tensors[g])


def silent(line: str) -> None:
    raise AssertionError(f"nothing should be said, but: {line}")


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", made(3))
    back = load(path)
    assert path.name == "step-000000003"
    assert equal(back, made(3))
    assert back.step == 3
    assert back.state["history"] == made(3).state["history"]
    assert {file.suffix for file in path.iterdir()} == {".json", ".safetensors"}


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 9, 10):
        save(tmp_path, made(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000009", "step-000000010"]
    newest = latest(tmp_path, silent)
    assert newest is not None
    assert newest.step == latest_step(tmp_path) == 10


def test_nothing_there(tmp_path: Path) -> None:
    assert latest(tmp_path / "none", silent) is None
    assert latest_step(tmp_path / "none") == 0
    clean(tmp_path / "none")


def test_a_step_can_be_saved_again(tmp_path: Path) -> None:
    save(tmp_path, made(5))
    save(tmp_path, made(5))
    assert equal(load(tmp_path / "step-000000005"), made(5))


def test_damaged_ones_do_not_count_among_those_that_are_kept(tmp_path: Path) -> None:
    for step in (4, 5):
        save(tmp_path, made(step))
    (tmp_path / "step-000000005" / "state.json").write_bytes(b"")
    save(tmp_path, made(4))  # the training went back behind 5, and goes on
    save(tmp_path, made(5))
    save(tmp_path, made(6))
    assert [load(p).step for p in sorted(tmp_path.iterdir())] == [5, 6]
    (tmp_path / "step-000000006" / "state.json").write_bytes(b"")
    save(tmp_path, made(5))
    assert latest_step(tmp_path) == 5


# every call to the system that a save makes, and what it is called on
CALLS = [(os, name) for name in ("open", "write", "fsync", "close", "replace", "mkdir", "rmdir", "unlink")]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"])
def test_a_save_that_fails_at_any_call_leaves_good_checkpoints(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, made(1))
    save(tmp_path, made(2))
    said: list[str] = []
    for number in range(1000):
        counter = iter(range(1000))

        def counted(call: Callable[..., Any], number: int = number, counter: Any = counter) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                if next(counter) == number:
                    raise error
                return call(*args, **kwargs)

            return wrapped

        with monkeypatch.context() as patch:
            for home, name in CALLS:
                patch.setattr(home, name, counted(getattr(home, name)))
            try:
                save(tmp_path, made(3 + number))
            except (CheckpointError, KeyboardInterrupt) as raised:
                said.append(str(raised))
        newest = latest(tmp_path, silent)
        assert newest is not None
        assert equal(newest, made(newest.step))
        assert newest.step >= (2 if number == 0 else 1)
        if next(counter) <= number:  # the call with this number was never made: all have been tried
            break
    assert number > 20
    if isinstance(error, OSError):
        assert said
        assert all(re.search("Cannot write the checkpoint .*: No space left on device", line) for line in said)
    save(tmp_path, made(2000))
    assert not list(tmp_path.glob(".staging-*"))
    assert len(list(tmp_path.iterdir())) == 2


def damaged(content: bytes, seed: int) -> bytes:
    place = random.Random(seed).randrange(8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


DAMAGES: dict[str, Callable[[Path], object]] = {
    **{f"bit {i}": lambda file, i=i: file.write_bytes(damaged(file.read_bytes(), i)) for i in range(12)},
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b" "),
    "empty": lambda file: file.write_bytes(b""),
    "missing": lambda file: file.unlink(),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json", "manifest.json"]
)
def test_every_damage_is_refused_and_the_one_before_is_taken(
    name: str, damage: Callable[[Path], object], tmp_path: Path
) -> None:
    save(tmp_path, made(1))
    path = save(tmp_path, made(2))
    expected = hashlib.sha256((path / name).read_bytes()).hexdigest()
    damage(path / name)
    said: list[str] = []
    taken = latest(tmp_path, said.append)
    assert taken is not None
    assert equal(taken, made(1))
    (warning,) = said
    assert str(path) in warning
    assert name in warning
    assert "\n" not in warning
    if name != "manifest.json":
        assert expected in warning
        if (path / name).is_file() and (path / name).stat().st_size == json.loads(
            (path / "manifest.json").read_bytes()
        )["files"][name]["bytes"]:
            assert hashlib.sha256((path / name).read_bytes()).hexdigest() in warning
    (tmp_path / "step-000000001" / name).unlink()
    with pytest.raises(CheckpointError, match=f"None of the 2 checkpoints .*{re.escape(name)}"):
        latest(tmp_path, silent)


def forged(path: Path, files: dict[str, bytes]) -> None:
    """A checkpoint whose hashes are right: what somebody could send."""
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    listed = {name: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for name, c in files.items()}
    (path / "manifest.json").write_bytes(module._listing(listed))


STATES = {
    "no step": b"{}",
    "no mapping": b"[]",
    "text for a step": b'{"step": "2"}',
    "another step": b'{"step": 3}',
    "deep": b'{"step": 2, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge integer": b'{"step": ' + b"9" * 100_000 + b"}",
    "half": b'{"step": 2',
    "latin": b'{"step": 2, "x": "\xff"}',
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
def test_a_forged_state_is_refused(state: bytes, tmp_path: Path) -> None:
    forged(tmp_path / "step-000000002", {"state.json": state})
    with pytest.raises(CheckpointError, match="step-000000002 is damaged"):
        load(tmp_path / "step-000000002")


def test_forged_tensors_are_refused(tmp_path: Path) -> None:
    for number, content in enumerate((b"\x80\x04N.", b"\xff" * 8, b"PK\x03\x04", (2).to_bytes(8, "little") + b"[]")):
        path = tmp_path / str(number) / "step-000000002"
        forged(path, {"state.json": b'{"step": 2}', "model.safetensors": content})
        with pytest.raises(CheckpointError, match="is damaged"):
            load(path)


MANIFESTS = {
    "above": {"files": {"../secret.json": {"sha256": "0", "bytes": 1}, "state.json": {"sha256": "0", "bytes": 1}}},
    "absolute": {"files": {"/etc/passwd": {"sha256": "0", "bytes": 1}, "state.json": {"sha256": "0", "bytes": 1}}},
    "dots": {"files": {"..": {"sha256": "0", "bytes": 1}, "state.json": {"sha256": "0", "bytes": 1}}},
    "zero byte": {"files": {"a\0b": {"sha256": "0", "bytes": 1}, "state.json": {"sha256": "0", "bytes": 1}}},
    "pickle": {"files": {"model.pkl": {"sha256": "0", "bytes": 1}, "state.json": {"sha256": "0", "bytes": 1}}},
    "no state": {"files": {}},
    "no sizes": {"files": {"state.json": {"sha256": "0"}}},
    "a list": {"files": ["state.json"]},
    "nothing": {},
}


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_hostile_manifest_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    path = save(tmp_path, made(1))
    (tmp_path / "secret.json").write_text("x")
    (path / "manifest.json").write_text(json.dumps({"schema": 1, "vaekit": "0", "sha256": "0", **content}))
    with pytest.raises(CheckpointError, match=r"manifest\.json cannot be used") as caught:
        load(path)
    assert "root:" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"[" * 500_000, b"[]", b"null", b'"x"', b" " * (2 << 20), b'{"schema": "1"}', b'{"schema": null}', b"\xff\xfe"],
    ids=["deep", "list", "null", "text", "huge", "schema of text", "no schema", "no text"],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    path = save(tmp_path, made(1))
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json cannot be used"):
        load(path)


def test_a_newer_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = save(tmp_path, made(1))
    (path / "manifest.json").write_text(json.dumps({"schema": 2, "vaekit": "9.1", "of the future": []}))
    for attempt in (lambda: load(path), lambda: latest(tmp_path, silent)):
        with pytest.raises(CheckpointError, match=r"made by vaekit 9\.1 in format 2.*Update vaekit"):
            attempt()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"checkpoints/step-000000001: File exists"):
        save(tmp_path / "checkpoints", made(1))


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from pathlib import Path
        import torch
        from vaekit.errors import CheckpointError
        from vaekit.training.checkpoint import Checkpoint, latest, save
        folder = Path(sys.argv[1])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        save(folder, Checkpoint(1, {"model": {"w": torch.zeros(10)}}, {}))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save(folder, Checkpoint(2, {"model": {"w": torch.zeros(100_000)}}, {}))
        except CheckpointError as error:
            print(error)
        assert latest(folder, print).step == 1
        assert [p.name for p in folder.iterdir()] == ["step-000000001"]
    """
    lines = "\n".join(line[8:] for line in code.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", lines, tmp_path / "c"], capture_output=True, text=True, timeout=60, check=True
    )
    assert re.search(r"Cannot write the checkpoint .*step-000000002: File too large \(\d+ MiB free\)\.", done.stdout)


def with_best(step: int, best: Any) -> Checkpoint:
    whole = made(step)
    return Checkpoint(step, {**whole.tensors, "best": best}, whole.state)


def test_unchanged_best_weights_move_on_and_are_never_shared_by_checkpoints_that_stay(tmp_path: Path) -> None:
    """Two are kept: the first two saves write the file, and from then on it moves from the one that leaves."""
    best = spill(tmp_path / "best", {"w": torch.ones(5)})
    files = []
    for step in (1, 2, 3, 4, 5):
        path = save(tmp_path / "c", with_best(step, best))
        files.append((path / "best.safetensors").stat().st_ino)
        for one in (tmp_path / "c").iterdir():
            assert torch.equal(load(one).tensors["best"]["w"], torch.ones(5))
        stay = [(p / "best.safetensors").stat() for p in (tmp_path / "c").iterdir()]
        assert len({stat.st_ino for stat in stay}) == len(stay)
        assert all(stat.st_nlink == 1 for stat in stay)
    assert len(files) == 5
    assert files[2:] == [files[0], files[1], files[0]]
    better = spill(tmp_path / "best", {"w": torch.full((5,), 2.0)})
    for step in (6, 7, 8, 9):
        path = save(tmp_path / "c", with_best(step, better))
        assert torch.equal(load(path).tensors["best"]["w"], torch.full((5,), 2.0))


def test_damage_to_best_weights_that_moved_leaves_the_other_checkpoint_whole(tmp_path: Path) -> None:
    best = spill(tmp_path / "best", {"w": torch.ones(5)})
    for step in (1, 2, 3, 4):
        save(tmp_path / "c", with_best(step, best))
    file = tmp_path / "c" / "step-000000004" / "best.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    said: list[str] = []
    newest = latest(tmp_path / "c", said.append)
    assert newest is not None
    assert newest.step == 3
    assert len(said) == 1
    for step in (4, 5, 6):  # what is damaged moves on no further than it is refused again
        save(tmp_path / "c", with_best(step, best))
    assert torch.equal(load(tmp_path / "c" / "step-000000006").tensors["best"]["w"], torch.ones(5))


def test_best_weights_are_written_where_files_cannot_have_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    best = spill(tmp_path / "best", {"w": torch.ones(5)})
    monkeypatch.setattr(os, "link", refuse)
    for step in (1, 2, 3, 4):
        path = save(tmp_path / "c", with_best(step, best))
        assert torch.equal(load(path).tensors["best"]["w"], torch.ones(5))


def test_best_weights_that_were_changed_behind_our_back_are_not_saved(tmp_path: Path) -> None:
    best = spill(tmp_path / "best", {"w": torch.ones(5)})
    save(tmp_path / "c", with_best(1, best))
    (tmp_path / "best").write_bytes((tmp_path / "best").read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="something has changed it"):
        save(tmp_path / "c", with_best(2, best))
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["step-000000001"]
