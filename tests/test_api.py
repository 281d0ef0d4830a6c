"""The front door, from Python."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import vaekit
from vaekit import api, runs
from vaekit.errors import ConfigError, RunError
from vaekit.evaluation import Plan, bound_terms
from vaekit.evaluation.passes import batches
from vaekit.recipe import VALIDATION_SEED

SOURCE = Path(__file__).parents[1] / "src"
TINY = (
    "hidden_dim=8",
    "latent_dim=2",
    "training.batch_size=400",
    "training.epochs=3",
    "evaluation.samples=2",
    "device=cpu",
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    return vaekit.train(*TINY, f"output_dir={tmp_path_factory.mktemp('runs')}")


@pytest.fixture
def quick(tmp_path: Path, no_pictures: None) -> Any:
    """Train without pictures."""
    return lambda *overrides, **settings: vaekit.train(*TINY, f"output_dir={tmp_path}", *overrides, **settings)


def test_a_run_agrees_with_its_files(run: api.Run) -> None:
    assert run.history == [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    assert [row["step"] for row in run.history] == [4, 8, 12]
    assert {name: estimate.as_dict() for name, estimate in run.metrics.items()} == json.loads(
        (run.path / "metrics.json").read_text()
    )
    again = runs.open_run(run.path, "cpu")
    assert again.config == run.config
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, run.model.state_dict()[name])
    assert not run.model.training


def test_the_folder_has_what_the_design_says(run: api.Run) -> None:
    files = {"config.yaml", "environment.json", "train.log", "metrics.jsonl", "model.safetensors", "checkpoints",
             "metrics.json", "symptoms.json", "figures", "frames", "report.html"}  # fmt: skip
    assert {path.name for path in run.path.iterdir()} == files
    assert {path.suffix for path in run.path.rglob("*") if path.is_file()} == {
        ".yaml", ".json", ".log", ".jsonl", ".safetensors", ".png", ".html", ".gif"
    }  # fmt: skip
    rows = run.history
    assert {"train/loss", "train/recon_loss", "train/kl_loss", "train/elbo", "val/loss", "val/elbo"} <= set(rows[0])
    assert set(run.metrics["elbo"].as_dict()) == {"value", "standard_error", "unit", "n", "estimator"}


def test_the_configuration_is_plain_and_whole(run: api.Run) -> None:
    text = (run.path / "config.yaml").read_text()
    assert "${" not in text
    assert "!!" not in text
    config = yaml.safe_load(text)
    assert config["training"]["keep_checkpoints"] == 2  # a default that no YAML of ours mentions
    assert config["event_shape"] == [1, 8, 8]
    assert config["seed"] == 42


def test_the_environment_knows_no_user(run: api.Run) -> None:
    environment = json.loads((run.path / "environment.json").read_text())
    assert {"command", "started", "finished", "seconds", "vaekit", "python", "torch", "device", "threads"} <= set(
        environment
    )
    rest = json.dumps({key: value for key, value in environment.items() if key != "command"})
    assert str(Path.home()) not in rest
    assert os.uname().nodename not in rest
    if getpass.getuser() not in rest.lower():
        return
    assert getpass.getuser() in ("root", "user", "runner", "linux"), rest


def test_codes_are_the_posterior_means_and_the_same_twice(run: api.Run) -> None:
    model = vaekit.load(run.path)
    x = next(batches(run.dataset.test, Plan(50))).x
    first, second = model.encode(x), model.encode(x)
    assert torch.equal(first, second)
    assert torch.equal(first, model.posterior(x).mean[0])
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))
    assert first.shape == (50, 2)


def test_evaluate_gives_the_numbers_of_the_file(run: api.Run) -> None:
    numbers = vaekit.evaluate(run)
    assert numbers == {name: entry for name, entry in run.metrics.items() if name != "effective_beta"}
    assert numbers["elbo"].value == pytest.approx(-(numbers["reconstruction"].value + numbers["kl"].value))
    assert vaekit.evaluate(run, "validation")["elbo"].n == 180


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_the_weights_of_the_best_epoch_are_kept(rate: float, quick: Any) -> None:
    run = quick("training.epochs=6", f"optimizer.lr={rate}")
    elbos = [row["val/elbo"] for row in run.history]
    best = max(range(6), key=elbos.__getitem__)
    assert json.loads((run.path / "environment.json").read_text())["best_epoch"] == best + 1
    terms = bound_terms(run.model, run.dataset.validation, Plan(run.plan.batch_size, 1, VALIDATION_SEED))
    assert -float(terms.distortion.mean() + terms.rate.mean()) == elbos[best]


def test_selection_looks_at_beta_1_whatever_the_training_weighs(quick: Any) -> None:
    run = quick("beta=50", "optimizer.lr=0.01", "training.epochs=4")
    for row in run.history:
        assert row["val/elbo"] == pytest.approx(-(row["val/recon_loss"] + row["val/kl_loss"]), abs=1e-9)
        assert row["val/loss"] == pytest.approx(row["val/recon_loss"] + 50 * row["val/kl_loss"], rel=1e-6)
        assert row["train/loss"] == pytest.approx(row["train/recon_loss"] + 50 * row["train/kl_loss"], rel=1e-6)


@pytest.mark.parametrize("likelihood", ["normal", "normal_learned", "normal_optimal"])
def test_the_constant_is_all_that_include_const_changes(likelihood: str, quick: Any) -> None:
    scale = () if likelihood == "normal_optimal" else ("sigma=0.7",)
    chosen = (f"likelihood={likelihood}", "data.binarisation=none", *scale)
    without, with_it = (quick(*chosen, f"training.include_const={flag}") for flag in ("false", "true"))
    constant = without.model.likelihood.constant
    assert constant != 0
    for a, b in zip(without.history, with_it.history, strict=True):
        assert b["train/loss"] - a["train/loss"] == pytest.approx(constant, rel=1e-5)
        for name in ("train/recon_loss", "train/kl_loss", "train/elbo", "val/elbo", "val/recon_loss", "val/loss"):
            assert b[name] == a[name], name
    assert without.metrics == with_it.metrics
    assert (without.path / "model.safetensors").read_bytes() == (with_it.path / "model.safetensors").read_bytes()


def test_the_mean_reduction_says_what_beta_it_makes(quick: Any) -> None:
    said: list[str] = []
    run = quick("objective.reduction.kind=objectives.MeanReduction", "beta=0.5", say=said.append)
    expected = 0.5 * 64 / 2
    assert run.metrics["effective_beta"].value == pytest.approx(expected)
    assert any(f"Effective beta: {expected:g} when" in line for line in said)
    row = run.history[-1]
    assert row["train/loss"] == pytest.approx(row["train/recon_loss"] / 64 + 0.5 * row["train/kl_loss"] / 2, rel=1e-5)


def test_both_estimators_of_the_kl_learn_the_same(quick: Any) -> None:
    settings = ("training.epochs=80", "optimizer.lr=0.01", "hidden_dim=32", "beta=0.5", "training.samples=4")
    analytic = quick(*settings)
    sampled = quick(*settings, "objective.terms.kl.kind=objectives.MonteCarloKL")
    assert analytic.history[0]["train/elbo"] < analytic.history[-1]["train/elbo"] - 10
    errors = np.hypot(analytic.metrics["elbo"].standard_error, sampled.metrics["elbo"].standard_error)
    assert abs(analytic.metrics["elbo"].value - sampled.metrics["elbo"].value) < 4 * errors
    assert analytic.metrics["kl"].value > 0.5
    assert sampled.metrics["kl"].value > 0.5


def test_mistakes_write_nothing(tmp_path: Path) -> None:
    for override in ("latent_dmi=3", "seed=-1", "optimizer.lr=-1", "likelihood.scale=1", "device=gpu"):
        with pytest.raises(ConfigError):
            vaekit.train(override, f"output_dir={tmp_path}")
    assert not os.listdir(tmp_path)


def test_a_run_that_is_none() -> None:
    for call in (vaekit.load, vaekit.resume, runs.open_run):
        with pytest.raises(RunError, match="is not a run folder"):
            call("nowhere")


def test_a_batch_of_the_wrong_shape_is_named(run: api.Run) -> None:
    with pytest.raises(ValueError, match=r"\(1, 8, 8\).*received \(3, 8, 8\)"):
        run.model.encode(torch.zeros(3, 8, 8))


SIZES = {"batch larger than the data": (20, 1000), "last batch of one": (21, 4), "fewest": (3, 2)}


@pytest.mark.parametrize(("n", "batch"), SIZES.values(), ids=SIZES.keys())
def test_few_data(n: int, batch: int, tmp_path: Path, quick: Any) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((n, 1)).astype(np.float32))
    run = quick("data=array", f"data.path={tmp_path / 'x.npy'}", "likelihood=normal", f"training.batch_size={batch}")
    assert len(run.history) == 3
    assert run.history[0]["examples"] == n - 2 * max(1, round(0.1 * n))
    assert json.loads((run.path / "metrics.json").read_text())["elbo"]["n"] == max(1, round(0.1 * n))
    _ = run.metrics, run.findings


def test_the_name_build_is_the_function_whatever_was_imported() -> None:
    code = """
import vaekit
node = {"kind": "schedules.Constant", "value": 2.0}
assert vaekit.build(node)(0) == 2.0
assert vaekit.build(node)(0) == 2.0
from vaekit import build
assert build(node)(0) == 2.0
import vaekit.api
assert vaekit.build(node)(0) == 2.0
from vaekit import build
assert build(node)(0) == 2.0
try:
    vaekit.build({"kind": "os.system"}, where="here")
except vaekit.ConfigError as error:
    assert "here.kind" in str(error)
for name in vaekit.__all__:
    assert name == "__version__" or callable(getattr(vaekit, name)), name
print("built")
"""
    assert python(code).stdout == "built\n"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=known, timeout=120, check=True
    )


@pytest.mark.slow
def test_two_processes_with_random_hashes_write_the_same_bytes(tmp_path: Path) -> None:
    code = f"""
import sys
import vaekit
run = vaekit.train(*{TINY!r}, "training.epochs=1", "output_dir=OUT")
print(run.path)
"""
    paths = []
    for number, seed in enumerate(("1", "2")):
        out = tmp_path / str(number)
        done = python(code.replace("OUT", str(out)), PYTHONHASHSEED=seed)
        paths.append(Path(done.stdout.splitlines()[-1]))
    first, second = paths
    names = [p.relative_to(first) for p in sorted(first.rglob("*")) if p.suffix in (".png", ".safetensors", ".jsonl")]
    assert len(names) > 8
    for name in [*names, Path("metrics.json")]:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_another_seed_gives_other_weights(quick: Any) -> None:
    a, b = quick("seed=1"), quick("seed=2")
    assert (a.path / "model.safetensors").read_bytes() != (b.path / "model.safetensors").read_bytes()
    assert a.metrics["elbo"] != b.metrics["elbo"]


def test_the_decoder_begins_at_the_mean_of_the_data(quick: Any) -> None:
    """Under a normal likelihood; a Bernoulli one leaves the decoder alone."""
    from vaekit.compose import compose, resolve
    from vaekit.recipe import make_session, open_data

    data = open_data({"kind": "data.named", "name": "digits"})
    mean = data.train.batch(torch.arange(len(data.train))).x.mean(0).flatten()
    for likelihood, expected in (("normal_learned", True), ("bernoulli", False)):
        config = resolve(compose([f"likelihood={likelihood}", "data.binarisation=none"]), data.event_shape)
        session = make_session(config, data, torch.device("cpu"))
        assert torch.allclose(session.model.decoder.layers[-1].bias, mean, atol=1e-6) is expected


def test_what_would_count_for_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sigma=0\.1 has no effect"):
        vaekit.train("sigma=0.1", f"output_dir={tmp_path}")
    with pytest.raises(ConfigError, match="begins below 0"):
        vaekit.train("beta=-1", f"output_dir={tmp_path}")
    assert not list(tmp_path.iterdir())


def test_two_processes_cannot_train_in_one_folder(quick: Any) -> None:
    run = quick()
    with run.folder.alone(), pytest.raises(RunError, match="Another process is training"):
        vaekit.resume(run.path)
    vaekit.resume(run.path)  # and the lock is gone


def test_a_density_gives_no_bits_and_says_its_scale(quick: Any) -> None:
    run = quick("likelihood=normal_learned", "data.binarisation=dynamic")
    assert "bits_per_dim" not in run.metrics
    assert run.metrics["sigma"].value == pytest.approx(float(run.model.likelihood.scale.detach()))
    assert quick().metrics["bits_per_dim"].value > 0
