"""`vaekit prior`, and models of codes from the command line."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaekit import runs

SMALL = ["training.batch_size=256", "evaluation.samples=1", "device=cpu"]
CODES = [*SMALL, "network.encoder.hidden_channels=8", "network.decoder.hidden_channels=8", "latent_dim=8"]


@pytest.fixture(scope="module")
def codes_run(vaekit: Any, without_pictures: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny VQ-VAE."""
    words = ("model=vqvae", *CODES, "posterior.codebook.codes=16", "training.epochs=3")
    with without_pictures():
        said = vaekit("train", *words, f"output_dir={tmp_path_factory.mktemp('codes')}")
    assert said.code == 0, said.err
    return Path(said.last)


PRESETS = {
    "vqvae": [*CODES, "posterior.codebook.codes=16"],
    "vqvae_gradient": [*CODES, "posterior.codebook.codes=16"],
    "categorical": [*SMALL, "hidden_dim=32"],
    "mixture_prior": [*SMALL, "hidden_dim=32"],
    "vampprior": [*SMALL, "hidden_dim=32", "prior.components=20"],
}


@pytest.mark.parametrize("model", PRESETS)
def test_the_preset_learns(vaekit: Any, no_pictures: None, tmp_path: Path, model: str) -> None:
    """Three epochs of six steps each gain two nats and more, by the ELBO on validation data."""
    said = vaekit(
        "train", f"model={model}", *PRESETS[model], "training.epochs=3", "optimizer.lr=0.005", f"output_dir={tmp_path}"
    )
    assert said.code == 0, said.err
    rows = runs.open_run(said.last, "cpu").history
    assert float(rows[-1]["val/elbo"]) > float(rows[0]["val/elbo"]) + 2.0
    if model.startswith("vqvae"):
        metrics = json.loads((Path(said.last) / "metrics.json").read_text())
        assert metrics["kl"]["value"] == pytest.approx(4 * math.log(16))
        assert metrics["elbo"]["value"] == pytest.approx(-metrics["kl"]["value"] - metrics["reconstruction"]["value"])
        assert 1 <= metrics["codebook_perplexity"]["value"] <= 16


def test_a_prior_is_fitted_scored_kept_and_drawn_from(vaekit: Any, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    own = vaekit("sample", copy, "-n", 3, "--output", tmp_path / "own.npy")
    assert own.code == 0, own.err
    for name in ("normal", "mixture"):
        said = vaekit("prior", copy, name, "--device", "cpu")
        assert said.code == 0, said.err
        for file in (f"priors/{name}.safetensors", f"priors/{name}.json", f"figures/samples_{name}.png"):
            assert (copy / file).is_file()
        metrics = json.loads((copy / "metrics.json").read_text())
        assert metrics[f"prior_{name}"]["n"] == metrics["elbo"]["n"]
        assert metrics[f"prior_{name}"]["value"] > metrics["prior_own"]["value"] - 0.2
        said = vaekit("sample", copy, "-n", 3, "--prior", name, "--output", tmp_path / f"{name}.npy")
        assert said.code == 0, said.err
        assert not np.array_equal(np.load(tmp_path / f"{name}.npy"), np.load(tmp_path / "own.npy"))
    weights = (copy / "priors/normal.safetensors").read_bytes()
    assert vaekit("prior", copy, "normal", "--device", "cpu").code == 0
    assert (copy / "priors/normal.safetensors").read_bytes() == weights


def test_a_prior_over_codes(vaekit: Any, codes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from functools import partial

    from vaekit import priors

    copy = Path(shutil.copytree(codes_run, tmp_path / "run"))
    monkeypatch.setattr(
        priors, "FittedAutoregressive", partial(priors.FittedAutoregressive, width=16, layers=1, steps=60)
    )
    said = vaekit("prior", copy)
    assert said.code == 0, said.err
    metrics = json.loads((copy / "metrics.json").read_text())
    assert metrics["prior_own"]["value"] == pytest.approx(-metrics["kl"]["value"])
    assert metrics["prior_autoregressive"]["value"] > metrics["prior_own"]["value"]
    said = vaekit("sample", copy, "-n", 3, "--prior", "autoregressive")
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mixtur"], "there is no prior 'mixtur'; closest: mixture"),
        (["autoregressive"], "write normal, mixture, flow"),
        (["normal", "--draws", "0"], "--draws is 0"),
        (["normal", "--seed", "-1"], "--seed is -1"),
    ],
)
def test_a_wrong_prior_gets_one_line(vaekit: Any, run: Path, arguments: list[str], words: str) -> None:
    said = vaekit("prior", run, *arguments)
    assert said.code == 2
    assert words in said.err
    assert len(said.err.splitlines()) == 1


def test_a_continuous_prior_over_codes_gets_one_line(vaekit: Any, codes_run: Path) -> None:
    said = vaekit("prior", codes_run, "normal")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "are codes" in said.err
    said = vaekit("sample", codes_run, "--prior", "autoregressive")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "write: vaekit prior" in said.err


def test_a_prior_of_other_weights_gets_one_line(vaekit: Any, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "a run"))
    assert vaekit("prior", copy, "normal", "--device", "cpu").code == 0
    folder = runs.open_run(copy, "cpu").folder
    folder.write_model({name: tensor + 1e-3 for name, tensor in folder.model().items()})
    said = vaekit("sample", copy, "--prior", "normal")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "was fitted to other weights" in said.err
    assert f"Fit it again: vaekit prior '{copy}' normal" in said.err
    assert vaekit("prior", copy, "normal", "--device", "cpu").code == 0
    assert vaekit("sample", copy, "--prior", "normal").code == 0


def test_codes_are_not_interpolated(vaekit: Any, codes_run: Path) -> None:
    said = vaekit("interpolate", codes_run, "--from", 0, "--to", 1)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "nothing lies between two of them" in said.err
    assert "model=mlp" in said.err


def test_a_damaged_prior_gets_one_line(vaekit: Any, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "priors").mkdir()
    (copy / "priors" / "normal.safetensors").write_bytes(b"nothing")
    said = vaekit("sample", copy, "--prior", "normal")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "Fit it again: vaekit prior" in said.err
