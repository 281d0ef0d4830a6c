"""Whole recipes: those that come with vaekit, and the user's own from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vaekit import api
from vaekit.cli.aliases import translate
from vaekit.compose import compose, resolve
from vaekit.errors import ConfigError


def resolved(*words: str, config_dir: Path | None = None) -> dict[str, Any]:
    return resolve(compose(translate(["data=digits", *words]), config_dir), (64,))


def test_the_first_stage() -> None:
    config = resolved("experiment=stage1_ae")
    assert compose(["experiment=stage1_ae"]).data.name == "pbmc3k"
    assert config["hidden_dims"] == [2048, 1024, 512]
    assert config["optimizer"]["kind"] == "optim.AdamW"
    assert config["training"]["epochs"] == 100
    assert config["name"] == "digits-stage1_ae"


def test_another_model_and_other_numbers_in_a_recipe() -> None:
    config = resolved("experiment=stage1_ae", "model=ae_stage1_beta_vae", "model.kld_weight=1e-4", "latent_dim=16")
    assert config["hidden_dims"] == [4096, 2048, 1024, 512]
    assert (config["kld_weight"], config["latent_dim"]) == (1e-4, 16)
    assert config["beta"] == pytest.approx(1e-4 * 32)
    assert config["training"]["epochs"] == 100
    assert config["name"] == "digits-ae_stage1_beta_vae"
    assert (
        resolved("experiment=stage1_ae", "model=rae")["objective"]["terms"]["latent"]["kind"] == "objectives.LatentL2"
    )


def test_the_recipe_is_that_of_its_model_alone() -> None:
    parts = ("network", "optimizer", "schedule", "objective", "likelihood", "kld_weight")
    with_recipe, alone = resolved("experiment=stage1_ae"), resolved("model=ae_stage1_vae")
    assert [with_recipe[part] for part in parts] == [alone[part] for part in parts]


def test_a_sweep_says_what_it_varies() -> None:
    sweep = compose(["experiment=stage1_vae_sweep", "data=digits"]).sweep
    assert sweep == {"kld_weight": [1e-6, 1e-5, 1e-4, 1e-3], "latent_dim": [32, 64, 128, 256]}


def test_a_sweep_is_not_trained_as_if_it_were_one_run() -> None:
    with pytest.raises(ConfigError, match="describes a sweep, over kld_weight and latent_dim: write vaekit sweep"):
        resolved("experiment=stage1_vae_sweep")
    with pytest.raises(ConfigError, match="describes a sweep: write vaekit sweep"):
        resolved("sweep=3")
    one = resolved("experiment=stage1_vae_sweep", "sweep=null", "kld_weight=1e-6", "latent_dim=256")
    assert (one["kld_weight"], one["latent_dim"], one["sweep"]) == (1e-6, 256, None)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with an experiment, and a model that it chooses."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /network: wide\n  - override /likelihood: normal\n\nhidden_dims: [8, 4]\n"
    )
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: digits\n  - override /model: tiny\n  - override /schedule: cosine\n\n"
        "latent_dim: 3\nkld_weight: 0.01\ntraining: {epochs: 2}\n"
    )
    return tmp_path


def test_an_experiment_of_the_users_own(own: Path) -> None:
    config = resolved("experiment=mine", config_dir=own)
    assert (config["hidden_dims"], config["latent_dim"], config["beta"]) == ([8, 4], 3, 0.32)
    assert config["schedule"]["schedule"]["kind"] == "schedules.Cosine"
    assert config["name"] == "digits-mine"
    changed = resolved("experiment=mine", "model=vae", "latent_dim=5", "kld_weight=0.1", config_dir=own)
    assert (changed["hidden_dims"], changed["latent_dim"], changed["beta"]) == ([2048, 1024, 512], 5, 3.2)


def test_an_experiment_of_the_users_own_trains(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "draw_gallery", lambda *_, **__: None)
    monkeypatch.setattr(api, "write_page", lambda *_: None)
    words = ("experiment=mine", "device=cpu", "evaluation.samples=2", "data.binarisation=none")
    run = api.train(*words, f"output_dir={tmp_path / 'runs'}", config_dir=own)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.path.parent.name == "digits-mine"


def test_an_experiment_may_start_from_one_of_ours(own: Path) -> None:
    (own / "experiment" / "longer.yaml").write_text(
        "# @package _global_\ndefaults:\n  - stage1_ae\n  - override /data: digits\n\ntraining: {epochs: 500}\n"
    )
    config = resolved("experiment=longer", config_dir=own)
    assert config["training"]["epochs"] == 500
    assert config["optimizer"]["lr"] == 1e-4


WITHOUT = {
    "keys": "latent_dim: 3\n",
    "parts": "defaults:\n  - override /model: vae\n\nlatent_dim: 3\n",
    "a comment": "# mine\nlatent_dim: 3\n",
    "another package": "# @package training\nepochs: 3\n",
}


@pytest.mark.parametrize("text", WITHOUT.values(), ids=WITHOUT.keys())
def test_an_experiment_without_its_first_line_is_told_so(text: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        compose(["experiment=mine"], tmp_path)
    assert str(caught.value) == "experiment=mine: its file must begin with `# @package _global_`."


def test_an_unknown_experiment_names_the_closest_of_both_folders(own: Path) -> None:
    with pytest.raises(ConfigError, match="there is no experiment 'mien'; closest: mine"):
        compose(["experiment=mien"], own)
    with pytest.raises(ConfigError, match="there is no experiment 'stage1'; closest: stage1_ae"):
        compose(["experiment=stage1"], own)
