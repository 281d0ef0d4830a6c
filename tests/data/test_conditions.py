"""Conditions follow their examples, in units of the training part."""

import numpy as np
import pytest
import torch

from vaekit import data

pytestmark = pytest.mark.usefixtures("untouched")

RNG = np.random.default_rng(0)
X = RNG.random((40, 3)).astype(np.float32)


@pytest.fixture
def npz(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "values.npz", **arrays)
        return tmp_path / "values.npz"

    return save


def check(d, of_row):
    """Conditions are those of their rows, in units of the training part."""
    raw = [of_row(split.stored.double()) for split in d.splits]
    for split, values in zip(d.splits, raw, strict=True):
        expected = (values - raw[0].mean(0)) / raw[0].std(0, correction=0)
        torch.testing.assert_close(split.conditions, expected.float())
    assert d.train.conditions.mean(0).abs().max() < 1e-6
    torch.testing.assert_close(d.train.conditions.std(0, correction=0), torch.ones(raw[0].shape[1]))


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 2)])
def test_an_array_of_the_archive(npz, shape):
    c = (X[:, :2].astype(float) * 7 - 3)[:, : (shape[1] if len(shape) > 1 else 1)].reshape(shape)
    d = data.array(npz(x=X, age=c), conditions="age")
    check(d, lambda x: x[:, : c.reshape(40, -1).shape[1]] * 7 - 3)
    assert "conditioned on age" in d.description
    assert "standardised by mean and standard deviation of the training part" in d.description
    assert d.train.labels is None
    assert d.fingerprint() != data.array(npz(x=X)).fingerprint()


def test_a_file_of_their_own(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "c.npy", X[:, 0] * 100)
    check(data.array(tmp_path / "x.npy", conditions=str(tmp_path / "c.npy")), lambda x: x[:, :1] * 100)
    with pytest.raises(FileNotFoundError, match=r"absent\.npy"):
        data.array(tmp_path / "x.npy", conditions=str(tmp_path / "absent.npy"))


@pytest.mark.parametrize("validation", [True, False])
def test_splits_of_the_archive(npz, validation):
    arrays = {"x_train": X[:20], "age_train": X[:20, 1], "x_test": X[30:], "age_test": X[30:, 1]}
    if validation:
        arrays |= {"x_val": X[20:30], "age_val": X[20:30, 1]}
    check(data.array(npz(**arrays), conditions="age"), lambda x: x[:, 1:2])
    del arrays["age_test"]
    with pytest.raises(ValueError, match="expected conditions called age_test too"):
        data.array(npz(**arrays), conditions="age")


def test_labels_and_conditions_together(npz):
    d = data.array(npz(x=X, y=np.arange(40) % 2, age=X[:, 0]), conditions="age")
    batch = d.train.batch(torch.arange(4))
    assert torch.equal(batch.context, batch.conditions)
    assert batch.labels is not None
    assert torch.equal(d.contexts(3), d.test.conditions[:3])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(39), r"have shape \(39,\)"),
        (np.zeros((40, 2, 1)), "have shape"),
        (np.zeros((40, 0)), "have shape"),
        (np.full(40, "a"), "type <U1"),
        (np.full(40, 1j), "type complex128"),
        (np.where(np.arange(40) == 7, np.nan, 1.0), r"NaN or infinite in 1 of 40 rows: 7\."),
        (np.where(np.arange(40) > 20, np.inf, 1.0), r"in 19 of 40 rows: 21, 22, .*\.\.\."),
        (np.stack([np.arange(40), np.full(40, 0.1)], 1), "do not vary over the training part in column 1"),
    ],
)
def test_what_cannot_be_conditioned_on_is_refused(npz, values, message):
    with pytest.raises(ValueError, match=message) as caught:
        data.array(npz(x=X, age=values), conditions="age")
    assert "\n" not in str(caught.value)


def test_an_absent_name_lists_those_there(npz, tmp_path):
    with pytest.raises(ValueError, match=r"holds x, c, expected conditions called 'age'. Write data.conditions=NAME"):
        data.array(npz(x=X, c=X[:, 0]), conditions="age")
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ValueError, match="holds one array, expected conditions called 'age'"):
        data.array(tmp_path / "x.npy", conditions="age")


# ---- what generated examples are conditioned on, and how many values there are


def test_contexts(npz):
    assert data.array(npz(x=X)).contexts(3) is None
    assert data.array(npz(x=X)).num_classes == 0
    digits = data.named("digits")
    assert digits.num_classes == 10
    assert digits.contexts(12).tolist() == [*range(10), 0, 1]
    d = data.array(npz(x=X, age=X[:, 0]), conditions="age")
    c = d.test.conditions
    assert torch.equal(d.contexts(10), torch.cat([c, c, c])[:10])
    assert d.contexts(10).shape == (10, 1)


@pytest.mark.parametrize(
    ("values", "scale", "levels"),
    [
        (np.uint8([0, 255] * 10), 255, 256),
        (np.uint8([0, 3] * 10), 255, 256),
        (np.uint8([0, 16] * 10), 16, 17),
        (np.uint8([0, 17] * 10), 16, None),
        (np.array([False, True] * 10), 1, 2),
        (np.uint8([0, 2] * 10), 1, None),
        (np.uint8([0, 2] * 10), 2.5, None),
        (np.int64([0, 2] * 10), 255, 256),
        (np.int64([0, 65535] * 10), 65535, None),
        (np.float32([0, 1] * 10), 1, None),
        (np.float32([0, 255] * 10), 255, None),
    ],
)
def test_levels(tmp_path, values, scale, levels):
    np.save(tmp_path / "x.npy", values.reshape(20, 1))
    d = data.array(tmp_path / "x.npy", scale=scale)
    assert d.levels == levels
    if levels is not None:
        grid = torch.arange(levels, dtype=torch.uint8).float() / (levels - 1)
        assert all(
            set(split.batch(torch.arange(len(split))).x.flatten().tolist()) <= set(grid.tolist()) for split in d.splits
        )


@pytest.mark.parametrize("binarisation", ["threshold", "dynamic", "static"])
def test_binarised_data_have_two_levels(binarisation):
    assert data.named("digits", binarisation=binarisation).levels == 2
    assert data.named("digits").levels == 17
