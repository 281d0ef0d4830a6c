"""`vaekit compare` from runs to table, page and pictures."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from vaekit import runs
from vaekit.comparison import measure
from vaekit.comparison.measure import NUMBERS, POINTS
from vaekit.evaluation.passes import encodings

CELLS = [
    "hidden_dim=8", "latent_dim=2", "training.batch_size=40", "training.epochs=2", "evaluation.samples=2", "device=cpu",
    "data=cells", "data.labels=kind", "data.batch=donor", "data.ood=state=ill",
]  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def digits(
    run: Path, vaekit: Any, without_pictures: Any, tiny: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Three finished runs on the built-in data, and one that was stopped."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(run, folder / "digits-mlp" / "first")
    shutil.copytree(run, folder / "digits-mlp" / "same")
    with without_pictures():
        said = vaekit("train", *tiny, "latent_dim=3", "seed=7", "--output-dir", folder)
    assert said.code == 0, said.err
    stopped = Path(shutil.copytree(run, folder / "digits-mlp" / "stopped"))
    (stopped / "model.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def cells(vaekit: Any, without_pictures: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of counts and one of their logarithms, on 160 cells of two kinds and two donors, some of them ill."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    kind, donor, ill = rng.integers(2, size=160), rng.integers(2, size=160), np.arange(160) % 4 == 0
    rate = np.exp(rng.normal(size=(2, 20)))[kind] * rng.gamma(5.0, 1.0, size=(160, 1))
    counts = rng.poisson(rate + ill[:, None] * 5.0) + 1 * (np.arange(20) == 0)
    matrix = sparse.csr_matrix(counts.astype(np.float32))
    np.savez(
        folder / "cells.npz", data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, shape=matrix.shape, format=b"csr",
        kind=np.array(["B cell", "=T cell"])[kind], donor=np.array(["d1", "d2"])[donor], state=np.where(ill, "ill", "well"),
        depth=counts.sum(1).astype(np.float64), index=np.array([f"cell {number}" for number in range(160)]),
    )  # fmt: skip
    for wishes in (["model=scvi"], ["expression=log1p", "likelihood=normal_optimal"]):
        with without_pictures():
            said = vaekit(
                "train", *CELLS, *wishes, f"data.path={folder / 'cells.npz'}", "--output-dir", folder / "runs"
            )
        assert said.code == 0, said.err
    return folder / "runs"


def test_runs_become_a_table_a_page_and_pictures(digits: Path, vaekit: Any, tmp_path: Path) -> None:
    said = vaekit("compare", digits, "--out", tmp_path / "out", "--device", "cpu")
    assert said.code == 0, said.err
    assert said.last == str(tmp_path / "out" / "comparison.html")
    rows = read(tmp_path / "out" / "comparison.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    scores = [float(row["validation/elbo"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    by_run = {row["run"]: row for row in rows}
    own = {name: row for name, row in by_run.items() if name not in ("first", "same")}
    assert [(row["latent_dim"], row["seed"]) for row in own.values()] == [("3", "7")]
    # the same weights have the same numbers
    assert {k: v for k, v in by_run["first"].items() if k not in ("run", "rank")} == {
        k: v for k, v in by_run["same"].items() if k not in ("run", "rank")
    }
    metrics = json.loads((digits / "digits-mlp" / "first" / "metrics.json").read_text())
    assert float(by_run["first"]["test/elbo"]) == metrics["elbo"]["value"]
    assert float(by_run["first"]["test/elbo_se"]) == metrics["elbo"]["standard_error"]
    assert "test/psnr" in rows[0]
    assert "test/knn_accuracy" in rows[0]
    assert sorted(path.name for path in (tmp_path / "out" / "figures").iterdir()) == [
        "latent_map.png",
        "rate_distortion.png",
    ]
    assert "Left out: " in said.out
    assert "stopped: not finished; vaekit resume goes on with it" in said.out
    page = (tmp_path / "out" / "comparison.html").read_text("utf-8")
    assert "3 runs compared" in page
    assert "not finished" in page
    assert "it takes 8 or more" in page


def test_a_second_time_nothing_is_measured_and_all_is_the_same(
    digits: Path, vaekit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = vaekit("compare", digits, "--out", tmp_path / "a", "--device", "cpu")
    module = sys.modules["vaekit.comparison.compare"]
    monkeypatch.setattr(module, "open_data", lambda node: pytest.fail("the data were opened"))
    second = vaekit("compare", digits, "--out", tmp_path / "b", "--device", "cpu")
    assert (first.code, second.code) == (0, 0), second.err
    assert "Measuring" not in second.out
    for name in ("comparison.csv", "comparison.html", "figures/latent_map.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_numbers_are_measured_anew_for_other_weights_and_damaged_ones(digits: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(digits / "digits-mlp" / "first", tmp_path / "run"))
    run = runs.open_run(path, "cpu")
    before = measure(run)
    kept = sys.modules["vaekit.comparison.measure"].kept
    assert kept(run) is not None
    for content in ("{", "[]", '{"made_from": 3}', json.dumps({"made_from": {}, "numbers": {}})):
        (path / NUMBERS).write_text(content)
        assert kept(runs.open_run(path, "cpu")) is None
    again = measure(runs.open_run(path, "cpu"))
    assert again.numbers["validation"] == before.numbers["validation"]
    (path / POINTS).write_bytes(b"PK\x03\x04")
    assert kept(runs.open_run(path, "cpu")) is None
    measure(runs.open_run(path, "cpu"))
    weights = run.folder.model()
    run.folder.write_model({name: 2 * value if value.is_floating_point() else value for name, value in weights.items()})
    assert kept(runs.open_run(path, "cpu")) is None


def test_counts_and_their_logarithms_stand_in_one_table_with_what_does_not_compare_marked(
    cells: Path, vaekit: Any, tmp_path: Path
) -> None:
    said = vaekit("compare", cells, "--out", tmp_path, "--color", "depth", "--device", "cpu")
    assert said.code == 0, said.err
    rows = read(tmp_path / "comparison.csv")
    assert len({row["data"] for row in rows}) == 1
    for split in ("test", "ood"):
        for name in ("mse", "pearson_cell", "pearson_gene_mean", "counts_nll", "kl", "active_units", "knn_accuracy"):
            assert all(math.isfinite(float(row[f"{split}/{name}"])) for row in rows), name
            assert all(float(row[f"{split}/{name}_se"]) >= 0 for row in rows), name
        assert all(-0.5 < float(row[f"{split}/batch_mixing"]) < 1.5 for row in rows)
    # by what compares, although it is of test data, and the page says so
    page = (tmp_path / "comparison.html").read_text("utf-8")
    assert "by the NLL of counts on test data" in said.out
    assert "looks better there than it is" in page
    assert float(rows[0]["test/counts_nll"]) <= float(rows[1]["test/counts_nll"])
    assert "ELBO, Reconstruction: of densities and of probabilities" in page
    assert "NLL of counts †" not in page
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "features.png", "latent_map.png", "rate_distortion.png",
    ]  # fmt: skip
    assert "coloured by depth" in page


def test_a_count_models_likelihood_of_counts_is_its_own(cells: Path) -> None:
    (path,) = [p.parent for p in cells.rglob("config.yaml") if "scvi" in str(p)]
    found = measure(runs.open_run(path, "cpu"))
    for split in ("test", "ood"):
        numbers = found.numbers[split]
        assert numbers["counts_nll"].value == numbers["reconstruction"].value
        assert "NegativeBinomial" in numbers["counts_nll"].estimator
    run = runs.open_run(path, "cpu")
    view, split_ = found.views["ood"], run.dataset.split("ood")
    torch.testing.assert_close(torch.tensor(view.latents), encodings(run.model, split_, run.plan)[0])
    assert view.column("state")[0].tolist() == ["ill"] * len(split_)  # type: ignore[union-attr]
    assert view.statistics is not None
    counts = split_.batch(torch.arange(len(split_))).x
    np.testing.assert_allclose(view.statistics[0, 0], counts.mean(0), rtol=1e-5)
    np.testing.assert_allclose(view.statistics[0, 2], (counts == 0).float().mean(0), atol=1e-6)


def test_mistakes_are_one_line_before_anything_is_written(
    digits: Path, cells: Path, vaekit: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    cases = {
        ("compare", tmp_path / "empty"): (1, "No finished run in"),
        ("compare", tmp_path / "nowhere"): (1, "is no folder"),
        ("compare", digits, "--map", "tsne"): (2, "expected pca or umap"),
        ("compare", cells, "--color", "donr"): (2, "closest: donor"),
        ("compare", digits, "--by", "test/mze"): (2, "closest: test/mse"),
        ("compare", digits, "--by", "test/kl"): (2, "neither better nor worse"),
        ("compare", digits, "--by", "mse"): (2, "there is no such number"),
        ("compare",): (2, "the following arguments are required: DIR"),
    }
    for arguments, (code, words) in cases.items():
        said = vaekit(*arguments, *([] if len(arguments) == 1 else ["--out", out, "--device", "cpu"]))
        assert said.code == code, arguments
        assert words in said.err
        assert len(said.err.strip().splitlines()) == 1
    assert not out.exists()


def test_a_wrong_order_is_refused_before_anything_is_measured(digits: Path, vaekit: Any, tmp_path: Path) -> None:
    fresh = Path(shutil.copytree(digits / "digits-mlp" / "first", tmp_path / "runs" / "first"))
    (fresh / NUMBERS).unlink(missing_ok=True)
    said = vaekit("compare", tmp_path / "runs", "--by", "test/mze", "--device", "cpu")
    assert (said.code, "Measuring" in said.out) == (2, False)


def test_codes_carry_the_names_of_their_cells(cells: Path, vaekit: Any) -> None:
    path = next(cells.glob("*/*/config.yaml")).parent
    assert vaekit("encode", path, "--output", path / "codes.npz", "--device", "cpu").code == 0
    codes = np.load(path / "codes.npz", allow_pickle=False)
    assert list(codes["names"]) == list(runs.Run(path).dataset.test.annotations["index"])
    assert len(set(codes["names"])) == len(codes["mean"]) == 12


def test_umap_is_asked_for_by_name_where_it_is_missing(
    digits: Path, vaekit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = vaekit("compare", digits, "--map", "umap")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "pip install umap-learn" in said.err


def test_a_run_that_cannot_be_measured_is_left_out_with_its_reason(digits: Path, vaekit: Any, tmp_path: Path) -> None:
    shutil.copytree(digits / "digits-mlp" / "first", tmp_path / "runs" / "good")
    bad = Path(shutil.copytree(digits / "digits-mlp" / "first", tmp_path / "runs" / "bad"))
    (bad / "model.safetensors").write_bytes(b"nothing")
    for name in (NUMBERS, POINTS):
        (bad / name).unlink(missing_ok=True)
    said = vaekit("compare", tmp_path / "runs", "--device", "cpu")
    assert said.code == 0, said.err
    assert "bad: " in said.out
    assert "is damaged" in said.out
    assert [row["rank"] for row in read(tmp_path / "runs" / "comparison" / "comparison.csv")] == ["1"]
    (tmp_path / "runs" / "good" / "model.safetensors").write_bytes(b"nothing")
    (tmp_path / "runs" / "good" / NUMBERS).unlink()
    failed = vaekit("compare", tmp_path / "runs", "--device", "cpu")
    assert (failed.code, failed.err.count("\n")) == (1, 1)
    assert "None of 2 runs can be compared" in failed.err


def test_runs_that_cannot_be_written_to_are_measured_all_the_same(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(digits / "digits-mlp" / "first", tmp_path / "run"))
    for name in (NUMBERS, POINTS):
        (path / name).unlink(missing_ok=True)

    def refused(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sys.modules["vaekit.comparison.measure"], "write_atomically", refused)
    assert measure(runs.open_run(path, "cpu")).numbers["test"]["mse"].value > 0
    assert not (path / NUMBERS).exists()
