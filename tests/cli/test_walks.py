"""`vaekit traverse`, `interpolate` and `sample --label`: what they write, and what they say of mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaekit import runs


@pytest.fixture(scope="session")
def conditional(tiny: list[str], vaekit: Any, without_pictures: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conditional")
    with without_pictures():
        said = vaekit("train", *tiny, "training.epochs=1", "model=cvae", "--output-dir", folder)
    assert said.code == 0, said.err
    return Path(said.last)


def test_traverse(run: Path, vaekit: Any, tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy"):
        said = vaekit("traverse", run, "--dims", 2, "--steps", 5, "--range", -2, 2, "--output", tmp_path / name)
        assert said.code == 0, said.err
    assert said.out.splitlines() == [str(tmp_path / "b.npy"), str(tmp_path / "b.png")]
    for suffix in (".npy", ".png"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    images = np.load(tmp_path / "a.npy")
    assert images.shape == (2, 5, 1, 8, 8)
    np.testing.assert_allclose(images[0, 2], images[1, 2], atol=1e-6)  # both rows pass the mean of the prior
    assert vaekit("traverse", run, "--quantiles", "--index", 3, "--output", tmp_path / "c.npy").code == 0


def test_interpolate(run: Path, vaekit: Any, tmp_path: Path) -> None:
    said = vaekit("interpolate", run, "--from", 0, "--to", 7, "--steps", 6, "--output", tmp_path / "a.npy")
    assert said.code == 0, said.err
    images = np.load(tmp_path / "a.npy")
    assert images.shape == (2, 6, 1, 8, 8)
    assert vaekit("reconstruct", run, "--output", tmp_path / "r.npy").code == 0
    for mode in range(2):  # posterior means, so the ends are the reconstructions
        np.testing.assert_allclose(images[mode, [0, -1]], np.load(tmp_path / "r.npy")[[0, 7]], atol=1e-5)
    only = tmp_path / "s.npy"
    assert (
        vaekit("interpolate", run, "--from", 0, "--to", 7, "--mode", "spherical", "--steps", 6, "--output", only).code
        == 0
    )
    np.testing.assert_allclose(np.load(only)[0], images[1], atol=1e-6)


def test_a_label_chooses_the_class(conditional: Path, vaekit: Any, tmp_path: Path) -> None:
    def written(*arguments: object) -> np.ndarray:
        said = vaekit(*arguments, "--output", tmp_path / "x.npy")
        assert said.code == 0, said.err
        return np.load(tmp_path / "x.npy")

    in_turn = written("sample", conditional, "-n", 12)
    threes = written("sample", conditional, "-n", 12, "--label", 3)
    np.testing.assert_allclose(threes[3], in_turn[3], atol=1e-6)
    assert not np.allclose(threes[4], in_turn[4], atol=1e-6)
    name = runs.open_run(conditional, "cpu").dataset.class_names[3]
    assert np.array_equal(threes, written("sample", conditional, "-n", 12, "--label", name))
    other = written("traverse", conditional, "--dims", 1, "--label", 4)
    assert not np.allclose(other, written("traverse", conditional, "--dims", 1, "--label", 3), atol=1e-6)
    written("interpolate", conditional, "--from", 0, "--to", 1, "--label", 3)


MISTAKES = {
    "traverse --range 3 -3": "--range is 3 -3, expected two numbers, the smaller one first.",
    "traverse --range nan 3": "--range is nan 3, expected two numbers",
    "traverse --range 3": "argument --range: expected 2 arguments",
    "traverse --range 1 2 --quantiles": "not allowed with argument",
    "traverse --index 180": "no example 180: the split has 180, counted from 0.",
    "traverse --dims 0": "dims is 0, expected 1 or more.",
    "traverse --split tes": "split is 'tes', expected one of train, validation, test.",
    "traverse --output x.txt": "--output is x.txt, expected a file that ends in .npy.",
    "traverse --label 3": "this model is not conditional; train one with model=cvae.",
    "sample --label 3": "this model is not conditional; train one with model=cvae.",
    "interpolate --from 0": "the following arguments are required: --to",
    "interpolate --from 0 --to 999": "no example 999: the split has 180, counted from 0.",
    "interpolate --from 0 --to 1 --steps 1": "steps is 1, expected 2 or more.",
    "interpolate --from 0 --to 1 --mode curved": "invalid choice: 'curved'",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_told_in_one_line(line: str, run: Path, vaekit: Any) -> None:
    command, *options = line.split()
    said = vaekit(command, run, *options)
    assert said.code == 2
    assert MISTAKES[line] in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize("label", ["10", "-1", "thre", ""])
def test_an_unknown_class_is_told_in_one_line(label: str, conditional: Path, vaekit: Any) -> None:
    said = vaekit("sample", conditional, f"--label={label}")
    assert said.code == 2
    assert f"there is no class {label!r}" in said.err
    assert said.err.count("\n") == 1
