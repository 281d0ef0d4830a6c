"""Numbers about generated tables, against closed forms, scikit-learn, and tables whose truth is known."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from vaekit.data import Dataset
from vaekit.data.columns import Columns
from vaekit.data.schema import TableWishes, infer
from vaekit.data.tables import Frames, columns_of, tabled
from vaekit.distributions.noise import uniform
from vaekit.errors import ConfigError
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.tables import (
    agreement,
    bins,
    compared,
    correlation_distance,
    dense,
    marginal_distance,
    marginals,
    roc_area,
    shares,
    table_estimates,
)

pd = pytest.importorskip("pandas")

N = 1200


def frame(n: int = N, seed: int = 0) -> Any:
    """Rows whose class follows from two columns, with one cell in ten of the second missing."""
    rng = np.random.default_rng(seed)
    x, c = rng.normal(size=n), rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    y = rng.random(n) < 1 / (1 + np.exp(-(2 * x + 2 * (c == "a") - 1)))
    seen = np.where(rng.random(n) < 0.1, np.nan, np.round(x, 3))
    return pd.DataFrame({"x": seen, "c": c, "y": np.where(y, "yes", "no"), "k": rng.poisson(4.0, n)})


def dataset(n: int = N) -> Dataset:
    half = n // 3
    parts = torch.arange(half), torch.arange(half, half + 60), torch.arange(half + 60, n)
    return tabled(Frames("made", frame(n), parts, "as it is"), TableWishes(target="y"))


class Resampling(nn.Module):
    """Stands for a perfect model: its rows are those of a table that nobody has seen."""

    conditional = False

    def __init__(self, columns: Columns, *, shuffled: bool = False) -> None:
        super().__init__()
        table = frame(20_000, seed=9)
        if shuffled:  # each column as it should be, and none knows of another
            rng = np.random.default_rng(1)
            table = pd.DataFrame({name: rng.permutation(table[name].to_numpy()) for name in table.columns})
        # counts beyond those of the small table have no place in it
        table["k"] = table["k"].clip(columns["k"].low, columns["k"].high)
        self.rows = columns.encode(table)
        self.weight = nn.Parameter(torch.zeros(1))

    def sample(self, n: int, context: None = None) -> torch.Tensor:
        u = uniform(torch.Size([1, n, 1]), dtype=torch.float64, device=torch.device("cpu"))[0, :, 0]
        return self.rows[(u * len(self.rows)).long()]


def schema(data: Dataset) -> Columns:
    columns = columns_of(data)
    assert columns is not None
    return columns


def test_a_perfect_model_is_as_good_as_real_rows_and_a_shuffled_one_is_not() -> None:
    data = dataset(3000)
    good = table_estimates(Resampling(schema(data)), data, "test", Plan(), count=1000)
    bad = table_estimates(Resampling(schema(data), shuffled=True), data, "test", Plan(), count=1000)
    for name in ("accuracy", "auc"):
        real, made = good[f"trtr_{name}"], good[f"tstr_{name}"]
        assert abs(real.value - made.value) < 6 * math.hypot(real.standard_error, made.standard_error)
        assert good[f"tstr_{name}"].value > bad[f"tstr_{name}"].value + 0.1
    assert 0.4 < bad["tstr_auc"].value < 0.6
    assert good["marginal_distance"].value < 0.08
    assert bad["marginal_distance"].value < 0.08
    assert good["correlation_distance"].value < 0.05 < bad["correlation_distance"].value
    assert good["majority_accuracy"].value == pytest.approx(float(data.test.labels.bincount().max()) / len(data.test))
    assert {estimate.n for name, estimate in good.items() if "_of_real" not in name and "distance" not in name} == {
        1940
    }
    assert "1,000 generated rows" in good["tstr_auc"].estimator


def test_the_same_seed_gives_the_same_numbers_and_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset()
    model = Resampling(schema(data))
    once = table_estimates(model, data, "test", Plan(batch_size=500), count=300)
    monkeypatch.setattr("vaekit.evaluation.tables._CHUNK", 77)
    assert table_estimates(model, data, "test", Plan(batch_size=31), count=300) == once
    assert table_estimates(model, data, "test", Plan(seed=1), count=300) != once


def test_without_a_target_there_is_nothing_to_predict() -> None:
    parts = torch.arange(400), torch.arange(400, 460), torch.arange(460, N)
    data = tabled(Frames("made", frame(), parts, "as it is"), TableWishes())
    names = set(table_estimates(Resampling(schema(data)), data, "test", Plan(), count=200))
    assert names == {
        "marginal_distance",
        "marginal_distance_of_real",
        "correlation_distance",
        "correlation_distance_of_real",
    }


def test_too_few_rows_are_refused() -> None:
    data = dataset()
    with pytest.raises(ConfigError, match="--count is 3 and the test split has 740 rows, expected 20 or more"):
        table_estimates(Resampling(schema(data)), data, "test", Plan(), count=3)


def columns(table: Any, **wishes: Any) -> Columns:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return infer(table, np.arange(len(table)), TableWishes(**wishes), "these")


def test_total_variation_by_hand() -> None:
    real = pd.DataFrame({"c": ["a"] * 6 + ["b"] * 4, "d": ["x", "y"] * 5})
    made = pd.DataFrame({"c": ["a"] * 3 + ["b"] * 7, "d": ["x", "y"] * 5})
    known = columns(real)
    distance = marginal_distance(known, known.encode(real).numpy())
    assert distance(known.encode(real).numpy(), known.encode(made).numpy()) == pytest.approx((0.3 + 0.0) / 2)
    assert distance(known.encode(real).numpy(), known.encode(real).numpy()) == 0.0


def test_bins_of_a_number_hold_all_of_it() -> None:
    table = frame()
    known = columns(table, log=("k",))
    for name in ("x", "k"):
        column = known[name]
        values = known.numbers(known.encode(table).numpy())[name]
        edges, levels = bins(column, values)
        found = shares(column, values, edges)
        assert found.sum() == pytest.approx(1.0)
        assert len(found) == len(edges) - 1 + len(levels) <= 20 + len(levels)
        assert (np.diff(edges) > 0).all()
        inside = (values >= edges[3]) & (values < edges[4])
        assert found[3] == pytest.approx(inside.mean())
    assert shares(known["x"], values * np.nan, edges)[-1] == 1.0


@pytest.mark.parametrize("count", [2, 7, 20, 21, 60, 73])
def test_bins_hold_equally_many_whole_numbers(count: int) -> None:
    """A bin of four numbers beside one of three would show a table that is even as one that is not."""
    table = pd.DataFrame({"k": np.arange(count).repeat(50) + 17})
    known = columns(table)
    values = known.numbers(known.encode(table).numpy())["k"]
    edges, _ = bins(known["k"], values)
    found = shares(known["k"], known["k"].generated(values), edges)
    width = -(-count // 20)
    assert len(found) <= 20
    np.testing.assert_allclose(found[1:-1], width / count)
    assert found.sum() == pytest.approx(1.0)


def test_correlations_by_numpy() -> None:
    """Of three columns, one of two levels; pairs within a column do not count."""
    a, b = frame(seed=1)[["k", "c"]], frame(seed=2)[["k", "c"]]
    b["k"] = b["k"].clip(a["k"].min(), a["k"].max())
    known = columns(a)
    x, y = known.encode(a).numpy(), known.encode(b).numpy()
    difference = np.abs(np.corrcoef(x.T) - np.corrcoef(y.T))
    assert correlation_distance(known)(x, y) == pytest.approx(difference[0, 1:].mean(), rel=1e-9)
    y[:, 1:] = [1.0, 0.0, 0.0]  # the same level everywhere correlates with nothing
    assert correlation_distance(known)(x, y) == pytest.approx(np.abs(np.corrcoef(x.T)[0, 1:]).mean(), rel=1e-9)


def test_the_standard_error_is_that_of_repeated_samples() -> None:
    """Of the distance between two large samples of different tables, against its spread over forty pairs of them."""
    rng = np.random.default_rng(0)
    known = columns(pd.DataFrame({"c": ["a", "b"], "d": ["x", "y"]}))

    def sample(p: float) -> np.ndarray:
        c, d = rng.random(800) < p, rng.random(800) < p
        return np.stack([c, ~c, d, ~d], 1).astype(np.float32)

    pairs = [(sample(0.5), sample(0.8)) for _ in range(40)]
    found = [compared(marginal_distance(known, a), a, b, 0, "") for a, b in pairs]
    spread = np.std([estimate.value for estimate in found], ddof=1)
    assert spread == pytest.approx(np.mean([estimate.standard_error for estimate in found]), rel=0.5)
    assert spread == pytest.approx(math.sqrt((0.25 + 0.16) / 800 / 2), rel=0.5)


def test_the_area_is_scikit_learns_and_its_error_that_of_hanley_and_mcneil() -> None:
    """For a score without ties their formula holds for exponential scores: A / (2 - A) and 2 A^2 / (1 + A) are the two moments."""
    rng = np.random.default_rng(0)
    m, n, rate = 4000, 6000, 0.4
    # P(positive > negative) = 1 / (1 + rate)
    positive, negative = rng.exponential(1 / rate, m), rng.exponential(1.0, n)
    area, error = roc_area(positive, negative)
    truth, score = np.r_[np.ones(m), np.zeros(n)], np.r_[positive, negative]
    assert area == pytest.approx(roc_auc_score(truth, score), rel=1e-12)
    A = 1 / (1 + rate)
    variance = (A * (1 - A) + (m - 1) * (A / (2 - A) - A**2) + (n - 1) * (2 * A**2 / (1 + A) - A**2)) / (m * n)
    assert abs(area - A) < 5 * math.sqrt(variance)
    assert error == pytest.approx(math.sqrt(variance), rel=0.05)
    assert roc_area(np.array([0.0, 1.0]), np.array([0.0, 1.0, 1.0]))[0] == pytest.approx(
        roc_auc_score([1, 1, 0, 0, 0], [0, 1, 0, 1, 1])
    )


def test_a_sample_of_one_class_predicts_it_always() -> None:
    data = dataset()
    model = Resampling(schema(data))
    yes = schema(data).labels.index("y=yes")
    model.rows = model.rows[model.rows[:, yes] == 1]
    found = table_estimates(model, data, "test", Plan(), count=100)
    assert found["tstr_accuracy"].value == pytest.approx(float((data.test.labels == 1).double().mean()))
    assert found["tstr_auc"].value == 0.5


def test_what_a_reconstruction_keeps() -> None:
    data = dataset()
    known, rows = schema(data), dense(data.test, Plan())
    perfect = {name: value for name, value, _ in agreement(known, rows, rows)}
    assert perfect == {"x": 1.0, "c": 1.0, "y": 1.0, "k": 1.0}
    nothing = rows.copy()
    nothing[:, known.labels.index("k")] = rows[:, known.labels.index("k")].mean()
    nothing[:, [known.labels.index(f"c={level}") for level in "abc"]] = [1.0, 0.0, 0.0]
    kept = {name: value for name, value, _ in agreement(known, rows, nothing)}
    assert kept["k"] == pytest.approx(0.0, abs=1e-6)
    assert kept["c"] == pytest.approx(float(rows[:, known.labels.index("c=a")].mean()))


def test_the_figures_are_drawn(tmp_path: Path) -> None:
    from vaekit import report

    data = dataset()
    known, rows = schema(data), dense(data.test, Plan())
    other = known.encode(frame(500, seed=3).assign(k=4)).numpy()
    report.histograms(marginals(known, rows, other), tmp_path / "h.png", "caption")
    report.kept(agreement(known, rows, rows[::-1]), tmp_path / "k.png")
    report.histograms([], tmp_path / "none.png")
    report.kept([], tmp_path / "nothing.png")
    for name in ("h", "k", "none", "nothing"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
