"""Transforms of counts equal their formulas on dense arrays, are fitted to the training cells only, and come back."""

import numpy as np
import pytest
import torch

from vaekit import data
from vaekit.data.expression import (
    EXPRESSIONS,
    CellRestore,
    Library,
    Standardise,
    check_counts,
    express,
    moments,
    value_range,
)
from vaekit.data.variable import highly_variable, loess, standardised_variance

GENES = tuple(f"g{n}" for n in range(9))


def parts(seed=0):
    """Three parts of counts, dense: no cell is empty, one gene is constant, one absent in training."""
    generator = np.random.default_rng(seed)
    made = []
    for n in (50, 20, 10):
        x = generator.negative_binomial(1, 0.3, (n, 9)).astype(np.float64)
        x[:, 0], x[:, 1] = 2, 0
        made.append(x)
    made[2][0, 1] = 5
    return made


def expressed(name, dense, totals=None, **library):
    from scipy import sparse

    totals = [x.sum(1) for x in dense] if totals is None else totals
    return express(name, [sparse.csr_matrix(x) for x in dense], totals, Library(**library), GENES)


def seen(result, part):
    """What a model sees of a part, dense."""
    x = torch.from_numpy(result.matrices[part].toarray().astype(np.float32))
    for transform in result.transforms:
        x = transform(x)
    return x.numpy()


def by_hand(name, dense, target=None, clip=10.0):
    totals = [x.sum(1, keepdims=True) for x in dense]
    target = np.median(totals[0]) if target is None else target
    normalised = [x * target / total for x, total in zip(dense, totals, strict=True)]
    logged = [np.log1p(x) for x in normalised]
    mean, deviation = logged[0].mean(0), logged[0].std(0)
    deviation[deviation < 1e-12] = 1
    standardised = [np.clip((x - mean) / deviation, -clip, clip) for x in logged]
    return {"counts": dense, "as_is": dense, "normalised": normalised, "log1p": logged, "standardised": standardised}[
        name
    ]


@pytest.mark.parametrize("target", [None, 1e4])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_each_expression_is_its_formula(name, target):
    dense = parts()
    result = expressed(name, dense, target=target)
    expected = by_hand(name, dense, target)
    for part in range(3):
        np.testing.assert_allclose(seen(result, part), expected[part], rtol=2e-6, atol=2e-6)
    low, high = value_range(result)
    assert low == pytest.approx(min(x.min() for x in expected), rel=1e-5, abs=1e-6)
    assert high == pytest.approx(max(x.max() for x in expected), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in EXPRESSIONS if name != "standardised"])
def test_zero_stays_zero_and_is_not_stored(name):
    dense = parts()
    for matrix, x in zip(expressed(name, dense).matrices, dense, strict=True):
        assert matrix.nnz == np.count_nonzero(x)


def test_normalised_cells_have_one_sum():
    result = expressed("normalised", parts(), target=1e4)
    for matrix in result.matrices:
        np.testing.assert_allclose(matrix.sum(1), 1e4, rtol=1e-6)


def test_the_sum_is_that_over_all_features_of_the_file():
    dense = parts()
    totals = [x.sum(1) + 100 for x in dense]  # features that are not kept had 100
    result = expressed("normalised", dense, totals=totals, target=1.0)
    np.testing.assert_allclose(result.matrices[0].sum(1).A1, dense[0].sum(1) / totals[0], rtol=1e-6)


@pytest.mark.parametrize("name", ["normalised", "log1p", "standardised"])
def test_nothing_is_fitted_to_the_other_parts(name):
    dense = parts()
    changed = [dense[0], dense[1] * 7 + 1, dense[2][:4] + 3]
    np.testing.assert_array_equal(seen(expressed(name, dense), 0), seen(expressed(name, changed), 0))


@pytest.mark.parametrize("name", ["normalised", "log1p", "standardised"])
def test_the_way_back_gives_counts_per_target(name):
    dense = parts()
    result = expressed(name, dense, target=500.0, clip=None)
    for part in range(3):
        expected = dense[part] * 500 / dense[part].sum(1, keepdims=True)
        np.testing.assert_allclose(result.restore.decode(seen(result, part)), expected, rtol=2e-5, atol=1e-4)


def test_counts_and_values_as_stored_have_no_way_back():
    assert expressed("counts", parts()).restore is None
    assert expressed("as_is", parts()).restore is None


def test_what_comes_back_is_written_with_its_names(tmp_path):
    restore = expressed("log1p", parts(), target=100.0).restore
    values = np.log1p(np.arange(18.0).reshape(2, 9))
    path = restore.write(values, tmp_path / "samples.npy")
    assert path == tmp_path / "samples.npz"
    with np.load(path) as written:
        np.testing.assert_allclose(written["x"], np.arange(18).reshape(2, 9), rtol=1e-6, atol=1e-6)
        assert tuple(written["genes"]) == GENES
    state = expressed("standardised", parts()).restore.state()
    again = CellRestore(
        tuple(state["genes"]), state["target"], state["logarithm"], np.array(state["mean"]), np.array(state["scale"])
    )
    np.testing.assert_array_equal(again.decode(values), expressed("standardised", parts()).restore.decode(values))


def test_moments_count_the_zeros():
    from scipy import sparse

    x = parts()[0]
    mean, scale = moments(sparse.csr_matrix(x))
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-12)
    expected = x.std(0)
    expected[:2] = 1
    np.testing.assert_allclose(scale, expected, rtol=1e-12)


def test_clipping_holds_both_sides():
    transform = Standardise(torch.zeros(2), torch.ones(2), 3.0)
    given = torch.tensor([[-5.0, 5.0], [1.0, -1.0]])
    assert transform(given).tolist() == [[-3.0, 3.0], [1.0, -1.0]]
    assert given.tolist() == [[-5.0, 5.0], [1.0, -1.0]]  # what was given is left as it is
    assert Standardise(torch.zeros(2), torch.ones(2), float("inf"))(given).tolist() == given.tolist()


@pytest.mark.parametrize("values", [[1.0, -2.0], [0.5, 1.0]], ids=["negative", "fractions"])
def test_what_is_no_count_is_refused_with_the_reason(values):
    values = np.array(values)
    assert not check_counts("as_is", values, "file")
    with pytest.raises(
        ValueError, match=r"expression=counts is made from counts, but file has .* are no counts\. .*expression=as_is"
    ):
        check_counts("counts", values, "file")
    for name in ("normalised", "log1p", "standardised"):
        with pytest.raises(ValueError, match=f"expression={name} .*logarithm taken already, which is not done twice"):
            check_counts(name, values, "file")


def test_whole_numbers_are_counts_in_any_type():
    for kind in (np.float32, np.float64, np.int64, np.uint8):
        assert check_counts("counts", np.array([0, 3, 200], dtype=kind), "file")
    assert check_counts("as_is", np.array([1.0]), "file")


def test_a_misspelt_expression_names_the_right_one(tmp_path):
    for call in (lambda: expressed("log", parts()), lambda: data.cells(tmp_path, expression="log")):
        with pytest.raises(ValueError, match="expression is 'log'; closest: log1p"):
            call()


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"target": -1.0}, {"clip": 0.0}, {"target": float("nan")}])
def test_target_and_clip_are_positive(wrong):
    with pytest.raises(ValueError, match="expected a positive number or null"):
        Library(**wrong)


# --- features -------------------------------------------------------------------------------------------------------------


def exact_loess(x, y, span=0.3):
    """Local quadratic regression computed anew at every point, by weighted least squares of numpy's polynomials."""
    reach = int(span * len(x))
    fitted = np.empty(len(x))
    for n, at in enumerate(x):
        distance = np.abs(x - at)
        near = np.argsort(distance, kind="stable")[:reach]
        weight = (1 - (distance[near] / distance[near].max()) ** 3) ** 3
        fitted[n] = np.polyval(np.polyfit(x[near] - at, y[near], 2, w=np.sqrt(weight)), 0.0)
    return fitted


def test_loess_follows_the_exact_regression():
    generator = np.random.default_rng(0)
    x = np.sort(generator.uniform(-3, 2, 600))
    y = np.sin(2 * x) + 0.3 * generator.standard_normal(600)
    exact = exact_loess(x, y)
    # what the cubics between vertices leave, of a noise of 0.3
    assert np.abs(loess(x, y) - exact).max() < 0.01
    shuffled = generator.permutation(600)
    np.testing.assert_allclose(loess(x[shuffled], y[shuffled]), loess(x, y)[shuffled], atol=1e-9)


def test_loess_gives_a_quadratic_back():
    x = np.linspace(-2, 3, 200)
    np.testing.assert_allclose(loess(x, 1 - x + 0.5 * x**2), 1 - x + 0.5 * x**2, atol=1e-9)


@pytest.mark.parametrize("x", [np.zeros(20), np.repeat([0.0, 1.0], 10), np.array([0.0]), np.array([0.0, 1.0, 2.0])])
def test_loess_of_few_or_equal_points_is_finite(x):
    fitted = loess(x, np.arange(len(x), dtype=float))
    assert np.isfinite(fitted).all()


def made_counts(n=300, width=800, seed=0):
    """Counts of which the last 40 genes vary between two groups of cells and the others do not."""
    generator = np.random.default_rng(seed)
    mean = np.exp(generator.normal(0, 1.2, width))
    rates = np.tile(mean, (n, 1))
    rates[: n // 2, -40:] *= 6
    return generator.poisson(rates * generator.gamma(5, 0.2, (n, 1))).astype(np.float64)


def dense_standardised_variance(x):
    """The formula of the paper on a dense matrix, with the exact regression."""
    mean, variance = x.mean(0), x.var(0, ddof=1)
    varies = variance > 0
    expected = np.zeros(x.shape[1])
    deviation = np.sqrt(10 ** exact_loess(np.log10(mean[varies]), np.log10(variance[varies])))
    z = np.minimum((x[:, varies] - mean[varies]) / deviation, np.sqrt(len(x)))
    expected[varies] = (z**2).sum(0) / (len(x) - 1)
    return expected


def test_standardised_variances_are_those_of_the_paper():
    from scipy import sparse

    x = made_counts()
    x[:, 5] = 0
    x[:, 6] = 4
    x[3, 7] = 100_000  # a count that must be clipped
    found, expected = standardised_variance(sparse.csr_matrix(x)), dense_standardised_variance(x)
    assert (found[5], found[6]) == (0, 0)
    np.testing.assert_allclose(found, expected, rtol=0.01)
    assert found[7] < 2 * len(x) / (len(x) - 1) + 1


def test_the_features_that_vary_are_chosen_in_their_order():
    from scipy import sparse

    matrix = sparse.csr_matrix(made_counts())
    chosen = highly_variable(matrix, 40)
    assert (np.diff(chosen) > 0).all()
    # by chance a twentieth of them would be
    assert np.count_nonzero(chosen >= 760) >= 36
    best = np.argsort(-dense_standardised_variance(matrix.toarray()), kind="stable")[:40]
    assert len(set(best.tolist()) & set(chosen.tolist())) >= 39
    assert highly_variable(matrix, 800).tolist() == list(range(800))


def test_equal_variances_are_taken_from_the_first_on():
    from scipy import sparse

    x = np.tile(np.array([[1.0], [0.0], [3.0], [2.0]]), (5, 12))
    assert highly_variable(sparse.csr_matrix(x), 3).tolist() == [0, 1, 2]
