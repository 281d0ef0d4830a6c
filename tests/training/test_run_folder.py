"""The run folder: plain files that may come from anywhere."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vaekit.errors import CheckpointError, ConfigError, RunError
from vaekit.training import Plan
from vaekit.training.device import Generators, select, threads
from vaekit.training.run import RunFolder, read_config

NODE = {"kind": "a.B"}
CONFIG: dict[str, Any] = {
    **dict.fromkeys(
        ("data", "network", "posterior", "prior", "likelihood", "objective", "optimizer", "training", "evaluation"), NODE
    ),
    "architecture": NODE, "name": "n", "seed": 1, "device": "cpu",
}  # fmt: skip


def plain() -> str:
    # without the aliases that equal nodes would become
    return "".join(yaml.safe_dump({key: value}) for key, value in CONFIG.items())


def written(tmp_path: Path, content: str | bytes) -> Path:
    file = tmp_path / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_a_plain_configuration_is_read_as_it_is(tmp_path: Path) -> None:
    text = plain() + "output_dir: ${oc.env:HOME}\nnote: '!tag &a *b'\n"
    # nothing is resolved: it is text
    assert read_config(written(tmp_path, text)) == {**CONFIG, "output_dir": "${oc.env:HOME}", "note": "!tag &a *b"}


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE: dict[str, str | bytes] = {
    "python object": "data: !!python/object/apply:os.system ['touch canary']\n",
    "python name": "data: !!python/name:os.system\n",
    "own tag": "data: !mine {}\n",
    "set": "data: !!set {a, b}\n",
    "binary": "data: !!binary AAAA\n",
    "alias": "data: &a {x: 1}\nnetwork: *a\n",
    "billion laughs": LAUGHS,
    "merge": "data: &a {x: 1}\nnetwork:\n  <<: *a\n",
    "itself": "data: &a [*a]\n",
    "deep list": "data: " + "[" * 100_000,
    "deep mapping": "data: " + "{a: " * 30_000,
    "deeper than allowed": "data: " + "[" * 40 + "]" * 40 + "\n",
    "huge integer": "seed: " + "9" * 200_000 + "\n",
    "huge base 60 integer": "seed: 1" + ":59" * 60_000 + "\n",
    "too large": "# " + "x" * (1 << 20),
    "no text": b"\xff\xfe\x00data",
    "control characters": b"data: \x00\x01\n",
    "a list": "- data\n",
    "a number": "3\n",
    "empty": "",
    "two documents": "data: {}\n---\ndata: {}\n",
    "not closed": "data: {a: 1\n",
    "a tab": "data:\n\t- a\n",
    "numbers for keys": "1: 2\ndata: {}\n",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_configuration_is_refused_at_once(
    content: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = plain() if content != HOSTILE["two documents"] else ""
    for text in (content, (before.encode() if isinstance(content, bytes) else before) + content):  # type: ignore[operator]
        if text == before:
            continue
        began = time.process_time()
        with pytest.raises(RunError) as caught:
            read_config(written(tmp_path, text))
        assert time.process_time() - began < 1.0
        assert len(str(caught.value)) < 500 + len(str(tmp_path))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("key", CONFIG)
def test_a_configuration_that_lacks_something_says_what(key: str, tmp_path: Path) -> None:
    text = "".join(yaml.safe_dump({name: value}) for name, value in CONFIG.items() if name != key)
    with pytest.raises(RunError, match=f"has no {key}"):
        read_config(written(tmp_path, text))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..", ".", "", "a\0b", "a\nb", "a//b", "a/"])
def test_a_name_never_leaves_the_output_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no name of a folder"):
        RunFolder.create(tmp_path / "runs", name, CONFIG)
    assert not any(tmp_path.iterdir())


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    paths = [RunFolder.create(tmp_path, "möbius run's, a=b", CONFIG).path for _ in range(4)]
    assert len(set(paths)) == 4
    assert all(RunFolder(path).config() == CONFIG for path in paths)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(RunError, match=r"Cannot write a run folder below .*runs/name: (Not a directory|File exists)"):
        RunFolder.create(tmp_path / "runs", "name", CONFIG)


def test_no_run_folder_names_the_run_that_was_meant(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", "digits", CONFIG).path
    for wrong in (tmp_path, tmp_path / "runs", tmp_path / "runs" / "digits"):
        with pytest.raises(RunError, match=f"no config.yaml. Did you mean {run}"):
            RunFolder(wrong)
    with pytest.raises(RunError, match="last line"):
        RunFolder(tmp_path / "nothing")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "n", CONFIG)
    for name, read in {
        "metrics.json": folder.metrics, "environment.json": folder.environment, "metrics.jsonl": folder.rows,
        "model.safetensors": folder.model,
    }.items():  # fmt: skip
        for content in ("{\n", "[1]\n", "[" * 100_000 + "\n", "3\n"):
            (folder.path / name).write_text(content)
            with pytest.raises(RunError, match=f"{name} is damaged"):
                read()


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "n", CONFIG)
    folder.write_metrics({"psnr": {"value": math.inf}})
    folder.append_row({"val/loss": math.nan, "step": 1})
    assert folder.metrics() == {"psnr": {"value": None}}
    assert folder.rows() == [{"val/loss": None, "step": 1}]
    folder.keep_rows([{"val/loss": -math.inf}])
    assert (folder.path / "metrics.jsonl").read_text() == '{"val/loss": null}\n'


def test_an_unfinished_run_has_no_model(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "with space", "n", CONFIG)
    with pytest.raises(RunError, match=r"has not finished\. Go on with: vaekit resume '.*with space.*'"):
        folder.model()
    assert folder.metrics() == {}
    assert folder.rows() == []


def test_rows_that_a_checkpoint_counts_on_must_be_there(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "n", CONFIG)
    folder.append_row({"train/loss": 0.1 + 0.2})
    folder.sync_rows()
    assert folder.rows(1) == [{"train/loss": 0.1 + 0.2}]
    with pytest.raises(RunError, match="has 1 rows, but the checkpoint was made after 2"):
        folder.rows(2)


def test_weights_come_back(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "n", CONFIG)
    folder.write_model({"w": torch.randn(3, 2), "empty": torch.zeros(0), "scalar": torch.tensor(1.5)})
    assert set(folder.model()) == {"w", "empty", "scalar"}


def test_an_unwritable_checkpoint_folder_is_named(tmp_path: Path) -> None:
    from vaekit.training.checkpoint import Checkpoint, save

    folder = RunFolder.create(tmp_path, "n", CONFIG)
    folder.checkpoints.write_text("in the way")
    with pytest.raises(CheckpointError, match=f"{folder.checkpoints}.*File exists"):
        save(folder.checkpoints, Checkpoint(1, {}, {}))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"epochs": 0}, "epochs is 0, expected 1 or more"),
        ({"batch_size": 0}, "batch_size"),
        ({"samples": -1}, "samples"),
        ({"keep_checkpoints": 1}, "keep_checkpoints is 1, expected 2 or more"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds"),
        ({"gradient_clip": 0.0}, "gradient_clip is 0.0, expected a norm above 0"),
    ],
)
def test_a_plan_refuses_what_cannot_be(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Plan(**setting)


@pytest.mark.parametrize("name", ["gpu", "cud", "", "cpu:", "cpu:1", "cuda:x", "auto:1", "cuda:0:1", "CPU"])
def test_a_device_that_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match=r"device is .* expected one of auto, cuda, mps, cpu"):
        select(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_a_device_that_is_not_here(name: str) -> None:
    with pytest.raises(ConfigError, match=r"finds none here; write device=cpu"):
        select(name)


def test_devices_that_are_here() -> None:
    assert select("cpu") == torch.device("cpu")
    assert select("auto").type in ("cuda", "mps", "cpu")


def test_generators_are_borrowed_and_given_back() -> None:
    torch.manual_seed(5)
    own = Generators(torch.device("cpu"), 1)
    users = torch.get_rng_state()
    with own.borrowed():
        first = torch.rand(3)
        inside = own.current()
        with own.untouched():
            torch.rand(100)
    assert torch.equal(torch.get_rng_state(), users)
    with own.borrowed():
        second = torch.rand(3)
    other = Generators(torch.device("cpu"), 2)
    other.load(inside)
    with other.borrowed():
        assert torch.equal(torch.rand(3), second)
    with pytest.raises((RuntimeError, TypeError)):
        other.load({"cpu": torch.zeros(3)})
    assert torch.equal(torch.get_rng_state(), users)
    expected = torch.Generator().manual_seed(1)
    assert torch.equal(first, torch.rand(3, generator=expected))


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_nothing_is_left_of_the_process_id(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "n", CONFIG)
    (folder.path / f".metrics.json.{os.getpid()}-1.draft").write_text("half")
    (folder.path / ".gitkeep").write_text("the user's")
    folder.clean()
    assert sorted(p.name for p in folder.path.iterdir()) == [".gitkeep", "config.yaml", "figures"]
