"""A table from the first command to the last: trained, measured, sampled into the same columns, reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vaekit import api
from vaekit.data.adult import read_adult
from vaekit.data.catalog import find_files
from vaekit.data.columns import Columns
from vaekit.data.entries import ENTRIES
from vaekit.errors import ConfigError
from vaekit.evaluation.tables import table_estimates
from vaekit.runs import Run

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

N = 300
SMALL = (
    "model=table_vae",
    "hidden_dim=16",
    "latent_dim=3",
    "training.batch_size=50",
    "training.epochs=3",
    "device=cpu",
)
FEW = ("evaluation.samples=2", "optimizer.lr=0.01")


def frame() -> Any:
    rng = np.random.default_rng(0)
    age = rng.integers(17, 90, N)
    plan = np.where(age + rng.normal(scale=10, size=N) > 50, "=gold", "basic")
    return pd.DataFrame(
        {
            "plan": plan,
            "age": age,
            "spent": np.where(rng.random(N) < 0.2, np.nan, np.round(rng.gamma(2.0, 50.0, N), 2)),
            "city": rng.choice(["Bonn", "Rome", None], N),
            "member": rng.random(N) < 0.5,
            "since": pd.date_range("2015-01-01", periods=N).strftime("%Y-%m-%d"),
        }
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / "shop.csv"
    frame().to_csv(path, index=False)
    return path


def overrides(path: Path) -> tuple[str, ...]:
    return ("data=table", f"data.path={path}", "data.target=plan", "data.log=[spent]", *SMALL, *FEW)


@pytest.fixture(scope="module")
def trained(path: Path) -> Run:
    return api.train(*overrides(path), f"output_dir={path.parent / 'runs'}")


def test_it_learns_and_is_reported(trained: Run) -> None:
    rows = trained.history
    assert rows[-1]["val/elbo"] > rows[0]["val/elbo"]
    figures = {file.name for file in trained.folder.figures.iterdir()}
    assert {"training_losses.png", "reconstructions.png", "generated_samples.png", "latent_space.png"} <= figures
    assert {"smallest_scale", "largest_scale", "elbo"} <= set(trained.metrics)
    assert "bits_per_dim" not in trained.metrics
    page = (trained.path / "report.html").read_text("utf-8")
    assert "diagnosis failed" not in page
    assert "This run is not complete" not in page


def test_the_configuration_and_the_columns_are_written(trained: Run) -> None:
    config = yaml.safe_load((trained.path / "config.yaml").read_text("utf-8"))
    assert config["columns"] == config["likelihood"]["columns"] == [2, 0, -1, 3, 2, 0]
    columns = Columns.from_state(json.loads((trained.path / "columns.json").read_text("utf-8")))
    assert columns.names == list(frame().columns)
    # without the data, the columns of the run read what its model puts out
    values = columns.encode(frame()[columns.names]).numpy()
    assert columns.decode(values)["age"].tolist() == frame()["age"].tolist()


def test_samples_are_rows_of_the_same_table(vaekit: Any, trained: Run, path: Path) -> None:
    said = vaekit("sample", trained.path, "--count", 100, "--seed", 3)
    assert (said.code, said.err) == (0, "")
    written = [Path(line) for line in said.out.splitlines()]
    assert [file.name for file in written] == ["samples.npy", "samples.csv", "samples.parquet", "samples.png"]
    assert all(file.is_file() for file in written)
    assert np.load(written[0]).shape == (100, 11)
    real, made = pd.read_csv(path), pd.read_csv(written[1])
    assert list(made.columns) == list(real.columns)
    assert made.dtypes.equals(real.dtypes)
    assert set(made["plan"]) <= {"'=gold", "basic"}
    assert set(pd.read_parquet(written[1].with_suffix(".parquet"))["plan"]) <= {"=gold", "basic"}
    assert set(made["city"].dropna()) <= {"Bonn", "Rome"}
    assert 0 < made["spent"].isna().sum() < 100
    assert real["age"].min() <= made["age"].min() <= made["age"].max() <= real["age"].max()
    assert made["since"].between("2015-01-01", real["since"].max()).all()
    assert (made["spent"].dropna().round(2) == made["spent"].dropna()).all()
    before = written[1].read_bytes()
    vaekit("sample", trained.path, "--count", 100, "--seed", 3)
    assert written[1].read_bytes() == before
    vaekit("sample", trained.path, "--count", 100, "--seed", 4)
    assert written[1].read_bytes() != before


def test_reconstructions_are_rows_of_the_same_table(vaekit: Any, trained: Run, path: Path) -> None:
    said = vaekit("reconstruct", trained.path, "--split", "train")
    assert (said.code, said.err) == (0, "")
    made = pd.read_parquet(trained.path / "reconstructions_train.parquet")
    assert made.shape == (240, 6)
    assert made.dtypes.drop("city").equals(
        pd.read_csv(path).dtypes.drop("city")
    )  # as a rule of one level only, or missing
    assert pd.read_csv(trained.path / "reconstructions_train.csv").shape == (240, 6)


def test_generation_is_measured_by_what_can_be_learned_from_it(vaekit: Any, trained: Run) -> None:
    said = vaekit("evaluate", trained.path, "--generation", "--count", 200, "--json")
    assert said.code == 0
    found = json.loads(said.out)
    for name in ("tstr_accuracy", "tstr_auc", "trtr_accuracy", "trtr_auc", "majority_accuracy", "marginal_distance"):
        assert 0.0 <= found[name]["value"] <= 1.0
        assert found[name]["standard_error"] > 0.0
    assert found["trtr_accuracy"]["n"] == 30
    assert "tstr_auc" in json.loads((trained.path / "metrics.json").read_text("utf-8"))
    assert "tstr_auc" in (trained.path / "report.html").read_text("utf-8")


def test_a_resumed_training_is_the_same(path: Path, trained: Run, no_pictures: None, tmp_path: Path) -> None:
    from vaekit.training.loop import Callback, Progress

    class Crash(BaseException):
        pass

    class Stop(Callback):
        def step(self, progress: Progress) -> None:
            if progress.step == 8:
                raise Crash

    with pytest.raises(Crash):
        api.train(
            *overrides(path), "training.checkpoint_seconds=0.01", f"output_dir={tmp_path}", progress=lambda say: Stop()
        )
    (stopped,) = [file.parent for file in tmp_path.glob("*/*/config.yaml")]
    done = api.resume(stopped)
    for file in ("model.safetensors", "metrics.jsonl", "columns.json"):
        assert (done.path / file).read_bytes() == (trained.path / file).read_bytes(), file


@pytest.mark.filterwarnings("ignore:.*have levels that no training row has")
def test_two_thousand_rows_of_adult_give_a_thousand_like_them(vaekit: Any, no_pictures: None, tmp_path: Path) -> None:
    """What the whole set does is on the page of the preset; here its columns pass through every command."""
    found = find_files(ENTRIES["adult"], None)[1]
    if found.missing:
        pytest.skip("the files of adult are not on this machine: set VAEKIT_DATA to their folder")
    real = read_adult(found.found)[0].head(2000)
    real.to_csv(tmp_path / "adult.csv", index=False)
    words = ("data=table", f"data.path={tmp_path / 'adult.csv'}", "data.target=income", *SMALL, *FEW)
    run = api.train(*words, "data.log=[capital-gain,capital-loss]", "training.epochs=2", f"output_dir={tmp_path}")
    assert vaekit("sample", run.path, "--count", 1000).code == 0
    metrics = table_estimates(run.model, run.dataset, "test", run.plan, count=400)
    made = pd.read_parquet(run.path / "samples.parquet")
    assert made.shape == (1000, 15)
    assert list(made.columns) == list(real.columns)
    assert made.dtypes.equals(real.dtypes)
    for name in real.columns:
        if real[name].dtype == "int64":
            assert real[name].min() <= made[name].min() <= made[name].max() <= real[name].max()
        else:
            assert set(made[name].dropna()) <= set(real[name].dropna())
            assert real[name].isna().any() or not made[name].isna().any()
    assert metrics["trtr_auc"].value > 0.8
    assert 0.0 <= metrics["tstr_auc"].value <= 1.0
    assert metrics["marginal_distance"].value > metrics["marginal_distance_of_real"].value


def test_other_codes_and_priors_take_tables_too(path: Path, vaekit: Any, no_pictures: None, tmp_path: Path) -> None:
    """A plain autoencoder with a squared error, and its fitted prior: rows come back from it as well."""
    words = [word for word in overrides(path) if word != "model=table_vae"]
    run = api.train(*words, "model=ae", f"output_dir={tmp_path}")
    assert vaekit("sample", run.path, "--count", 10).code == 0
    assert pd.read_csv(run.path / "samples.csv").shape == (10, 6)
    assert vaekit("traverse", run.path).code == 0


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        ("bernoulli", r"likelihoods\.Bernoulli takes the levels of a category.*write likelihood=columns"),
        (
            "continuous_bernoulli",
            r"would be a density of levels of a category.*write likelihood=columns, or model=table_vae",
        ),
        ("normal", r"likelihoods\.Normal would be a density of levels of a category"),
    ],
)
def test_a_likelihood_that_does_not_fit_tables_is_refused(path: Path, likelihood: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        api.train(*overrides(path), f"likelihood={likelihood}", f"output_dir={path.parent / 'never'}")
    assert "\n" not in str(caught.value)
    assert not (path.parent / "never").exists()


def test_the_likelihood_of_tables_is_refused_for_images(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is for tables of numbers and categories"):
        api.train("data=digits", "model=table_vae", f"output_dir={tmp_path}")


def test_a_column_that_cannot_be_modelled_gets_one_line(vaekit: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,x\n" + "\n".join(f"row {k},{k}" for k in range(1500)) + "\n")
    said = vaekit("train", "data=table", f"data.path={path}", *SMALL, f"output_dir={tmp_path}")
    assert said.code != 0
    assert "column 'id' has 1,500 levels" in said.err
    assert "data.drop=[id]" in said.err
    assert len(said.err.strip().splitlines()) == 1
