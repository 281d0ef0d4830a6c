"""`vaekit gradients`: a table, a picture, JSON, and one line for a mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

FEW = ("--draws", "20", "--examples", "2")


@pytest.fixture(scope="module")
def copy(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(run, tmp_path_factory.mktemp("gradients") / "a run"))


def test_a_table_and_a_picture(vaekit: Any, copy: Path) -> None:
    said = vaekit("gradients", copy, "--ks", "1,4", *FEW)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == "Gradients of the mean loss of 2 train examples, 20 draws (± one standard error):"
    assert [line.split()[:2] for line in lines[2:10]] == [
        [name, k] for k in "14" for name in ("elbo", "stl", "iwae", "dreg")
    ]
    assert "SNR grows as K to the power of" in said.out
    assert said.last == f"Picture: {copy / 'figures' / 'gradients.png'}"
    assert (copy / "figures" / "gradients.png").stat().st_size > 10_000


def test_json_and_nothing_else(vaekit: Any, copy: Path) -> None:
    said = vaekit("gradients", copy, "--ks", "2,8", "--estimators", "iwae,mc", *FEW, "--json")
    found = json.loads(said.out)
    assert said.err == ""
    assert len(found["points"]) == 8
    assert {"estimator", "side", "samples", "snr", "dsnr", "rms"} == set(found["points"][0])
    assert found["points"][0]["snr"]["n"] == 20
    assert vaekit("gradients", copy, "--ks", "8,2", "--estimators", "iwae,mc", *FEW, "--json").out == said.out


MISTAKES = {
    "estimator": (["--estimators", "dregs"], 2, "no estimator 'dregs'; closest: dreg"),
    "ks": (["--ks", "1,a"], 2, "--ks is '1,a', expected numbers with commas between them"),
    "k": (["--ks", "0"], 2, "K from 1 to 10,000"),
    "draws": (["--draws", "3"], 2, "expected 20 draws or more"),
    "split": (["--split", "tset"], 2, "split is 'tset', expected one of train"),
    "seed": (["--seed", "-1"], 2, "seed is -1"),
    "flag": (["--sample", "3"], 2, "unrecognized arguments: --sample"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line(vaekit: Any, copy: Path, arguments: list[str], code: int, said: str) -> None:
    found = vaekit("gradients", copy, *arguments)
    assert found.code == code
    assert found.out == ""
    assert said in found.err
    assert len(found.err.splitlines()) == 1


BEFORE_TRAINING = {
    "groups": (
        "objective=miwae training.samples=12",
        "objective.terms.miwae: 12 draws do not fall into 8 groups of one size",
    ),
    "codes": (
        "model=categorical objective=dreg training.samples=4",
        "objective.terms.dreg: The draws of OneHotCategorical",
    ),
    "chained": (
        "model=residual_progressive objective=stl final_res=8 epochs_per_stage=1 base_ch=8 min_ch=4 training.epochs=2",
        "objective.terms.kl: The latent 'z1' is drawn given another one",
    ),
    "point": ("model=ae objective=vr_max", "needs a density q(z|x)"),
}


@pytest.mark.parametrize(("overrides", "said"), BEFORE_TRAINING.values(), ids=BEFORE_TRAINING.keys())
def test_what_an_objective_cannot_be_had_of_is_said_before_the_training(
    vaekit: Any, tmp_path: Path, overrides: str, said: str
) -> None:
    found = vaekit("train", *overrides.split(), "device=cpu", "--output-dir", tmp_path)
    assert found.code == 2
    assert said in found.err
    assert len(found.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
