"""Other data under a model: read with the settings of the run's own, so that the same values come out of the same file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaekit import api, measurements, runs
from vaekit.errors import ConfigError
from vaekit.evaluation import Plan
from vaekit.other_data import open_other, whole

COMMON = ("latent_dim=2", "hidden_dim=8", "training.epochs=1", "evaluation.samples=2", "device=cpu")


@pytest.fixture(scope="module", autouse=True)
def _light() -> Any:
    """No pictures."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for picture in ("draw_gallery", "write_page", "animate"):
            patch.setattr(api, picture, lambda *_: None)
        yield
    torch.set_num_threads(threads)


def train(folder: Path, *overrides: str) -> runs.Run:
    return runs.Run(api.train(*COMMON, f"output_dir={folder}", *overrides).path)


@pytest.mark.parametrize("expression", ["counts", pytest.param("standardised", marks=pytest.mark.slow)])
def test_cells_are_expressed_by_what_was_fitted_to_the_runs_own(
    expression: str, cells_file: Path, tmp_path: Path
) -> None:
    how = ("model=scvi",) if expression == "counts" else ("likelihood=normal", f"expression={expression}")
    run = train(tmp_path, "data=cells", f"data.path={cells_file}", *how)
    other = open_other(run, str(cells_file))
    own, found = run.dataset, other.split
    assert len(found) == sum(len(part) for part in own.splits)
    index = torch.arange(len(found))
    expected = torch.cat([part.batch(torch.arange(len(part))).x for part in own.splits])
    torch.testing.assert_close(found.batch(index).x, expected)
    conditions = torch.cat([part.conditions for part in own.splits if part.conditions is not None])
    torch.testing.assert_close(found.conditions, conditions)
    first = measurements.bounds(measurements.open_subject(run), (3,))["iwae_3"]
    same = measurements.bounds(measurements.open_subject(run, given=str(cells_file), part="test"), (3,))["iwae_3"]
    assert same.value == pytest.approx(first.value, rel=1e-6)
    # half of the cells, whose own means and medians are others: each cell is seen as before
    table = dict(np.load(cells_file, allow_pickle=False))
    kept = int(table["indptr"][150])
    half = {**table, "data": table["data"][:kept], "indices": table["indices"][:kept], "indptr": table["indptr"][:151],
            "shape": np.array([150, 40]), "kind": table["kind"][:150], "plate": table["plate"][:150]}  # fmt: skip
    np.savez(tmp_path / "half.npz", **half)
    part = open_other(run, str(tmp_path / "half.npz")).split
    named = replace(run.dataset, feature_names=(*run.dataset.feature_names[:-1], "another"))
    with pytest.raises(ConfigError, match=r"other features than the run's data, '.*' among them"):
        open_other(run.on(named), str(cells_file))
    rows = {tuple(row) for row in expected.numpy().round(3).tolist()}
    assert all(tuple(row) in rows for row in part.batch(torch.arange(len(part))).x.numpy().round(3).tolist())


def test_a_table_is_coded_by_the_means_and_levels_of_the_runs_own(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.integers(17, 90, 200), "city": rng.choice(["Bonn", "Rome"], 200)})
    frame.to_csv(tmp_path / "own.csv", index=False)
    frame[:50].to_csv(tmp_path / "few.csv", index=False)
    frame[["age"]].to_csv(tmp_path / "lacking.csv", index=False)
    run = train(tmp_path, "model=table_vae", "data=table", f"data.path={tmp_path / 'own.csv'}")
    all_, few = (open_other(run, str(tmp_path / name)).split for name in ("own.csv", "few.csv"))
    assert len(few) == 50
    torch.testing.assert_close(few.batch(torch.arange(50)).x, all_.batch(torch.arange(50)).x)
    numbers = measurements.quick(measurements.open_subject(run, given=str(tmp_path / "few.csv")))
    assert numbers["elbo"].n == 50
    subject = measurements.open_subject(run, given=str(tmp_path / "few.csv"), examples=20)
    assert measurements.bounds(subject, (2,))["iwae_2"].n == 20
    with pytest.raises(ConfigError, match="city"):
        open_other(run, str(tmp_path / "lacking.csv"))


@pytest.mark.slow
def test_a_conditional_model_is_told_the_classes_of_the_other_data(tmp_path: Path) -> None:
    run = train(tmp_path, "model=cvae")
    x = np.random.default_rng(0).integers(0, 17, (40, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "told.npz", x=x, labels=np.arange(40) % 10)
    np.savez(tmp_path / "untold.npz", x=x)
    subject = measurements.open_subject(run, Plan(samples=2), given=str(tmp_path / "told.npz"))
    assert measurements.bounds(subject, (2,))["iwae_2"].n == 40
    with pytest.raises(ConfigError, match=r"conditional on 10 classes, and .*untold\.npz has no labels"):
        open_other(run, str(tmp_path / "untold.npz"))


def test_a_file_may_say_which_part_is_which(tmp_path: Path) -> None:
    run = train(tmp_path)
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "parts.npz",
        **{f"x_{n}": rng.random((k, 8, 8), np.float32) for n, k in (("train", 30), ("test", 12))},
    )
    path = str(tmp_path / "parts.npz")
    assert len(open_other(run, path).split) == 42
    assert len(open_other(run, path, "test").split) == 12
    assert len(whole(open_other(run, path).dataset)) == 42
    with pytest.raises(ConfigError, match="expected one of train, validation, test, all"):
        open_other(run, path, "ood")


def test_grey_values_are_refused_by_a_model_of_binary_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "binary.npy", rng.integers(0, 2, (60, 8, 8)).astype(np.uint8))
    np.save(tmp_path / "grey.npy", rng.random((60, 8, 8)))
    run = train(tmp_path, "data=array", f"data.path={tmp_path / 'binary.npy'}", "likelihood=bernoulli")
    assert len(open_other(run, str(tmp_path / "binary.npy")).split) == 60
    with pytest.raises(ConfigError, match="has seen 0 and 1 only"):
        open_other(run, str(tmp_path / "grey.npy"))
