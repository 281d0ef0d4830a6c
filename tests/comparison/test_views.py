"""What is kept for the pictures comes back, and only what colours can show is kept."""

from __future__ import annotations

import numpy as np
import pytest

from vaekit.comparison.views import View, columns_of
from vaekit.errors import ConfigError

LATENTS = np.arange(60, dtype=np.float32).reshape(30, 2)
GIVEN = {
    "cell_type": np.array(["B", "T", ""] * 10),
    "depth": np.linspace(0, 1, 30),
    "cluster": np.arange(30) % 4,
    "counts": np.arange(30) * 7,
    "doublet": np.arange(30) % 2 == 0,
}


def test_columns_come_back_from_an_archive() -> None:
    view = columns_of(LATENTS, None, GIVEN)
    again = View.of(view.arrays(), dict(view.names))
    for made in (view, again):
        assert made.column("cell_type")[0].tolist() == GIVEN["cell_type"].tolist()  # type: ignore[union-attr]
        assert made.column("cluster")[0].tolist() == [str(k % 4) for k in range(30)]  # type: ignore[union-attr]
        assert made.column("doublet")[0].tolist()[:2] == ["True", "False"]  # type: ignore[union-attr]
        np.testing.assert_array_equal(made.column("depth")[1], GIVEN["depth"])
        np.testing.assert_array_equal(made.column("counts")[1], GIVEN["counts"])
        np.testing.assert_array_equal(made.latents, LATENTS)


def test_names_of_which_there_is_one_for_each_example_are_not_kept() -> None:
    index = np.array([f"cell{k}" for k in range(900)])
    view = columns_of(np.zeros((900, 2)), None, {"index": index})
    assert view.names == {}


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"--color cell_typ.*closest: cell_type"):
        columns_of(LATENTS, None, GIVEN).column("cell_typ")


def test_an_archive_that_was_tampered_with_is_refused() -> None:
    view = columns_of(LATENTS, None, GIVEN)
    arrays = view.arrays()
    with pytest.raises(ValueError, match="names that are not there"):
        View.of({**arrays, "column0": np.full(30, 9, dtype=np.int32)}, dict(view.names))
    with pytest.raises(ValueError, match="other lengths"):
        View.of({**arrays, "column1": np.zeros(3)}, dict(view.names))
