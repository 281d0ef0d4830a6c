"""The digits: what scikit-learn gives, without loading it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vaekit.data import digits as home
from vaekit.data.digits import digits


@pytest.mark.parametrize("file", [home._FILE, ("nowhere",)], ids=["from the file", "from the library"])
def test_they_are_those_of_scikit_learn(file: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "_FILE", file)
    images, classes = digits()
    bunch = load_digits()
    assert images.dtype == np.uint8
    assert classes.dtype == np.int64
    np.testing.assert_array_equal(images, bunch.images)
    np.testing.assert_array_equal(classes, bunch.target)


OTHERS = {
    "another width": (np.ones((1797, 5)), "%d"),
    "one row": (np.ones((1, 65)), "%d"),
    "fewer rows": (np.ones((1796, 65)), "%d"),
    "more rows": (np.ones((1798, 65)), "%d"),
    "floats": (np.ones((1797, 65)), "%.18e"),
    "too large": (np.full((1797, 65), 300), "%d"),
    "words": (np.full((1797, 65), "one"), "%s"),
}


@pytest.mark.parametrize(("table", "form"), OTHERS.values(), ids=OTHERS.keys())
def test_a_file_of_another_form_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: npt.NDArray[Any], form: str
) -> None:
    other = tmp_path / "digits.csv"
    np.savetxt(other, table, delimiter=",", fmt=form)
    monkeypatch.setattr(home, "_FILE", (str(other),))  # an absolute path replaces what it is joined to
    images, classes = digits()
    bunch = load_digits()
    np.testing.assert_array_equal(images, bunch.images)
    np.testing.assert_array_equal(classes, bunch.target)


def test_the_library_is_not_loaded() -> None:
    code = "import sys; from vaekit.data import digits, entries; digits.digits(); print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_split_is_the_one_that_was_drawn_once() -> None:
    classes = digits()[1]
    rest, tested = train_test_split(range(1797), test_size=180, stratify=classes, random_state=0)
    trained, validated = train_test_split(rest, test_size=180, stratify=classes[rest], random_state=0)
    for part, drawn in zip(home.split(), (trained, validated, tested), strict=True):
        assert part.dtype == torch.int64
        assert part.tolist() == sorted(drawn)
