"""Protocols from their name to their page: a small one whole, and all of them as far as nothing has to be trained."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit import api
from vaekit.cli.main import main
from vaekit.compose import compose, resolve
from vaekit.data import DataNotFoundError
from vaekit.errors import ConfigError, RunError
from vaekit.reproduce import (
    PROTOCOLS,
    Check,
    Protocol,
    Variant,
    gaussian,
    listing,
    page,
    protocol_named,
    read_results,
    report,
    reproduce,
)
from vaekit.reproduce.measures import Evidence
from vaekit.reproduce.protocol import arms
from vaekit.reproduce.verdict import Above, Near, Shown
from vaekit.training.callbacks import Interrupted
from vaekit.training.loop import Callback

ROOT = Path(__file__).parents[2]
SMALL = (
    *("data=digits", "device=cpu", "training.epochs=2", "training.batch_size=200", "evaluation.samples=2"),
    *("hidden_dim=8", "latent_dim=2"),
)


def protocol(**changes: Any) -> Protocol:
    """Two trainings of a second, and every kind of row."""
    quick = Variant(
        arms=arms(
            "demo", {"one": (*SMALL, "data.binarisation=none"), "two": (*SMALL, "data.binarisation=none", "sigma=0.5")}
        ),
        measure=Evidence(8, 40),
        checks=(
            Check(
                "one",
                "one",
                Near(0.0, 1e6),
                published=0.0,
                source="[Somebody, 1999](https://example.org/paper), table 3",
            ),
            Check("two", "two", Shown()),
            Check("gain", "one", Above(-1e6), less="two", published=1.5, source="[Somebody](https://example.org)"),
            Check("active", "one.active", Near(0, 2)),
            Check("rate", "two.kl", Above(1e6)),
        ),
        time="seconds",
        claim="nothing",
    )
    return Protocol(
        "small", "Two small models", "0 and 1.5", "[Somebody, 1999](https://example.org/paper)", quick, **changes
    )


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings without pictures."""
    for picture in ("draw_gallery", "write_page", "animate"):
        monkeypatch.setattr(api, picture, lambda *_: None)
    for callback in ("Snapshots", "Stages"):
        monkeypatch.setattr(api, callback, lambda *_: Callback())


class Stop(Callback):
    """Ends the process, as far as the library can tell, at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, progress: Any) -> None:
        if progress.step == self.at:
            raise Interrupted(15, Path("run"))


@pytest.mark.usefixtures("plain")
def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    small = protocol()
    with pytest.raises(Interrupted):
        reproduce(small, output_dir=tmp_path, say=lambda line: None, progress=lambda say: Stop(9))
    said: list[str] = []
    outcome = reproduce(small, output_dir=tmp_path, say=said.append)
    assert len(list(tmp_path.glob("demo-*/*/config.yaml"))) == 2
    assert any(line.startswith(("Going on", "No checkpoint yet")) for line in said)
    verdicts = [str(row.verdict) for row in outcome.rows]
    assert verdicts == ["agrees", "no claim", "claim holds", "agrees", "claim does not hold"]
    assert [row.ours.n for row in outcome.rows] == [40] * 5
    # a second call trains nothing, measures nothing anew, and says the same
    kept = sorted(tmp_path.glob("demo-*/*/measurements/*.safetensors"))
    assert len(kept) == 2
    before = [file.stat().st_mtime_ns for file in kept]
    said.clear()
    again = reproduce(small, output_dir=tmp_path, say=said.append)
    assert sum(line.startswith("Already trained") for line in said) == 2
    assert again.rows == outcome.rows
    assert [file.stat().st_mtime_ns for file in kept] == before
    _is_well_written(tmp_path, outcome.as_dict(), small)
    _other_protocols_share_its_runs(tmp_path, small)


def _is_well_written(folder: Path, found: dict[str, Any], small: Protocol) -> None:
    (file,) = (folder / "results").glob("*.json")
    assert file.name == "small-quick.json"
    written = json.loads(file.read_text("utf-8"))
    assert {row["label"]: row["verdict"] for row in written["rows"]} == {
        row["label"]: row["verdict"] for row in found["rows"]
    }
    assert written["rows"][2]["difference"] == pytest.approx(written["rows"][2]["ours"]["value"] - 1.5)
    assert set(written["made_with"]) >= {"vaekit", "torch", "processor", "threads"}
    assert written["runs"]["one"]["command"].startswith("vaekit train experiment=demo data=digits")
    assert str(folder) not in file.read_text("utf-8")
    text = page(read_results(folder / "results"), [small])
    assert "| one | 0 |" in text
    assert "1 agrees" not in text
    assert "2 agree, 1 claim holds, 1 claim does not hold" in text
    assert "## What was not run" not in text
    open_one = replace(small, full=small.quick)
    assert "| `small` | 0 and 1.5 | seconds |" in page(read_results(folder / "results"), [open_one])


def _other_protocols_share_its_runs(folder: Path, small: Protocol) -> None:
    other = replace(
        small, name="other", quick=replace(small.quick, arms=small.quick.arms[:1], checks=small.quick.checks[:1])
    )
    outcome = reproduce(other, output_dir=folder, say=lambda line: None)
    assert len(list(folder.glob("demo-*/*/config.yaml"))) == 2
    lines = list(report(outcome))
    assert "  published  0, Somebody, 1999 (https://example.org/paper), table 3" in lines
    assert any(line.startswith("  verdict    agrees (agrees within 1e+06") for line in lines)
    assert lines[-2].startswith("1 agrees. ")
    assert lines[-1] == str(folder / "results" / "other-quick.json")


def test_the_page_is_what_the_results_make_it() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "results.py"))["made"]()
    assert (ROOT / "docs" / "results.md").read_text("utf-8") == made, "run: python docs/results.py"


def test_another_number_would_make_another_page(tmp_path: Path) -> None:
    source = ROOT / "docs" / "results" / "linear_gaussian-quick.json"
    shutil.copy(source, tmp_path)
    before = page(read_results(tmp_path), PROTOCOLS.values())
    changed = json.loads(source.read_text("utf-8"))
    changed["rows"][0]["ours"]["value"] += 1.0
    (tmp_path / source.name).write_text(json.dumps(changed), encoding="utf-8")
    assert page(read_results(tmp_path), PROTOCOLS.values()) != before


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"rows": []}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.json is no result of vaekit reproduce"):
        read_results(tmp_path)


def variants() -> Iterator[tuple[str, Variant]]:
    for name, found in PROTOCOLS.items():
        yield f"{name} quick", found.quick
        if found.full is not None:
            yield f"{name} full", found.full


@pytest.mark.parametrize("variant", [v for _, v in variants()], ids=[name for name, _ in variants()])
def test_a_protocol_measures_what_it_checks(variant: Variant) -> None:
    assert len({arm.name for arm in variant.arms}) == len(variant.arms)
    assert all(arm.overrides[0].startswith("experiment=") for arm in variant.arms)
    # whatever a check asks for is of an arm, or of a measurement that has no arms
    names = {arm.name for arm in variant.arms} | {"pca"}
    for check in variant.checks if variant.arms else ():
        assert {name.split(".")[0] for name in (check.of, check.less) if name} <= names
        assert check.published is None or check.source


@pytest.mark.parametrize("name", [name for name, found in PROTOCOLS.items() if found.quick.arms])
def test_the_trainings_of_a_protocol_are_configurations(name: str) -> None:
    """The quick ones, which start from the files of the others."""
    overrides = PROTOCOLS[name].quick.arms[-1].overrides
    shape = (1, 8, 8) if "growing" in overrides[0] else (1, 28, 20)
    known = {"num_conditions": 1} if "pbmc3k" in overrides[0] else {}
    config = resolve(compose(overrides), shape, examples=1000, levels=256, **known)
    assert 2 <= config["training"]["epochs"] <= 120


def test_a_protocol_says_what_it_can_claim() -> None:
    for name, found in PROTOCOLS.items():
        assert name == found.name
        assert "](https://" in found.source
        for variant in filter(None, (found.quick, found.full)):
            assert variant.claim
            assert "minute" in variant.time or "hour" in variant.time or "day" in variant.time


@pytest.mark.slow
def test_bounds_of_the_linear_model_hold(tmp_path: Path) -> None:
    """Without the annealing, which takes a minute or two."""
    whole = PROTOCOLS["linear_gaussian"]
    quick = replace(
        whole.quick, measure=lambda runs, say: gaussian.bounds(tmp_path, say), checks=whole.quick.checks[:5]
    )
    outcome = reproduce(replace(whole, quick=quick), output_dir=tmp_path, say=lambda line: None)
    assert [str(row.verdict) for row in outcome.rows] == ["no claim", *["claim holds"] * 4]
    assert read_results(tmp_path / "results")[0]["variant"] == "quick"


def test_a_linear_model_is_what_it_should_be() -> None:
    """With the exact posterior every weight is the evidence."""
    truth = gaussian.orthogonal_pca(6, 3, 0.5)
    x = truth.sample(5)
    log_w = gaussian.linear_gaussian(truth)(x, samples=4).log_w
    torch.testing.assert_close(log_w, truth.evidence(x).expand(4, 5), rtol=1e-10, atol=1e-10)


def test_the_published_table_of_iwae() -> None:
    checks = PROTOCOLS["iwae_table1"].variant(quick=False).checks
    published = {check.of: check.published for check in checks}
    assert [published[arm] for arm in ("vae_1", "vae_5", "vae_50", "iwae_5", "iwae_50")] == [
        86.76,
        86.47,
        86.35,
        85.54,
        84.78,
    ]
    assert published["iwae_50.active"] == 25
    config = resolve(
        compose(PROTOCOLS["iwae_table1"].variant(quick=False).arms[-1].overrides), (1, 28, 28), examples=59_600
    )
    assert (config["training"]["epochs"], config["training"]["batch_size"], config["training"]["samples"]) == (
        3280,
        20,
        50,
    )
    assert (config["optimizer"]["lr"], config["optimizer"]["eps"], config["latent_dim"]) == (1e-3, 1e-4, 50)
    knots = config["schedule"]["schedule"]["knots"]
    assert [at for at, _ in knots] == [0, 1, 4, 13, 40, 121, 364, 1093]
    assert [rate for _, rate in knots] == pytest.approx([10 ** (-i / 7) for i in range(8)], abs=1e-6)


def test_the_list_has_all_that_a_reader_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, found in PROTOCOLS.items():
        assert name in text
        for words in (found.title, found.published, found.quick.time, found.quick.claim):
            assert words in text
    assert "(https://arxiv.org/abs/1509.00519)" in text
    assert "](" not in text
    assert all(len(line) <= 100 for line in listing(PROTOCOLS.values()))


def test_a_wrong_name_is_one_line_with_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "iwae_tabel1"]) == 2
    assert capsys.readouterr().err.startswith("vaekit: there is no protocol 'iwae_tabel1'; closest: iwae_table1")
    assert main(["reproduce"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "vaekit: reproduce what? Write: vaekit reproduce NAME, or vaekit reproduce --list; valid: dreg, "
    )
    assert error.count("\n") == 1
    with pytest.raises(ConfigError, match="closest: dreg"):
        protocol_named("dregs")


def test_data_that_are_not_here_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise DataNotFoundError(
            "data set mnist: missing train.gz.\nSearched: /here, /there.\nPut the files into a folder DIR/mnist and write "
            "--data_path DIR, or set VAEKIT_DATA=DIR.\nThey can be had from: https://example.org.\nCause: no network"
        )

    monkeypatch.setattr(api, "train", missing)
    assert main(["reproduce", "iwae_table1", "--quick", "--output-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error == (
        "vaekit: experiment=iwae_table1_quick needs data that are not here: data set mnist: missing train.gz. Put the files into a "
        "folder DIR/mnist and write --data_path DIR, or set VAEKIT_DATA=DIR. They can be had from: https://example.org.\n"
    )


@pytest.mark.parametrize(
    ("stop", "number"),
    [
        pytest.param(lambda path: Interrupted(15, path), 15, id="while it trains"),
        pytest.param(lambda path: KeyboardInterrupt(15), 15, id="SIGTERM while it measures"),
        pytest.param(lambda path: KeyboardInterrupt(), 2, id="Ctrl-C while it measures"),
    ],
)
def test_a_signal_says_how_to_go_on(
    stop: Any, number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise stop(tmp_path)

    monkeypatch.setattr(api, "train", stopped)
    assert main(["reproduce", "optimal_sigma", "--output-dir", str(tmp_path)]) == 128 + number
    again = f"vaekit reproduce optimal_sigma --output-dir {tmp_path}"
    assert capsys.readouterr().err == f"vaekit: stopped by signal {number}; go on with: {again}\n"


def test_the_command_as_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = replace(protocol().quick, arms=(), measure=lambda runs, say: {}, checks=())
    monkeypatch.setitem(PROTOCOLS, "small", replace(protocol(), quick=empty))
    assert main(["reproduce", "small", "--json", "--output-dir", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "results" / "small-quick.json").read_text("utf-8"))
    assert main(["reproduce", "small", "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "results" / "small-quick.json")


def test_a_result_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("in the way", encoding="utf-8")
    empty = replace(protocol().quick, arms=(), measure=lambda runs, say: {}, checks=())
    with pytest.raises(RunError, match="Cannot write"):
        reproduce(replace(protocol(), quick=empty), output_dir=tmp_path, say=lambda line: None)
