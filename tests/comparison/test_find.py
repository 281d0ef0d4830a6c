"""Which folders are runs that can be compared, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vaekit.comparison import find
from vaekit.errors import RunError

SECTIONS = (
    "data", "network", "posterior", "prior", "likelihood", "objective", "optimizer", "training", "evaluation", "architecture",
)  # fmt: skip


def run(path: Path, *, finished: bool = True, measured: bool = True) -> Path:
    """A folder that looks like a run."""
    path.mkdir(parents=True)
    config = {**{name: {"kind": "x.Y"} for name in SECTIONS}, "name": "a", "seed": 0, "device": "cpu"}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {"finished": "now"} if measured else {}
    (path / "environment.json").write_text(json.dumps(environment))
    if finished:
        (path / "model.safetensors").write_bytes(b"")
    if measured:
        (path / "metrics.json").write_text(json.dumps({"elbo": {"value": 1.0}}))
    return path


def test_runs_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    made = {run(tmp_path / "runs" / name) for name in ("a/1", "a/2", "sweeps/s/trial", "b")}
    run(tmp_path / "runs" / "b" / "figures" / "inside")  # below a run there are no runs
    (tmp_path / "link").symlink_to(tmp_path / "runs" / "a")
    found = find([tmp_path / "runs", tmp_path / "runs" / "a", tmp_path / "runs" / "b", tmp_path / "link"])
    assert set(found.runs) == made
    assert found.left_out == ()
    assert find([tmp_path / "runs" / "a" / "1"]).runs == (tmp_path / "runs" / "a" / "1",)


def test_runs_without_an_end_and_damaged_ones_are_named(tmp_path: Path) -> None:
    good = run(tmp_path / "good")
    run(tmp_path / "stopped", finished=False, measured=False)
    run(tmp_path / "unmeasured", measured=False)
    (run(tmp_path / "torn") / "metrics.json").write_text('{"elbo": ')
    (run(tmp_path / "strange") / "config.yaml").write_text("a: !!python/object:os.system {}")
    found = find([tmp_path])
    assert found.runs == (good,)
    said = {line.split(":")[0].rpartition("/")[2]: line for line in found.left_out}
    assert set(said) == {"stopped", "unmeasured", "torn", "strange"}
    assert "not finished; vaekit resume goes on with it" in said["stopped"]
    assert "vaekit resume finishes it" in said["unmeasured"]
    assert "damaged" in said["torn"]
    assert "damaged" in said["strange"]
    assert all("\n" not in line for line in found.left_out)


def test_what_a_sweep_says_of_its_runs_is_said(tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps" / "s"
    good = run(sweep / "one")
    run(sweep / "two", finished=False, measured=False)
    run(sweep / "three", finished=False, measured=False)
    results = [
        {"state": "pruned", "run": "two", "error": ""},
        {"state": "failed", "run": "three", "error": "The loss is nan.\nmore"},
        {"state": "finished", "run": "one"},
    ]
    (sweep / "sweep.json").write_text(json.dumps({"results": results}))
    found = find([tmp_path])
    assert found.runs == (good,)
    assert [line.partition(": ")[2] for line in found.left_out] == [
        "failed: The loss is nan.",
        "stopped early by its sweep",
    ]
    (sweep / "sweep.json").write_text('{"results": 3}')  # damaged: the runs speak for themselves
    assert [line.partition(": ")[2] for line in find([sweep]).left_out] == [
        "not finished; vaekit resume goes on with it"
    ] * 2


def test_nothing_to_compare_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"No finished run in .*empty \(searched 6 folders deep\)\.$"):
        find([tmp_path / "empty"])
    with pytest.raises(RunError, match="Give folders with finished runs"):
        find([tmp_path / "nowhere"])
    run(tmp_path / "only", finished=False, measured=False)
    with pytest.raises(RunError, match=r"1 is not: .*only: not finished"):
        find([tmp_path])
