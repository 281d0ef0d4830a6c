"""`vaekit evaluate` with its longer numbers: kept, resumed, the same for any batch size, on other data, and refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaekit import measurements, runs
from vaekit.cli import measuring
from vaekit.evaluation import each


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to write into."""
    return Path(shutil.copytree(run, tmp_path / "a run"))


def numbers(said: Any) -> Any:
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_bounds_are_printed_recorded_and_on_the_page(copy: Path, vaekit: Any) -> None:
    before = json.loads((copy / "metrics.json").read_text())
    said = vaekit("evaluate", copy, "--bounds", "1,4,20")
    assert said.code == 0, said.err
    assert said.err == ""
    assert "On 180 test examples" in said.out
    assert "iwae_20: log of the mean of K = 20 importance weights; a lower bound" in said.out
    after = json.loads((copy / "metrics.json").read_text())
    bounds = {"iwae_1", "iwae_4", "iwae_20", "ess_4", "ess_20", "bits_per_dim_iwae_20"}
    assert set(after) == {*before, *bounds} - {"iwae_2"}
    assert after["iwae_1"]["value"] < after["iwae_4"]["value"] < after["iwae_20"]["value"]
    assert "5 disjoint groups" in after["iwae_4"]["estimator"]
    bits = -after["iwae_20"]["value"] / (64 * np.log(2))
    assert after["bits_per_dim_iwae_20"]["value"] == pytest.approx(bits, rel=1e-12)
    page = (copy / "report.html").read_text("utf-8")
    assert all(f">{name}<" in page for name in bounds)
    # a later evaluation leaves them in place, and adds no bound of its own to the set
    assert vaekit("evaluate", copy).code == 0
    assert json.loads((copy / "metrics.json").read_text()) == after
    # others take their place
    assert vaekit("evaluate", copy, "--bounds", "3").code == 0
    last = json.loads((copy / "metrics.json").read_text())
    assert {name for name in last if runs.is_bound(name)} == {"iwae_3", "ess_3", "bits_per_dim_iwae_3"}


def test_the_elbo_lies_below_the_bounds_of_the_same_model(copy: Path, vaekit: Any) -> None:
    found = numbers(vaekit("evaluate", copy, "--json", "--bounds", "1,50", "evaluation.samples=50"))
    assert found["elbo"]["value"] < found["iwae_50"]["value"]
    assert abs(found["elbo"]["value"] - found["iwae_1"]["value"]) < 4 * found["iwae_1"]["standard_error"] / 180**0.5 * 5


# the measurements that are alike at every step are here; those of chains and of scores have tests of their own
LONGER = ("--bounds", "1,12", "--rate-split", "--gaps", "--examples", 9)


@pytest.mark.parametrize(
    ("precision", "tolerance", "flags"),
    [
        pytest.param("float32", 1e-5, ("--bounds", "1,12", "--examples", 101), marks=pytest.mark.slow),
        ("float64", 1e-10, ("--bounds", "1,12", "--examples", 101)),
        pytest.param("float32", 1e-5, LONGER, marks=pytest.mark.slow),
        pytest.param("float64", 1e-10, LONGER, marks=pytest.mark.slow),
    ],
)
def test_no_number_depends_on_the_batch_size(
    precision: str, tolerance: float, flags: tuple[Any, ...], copy: Path, vaekit: Any
) -> None:
    def at(size: int) -> Any:
        shutil.rmtree(copy / "evaluation", ignore_errors=True)
        how = ("--json", "--precision", precision, f"evaluation.batch_size={size}")
        return numbers(vaekit("evaluate", copy, *flags, *how))

    first, *others = (at(size) for size in (101, 1, 7, 100))
    assert {"amortisation_gap", "total_correlation"} <= set(first) or flags != LONGER
    for found in others:
        assert found.keys() == first.keys()
        for name, entry in first.items():
            scale = max(1.0, abs(entry["value"]))
            assert abs(found[name]["value"] - entry["value"]) < tolerance * scale, name
            assert abs(found[name]["standard_error"] - entry["standard_error"]) < 10 * tolerance * scale, name


def test_float64_gives_the_numbers_of_float32_but_for_its_rounding(copy: Path, vaekit: Any) -> None:
    single, double = (
        numbers(vaekit("evaluate", copy, "--json", "--bounds", "6", "--precision", p)) for p in ("float32", "float64")
    )
    assert single != double
    for name, entry in single.items():
        assert double[name]["value"] == pytest.approx(entry["value"], rel=1e-4), name


def test_the_first_examples_are_those_of_the_whole_split(copy: Path, vaekit: Any, monkeypatch: Any) -> None:
    seen: dict[str, Any] = {}
    whole = each.each

    def spied(*args: Any, **kwargs: Any) -> Any:
        columns = whole(*args, **kwargs)
        seen[str(len(seen))] = columns
        return columns

    monkeypatch.setattr("vaekit.evaluation.evidence.each", spied)
    assert vaekit("evaluate", copy, "--bounds", "5").code == 0
    recorded = json.loads((copy / "metrics.json").read_text())
    said = vaekit("evaluate", copy, "--bounds", "5", "--examples", "30")
    assert "On the first 30 test examples" in said.out
    assert "; the first 30 test examples\n" in said.out
    torch.testing.assert_close(seen["1"]["iwae_5"], seen["0"]["iwae_5"][:30])
    # numbers of fewer examples do not take the place of those of more
    assert json.loads((copy / "metrics.json").read_text()) == recorded
    assert vaekit("evaluate", copy, "--bounds", "5", "--examples", "999").code == 0
    assert json.loads((copy / "metrics.json").read_text()) == recorded
    # as many as there are is all of them
    assert vaekit("evaluate", copy, "--examples", "999", "evaluation.seed=7").code == 0
    assert json.loads((copy / "metrics.json").read_text())["elbo"] != recorded["elbo"]


def test_a_part_is_recorded_where_there_is_nothing_better(copy: Path, vaekit: Any) -> None:
    assert vaekit("evaluate", copy, "--bounds", "5", "--examples", "30").code == 0
    after = json.loads((copy / "metrics.json").read_text())
    assert after["iwae_5"]["n"] == 30
    assert after["elbo"]["n"] == 180


def test_other_data_are_measured_and_not_recorded(copy: Path, vaekit: Any, tmp_path: Path) -> None:
    before = (copy / "metrics.json").read_bytes()
    same = vaekit("evaluate", copy, "--data", "digits", "--json", "--bounds", "3")
    assert numbers(same)["elbo"]["value"] == pytest.approx(json.loads(before)["elbo"]["value"], rel=1e-12)
    from sklearn.datasets import load_digits

    images = load_digits().images
    np.save(tmp_path / "bytes.npy", images[:50].astype(np.uint8))
    np.save(tmp_path / "shares.npy", (images[:50] / 16).astype(np.float32))
    said = vaekit("evaluate", copy, "--data", tmp_path / "bytes.npy")
    assert f"On 50 examples of {tmp_path / 'bytes.npy'}" in said.out
    flags = ("--json", "--bounds", "3", "--data")
    by_bytes, by_shares = (
        numbers(vaekit("evaluate", copy, *flags, tmp_path / f"{name}.npy")) for name in ("bytes", "shares")
    )
    assert by_bytes["elbo"]["n"] == 50
    assert by_bytes["iwae_3"]["value"] == pytest.approx(by_shares["iwae_3"]["value"], rel=1e-12)
    part = numbers(vaekit("evaluate", copy, "--json", "--data", tmp_path / "bytes.npy", "--split", "train"))
    assert part["elbo"]["n"] == 40
    assert (copy / "metrics.json").read_bytes() == before


MISTAKES: dict[str, tuple[str, str]] = {
    "words for draws": ("--bounds few", "--bounds is 'few', expected numbers of draws, such as --bounds 1,50,5000"),
    "no draws": ("--bounds 0", "expected numbers from 1 to 1,000,000"),
    "too many draws": ("--bounds 10000000", "expected numbers from 1 to 1,000,000"),
    "half a list": ("--bounds 1,,2", "expected numbers of draws"),
    "no examples": ("--examples 0", "--examples is 0, expected 1 or more"),
    "examples in words": ("--examples many", "argument --examples: invalid int value: 'many'"),
    "split": ("--split tset", "--split is 'tset', expected one of train, validation, test"),
    "all of the run's own": ("--split all", "expected one of train, validation, test"),
    "data": ("--data mnits", "'mnits' is no file, and no data set of the catalogue; closest: mnist"),
    "part of other data": ("--data digits --split ood", "expected one of train, validation, test, all"),
    "shape": ("--data {small}", "has examples of shape (1, 4, 4), and the model of"),
    "grey": ("--data {outside}", "[0, 1]"),
    "damaged": ("--data {damaged}", "damaged.npy"),
    "chains of nothing": ("--chains 3", "add --ais"),
    "no chains": ("--ais --chains 0", "--chains is 0, expected 1 or more"),
    "no steps": ("--all --steps -1", "--steps is -1, expected 1 or more"),
    "background of nothing": ("--background somewhere", "add --ood"),
    "others of others": ("--data digits --ood digits", "leave out --data"),
    "others that were not set aside": (
        "--ood ood",
        "--ood ood is for the examples that data.ood has set aside, and this run",
    ),
    "others of another shape": ("--ood {small}", "has examples of shape (1, 4, 4)"),
    "precision": ("--precision half", "invalid choice: 'half' (choose from"),
    "unknown flag": ("--bound 3", "unrecognized arguments: --bound 3"),
}


@pytest.mark.parametrize(("flags", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_get_one_line(flags: str, said: str, run: Path, vaekit: Any, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.npy" for name in ("small", "outside", "damaged")}
    np.save(files["small"], np.zeros((20, 4, 4), np.uint8))
    np.save(files["outside"], np.random.default_rng(0).normal(size=(20, 8, 8)))
    files["damaged"].write_bytes(b"\x93NUMPY nothing")
    before = (run / "metrics.json").read_bytes()
    found = vaekit("evaluate", run, *flags.format(**files).split())
    assert found.code == 2, found.err
    assert found.err.startswith("vaekit: ")
    assert said in found.err
    assert found.err.count("\n") == 1
    assert found.out == ""
    assert (run / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_stopped_and_called_again_ends_with_the_same_numbers(
    number: signal.Signals, copy: Path, forked: Callable[..., int], vaekit: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    other = Path(shutil.copytree(copy, tmp_path / "undisturbed"))
    flags = ("--bounds", "2,30", "evaluation.batch_size=9")
    assert vaekit("evaluate", other, *flags).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(each, "_SECONDS_BETWEEN_WRITES", 0.0)
        patch.setattr("vaekit.evaluation.evidence.effective_sample_size", _slowly)
        process = forked("evaluate", copy, *flags, out=tmp_path / "out")
        end = time.monotonic() + 60
        while not list(copy.glob("evaluation/bounds-*.safetensors")):
            assert time.monotonic() < end
            time.sleep(0.005)
        os.kill(process, number)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    said = (tmp_path / "out").read_text()
    if number == signal.SIGKILL:
        assert status == -signal.SIGKILL
    else:
        assert status == 128 + number
        again = f"vaekit evaluate '{copy}' --bounds 2,30 evaluation.batch_size=9"
        assert said == f"vaekit: stopped by signal {number:d}; what is done is kept, go on with: {again}\n"
    found = vaekit("evaluate", copy, *flags)
    assert found.code == 0
    assert "iwae_30" in found.out
    assert (copy / "metrics.json").read_bytes() == (other / "metrics.json").read_bytes()
    assert not list(copy.glob("evaluation/.*"))


def _slowly(log_w: torch.Tensor) -> torch.Tensor:
    from vaekit.math.importance import effective_sample_size

    time.sleep(0.01)
    return effective_sample_size(log_w)


def test_what_was_measured_is_not_measured_again(copy: Path, vaekit: Any, monkeypatch: Any) -> None:
    first = vaekit("evaluate", copy, "--bounds", "5", "--json")

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("vaekit.evaluation.evidence._Weigh.__call__", never)
    assert vaekit("evaluate", copy, "--bounds", "5", "--json").out == first.out
    # the file of other weights, seeds, precisions or examples is another
    for flags in (("evaluation.seed=3",), ("--examples", 9)):
        assert vaekit("evaluate", copy, "--bounds", "5", *flags).code == 1
    assert len(list((copy / "evaluation").iterdir())) == 1


def test_data_are_hashed_once_and_only_when_something_is_kept(run: Path, monkeypatch: Any) -> None:
    from vaekit.data import Dataset

    count: list[int] = []
    fingerprint = Dataset.fingerprint
    monkeypatch.setattr(Dataset, "fingerprint", lambda self: count.append(1) or fingerprint(self))
    subject = measurements.open_subject(runs.open_run(run, "cpu"), examples=10)
    measurements.quick(subject)
    assert not count
    first, second = (subject.keep("a", {"k": k}).path for k in (1, 2))
    assert first != second
    assert len(count) == 1


def test_progress_is_said_in_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(measuring.time, "monotonic", lambda: clock[0])
    tell = measuring.Lines("bounds")
    tell(500, 10_000)
    for done in range(600, 10_001, 100):
        clock[0] += 0.4
        tell(done, 10_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "vaekit: bounds: going on after 500 of 10,000 examples, which were kept",
        "vaekit: bounds: 3,000 of 10,000 examples, 28 s left",
    ]
    assert len(lines) == 1 + 3
    quick = measuring.Lines("bounds")
    quick(0, 10)
    quick(10, 10)
    assert capsys.readouterr().err == ""


def test_the_rate_split_brings_the_spectrum_with_it(copy: Path, vaekit: Any) -> None:
    said = vaekit("evaluate", copy, "--rate-split")
    assert said.code == 0, said.err
    found = json.loads((copy / "metrics.json").read_text())
    parts = [found[name]["value"] for name in ("mutual_information", "total_correlation", "dimension_kl")]
    assert sum(parts) == pytest.approx(found["kl_drawn"]["value"], abs=1e-5)
    rows = json.loads((copy / "spectrum.json").read_text())["dimensions"]
    assert sum(row["active"] for row in rows) == found["active_units"]["value"]
    assert (copy / "figures" / "latent_spectrum.png").exists()
    (copy / "spectrum.json").unlink()
    assert vaekit("evaluate", copy, "--rate-split", "--split", "validation").code == 0
    assert not (copy / "spectrum.json").exists()


def test_other_data_are_told_apart(copy: Path, vaekit: Any, tmp_path: Path) -> None:
    noise = tmp_path / "noise.npy"
    np.save(noise, np.random.default_rng(0).integers(0, 17, (30, 8, 8)).astype(np.uint8))
    said = vaekit("evaluate", copy, "--ood", noise, "--examples", "6", "--background", copy)
    assert said.code == 0, said.err
    found = json.loads((copy / "metrics.json").read_text())
    assert found["ood_likelihood_ratio_auroc"]["value"] == 0.5  # of a model to itself
    assert "6 in, 6 out" in found["ood_negative_bound_auroc"]["estimator"]
    (file,) = copy.glob("evaluation/ood_*.csv")
    assert f"scores {file}" in said.err


def test_what_a_model_cannot_have_is_left_out_of_all_and_a_mistake_by_its_name(
    copy: Path, vaekit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaekit.errors import ConfigError
    from vaekit.evaluation import Estimate

    def refused(*_: Any, **__: Any) -> Any:
        raise ConfigError("codes have no gradient")

    asked: dict[str, Any] = {}
    monkeypatch.setattr(measurements, "annealed", lambda subject, tell, **given: asked.update(given) or refused())
    monkeypatch.setattr(measurements, "bracketed", refused)
    for name in ("rate_split", "gaps", "overfitting"):
        number = {f"of_{name}": Estimate(1.0, 0.1, "nats", 180, name)}
        monkeypatch.setattr(measurements, name, lambda subject, tell, number=number: number)
    said = vaekit("evaluate", copy, "--all", "--bounds", "2", "--chains", "7")
    assert said.code == 0
    assert asked == {"chains": 7}
    lines = ["vaekit: ais: codes have no gradient", "vaekit: ais of simulated data: codes have no gradient"]
    assert said.err.splitlines() == lines
    assert {"iwae_2", "of_rate_split", "of_gaps"} <= set(json.loads((copy / "metrics.json").read_text()))
    by_name = vaekit("evaluate", copy, "--gaps", "--ais")
    assert by_name.code == 2
    assert by_name.err.splitlines() == lines
    assert "of_gaps" in by_name.out
