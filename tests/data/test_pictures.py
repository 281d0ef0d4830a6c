"""Silhouettes and characters hold what is known of them, and stand upright."""

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from vaekit import data
from vaekit.data.matlab import read_matlab_text
from vaekit.data.resize import area_resize

pytestmark = pytest.mark.usefixtures("untouched")

RNG = np.random.default_rng(0)


def by_columns(images):
    """Images (N, 28, 28) as MATLAB writes them: column by column, (N, 784)."""
    return images.swapaxes(1, 2).reshape(len(images), 784)


# ---- Caltech 101 Silhouettes


def silhouettes(folder, compress=True, **changes):
    ground = {
        part: RNG.integers(0, 2, (n, 28, 28), dtype=np.uint8) for part, n in (("train", 6), ("val", 4), ("test", 5))
    }
    names = np.empty((1, 3), object)
    names[0, :] = ["Airplanes Side 2", "chaise", "été"]
    content = {"classnames": names}
    for part, images in ground.items():
        content[f"{part}_data"] = by_columns(images)
        content[f"{part}_labels"] = (np.arange(len(images)) % 3 + 1).astype(np.uint8)[:, None]
    folder.mkdir(exist_ok=True)
    savemat(folder / "caltech101_silhouettes_28_split1.mat", content | changes, do_compression=compress)
    return ground


@pytest.mark.filterwarnings("ignore:.*is not the published")
@pytest.mark.parametrize("compress", [True, False])
def test_silhouettes_are_turned_upright_and_the_object_is_one(tmp_path, compress):
    ground = silhouettes(tmp_path / "caltech101_silhouettes", compress)
    d = data.named("caltech101_silhouettes", path=tmp_path)
    for split, part in zip(d.splits, ("train", "val", "test"), strict=True):
        np.testing.assert_array_equal(split.stored[:, 0].numpy(), 1 - ground[part])
        assert split.labels.tolist() == [n % 3 for n in range(len(split))]
    assert d.class_names == ("Airplanes Side 2", "chaise", "été")
    assert (d.binary, d.levels, d.num_classes, d.train.stored.dtype) == (True, 2, 3, torch.uint8)


@pytest.mark.filterwarnings("ignore:.*is not the published")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_data": np.full((4, 784), 2, np.uint8)}, r"val_data of shape \(4, 784\)"),
        ({"val_data": np.zeros((4, 783), np.uint8)}, r"val_data of shape \(4, 783\)"),
        ({"val_labels": np.zeros((4, 1), np.uint8)}, "val_labels"),
        ({"val_labels": np.full((4, 1), 4, np.uint8)}, r"expected 4 of 1 to 3"),
        ({"val_labels": np.ones((3, 1), np.uint8)}, "val_labels"),
        ({"classnames": np.zeros((1, 3))}, "not a cell array"),
        ({"classnames": np.array([[np.zeros(2), np.zeros(3)]], object)}, "not text"),
    ],
)
def test_other_silhouettes_are_refused(tmp_path, changes, message):
    silhouettes(tmp_path / "caltech", **changes)
    with pytest.raises(data.DataFormatError, match=message):
        data.named("caltech101_silhouettes", path=tmp_path)


def test_the_real_silhouettes(need):
    need("caltech101_silhouettes")
    from vaekit.data.catalog import find_files
    from vaekit.data.entries import ENTRIES

    d = data.named("caltech101_silhouettes")
    assert [len(split) for split in d.splits] == [4100, 2264, 2307]
    counts = d.train.labels.bincount(minlength=101)
    assert (counts.min(), counts.max()) == (19, 100)
    everything = torch.cat([split.stored for split in d.splits]).float()
    assert 1 - everything.mean() == pytest.approx(0.54, abs=0.01)
    (path,) = find_files(ENTRIES["caltech101_silhouettes"], None)[1].found.values()
    whole = loadmat(path)
    assert d.class_names == tuple(str(name[0]) for name in whole["classnames"].ravel())
    np.testing.assert_array_equal(
        d.test.stored[:, 0].flatten(1).numpy(), 1 - by_columns(whole["test_data"].reshape(-1, 28, 28))
    )
    # what stands is like its mirror image, and not like itself upside down
    standing = torch.tensor([d.class_names.index(name) for name in ("lamp", "umbrella", "buddha")])
    x = everything[torch.isin(torch.cat([split.labels for split in d.splits]), standing)]
    assert (x - x.flip(-1)).abs().mean() < 0.5 * (x - x.flip(-2)).abs().mean()


# ---- OMNIGLOT


def characters(path, n, **changes):
    paper = RNG.random((n, 20, 105, 105)) < 0.9
    np.savez_compressed(path, **({"images": paper, "labels": np.zeros((n, 20), int)} | changes))
    return paper


@pytest.mark.filterwarnings("ignore:.*is not the published")
def test_omniglot_is_ink_by_area_divided_by_drawers_and_alphabets(tmp_path):
    folder = tmp_path / "omniglot"
    folder.mkdir()
    background, evaluation = (
        characters(folder / "images_background.npz", 17),
        characters(folder / "images_evaluation.npz", 2),
    )
    d = data.named("omniglot", path=tmp_path)
    assert [len(split) for split in d.splits] == [17 * 18, 17 * 2, 2 * 20]
    ink = {name: torch.from_numpy(np.where(paper, 0, 255)) for name, paper in (("b", background), ("e", evaluation))}
    small = {name: area_resize(values, (28, 28)).to(torch.uint8) for name, values in ink.items()}
    assert torch.equal(d.train.stored.reshape(17, 18, 28, 28), small["b"][:, :18])
    assert torch.equal(d.validation.stored.reshape(17, 2, 28, 28), small["b"][:, 18:])
    assert torch.equal(d.test.stored.reshape(2, 20, 28, 28), small["e"])
    assert d.train.labels.tolist() == [n for n in range(17) for _ in range(18)]
    assert d.test.labels.tolist() == [17] * 20 + [18] * 20
    assert (d.num_classes, d.levels, d.class_names[18]) == (19, 256, "character 19")
    assert "so numbers are not comparable with it: that is omniglot_iwae" in d.description


@pytest.mark.filterwarnings("ignore:.*is not the published")
@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 20, 105, 105), np.uint8), np.zeros((2, 20, 28, 28), bool), np.zeros((0, 20, 105, 105), bool)],
)
def test_other_characters_are_refused(tmp_path, images):
    characters(tmp_path / "images_background.npz", 1, images=images)
    characters(tmp_path / "images_evaluation.npz", 1)
    with pytest.raises(data.DataFormatError, match=r"images_background.npz has images of type .*expected booleans"):
        data.named("omniglot", path=tmp_path)


def test_the_real_omniglot(need):
    need("omniglot")
    d = data.named("omniglot")
    assert [len(split) for split in d.splits] == [17_352, 1_928, 13_180]
    known = torch.cat([d.train.stored, d.validation.stored])
    # averaging keeps the share of ink, but for rounding to 1/255
    assert known.double().mean() / 255 == pytest.approx(0.078, abs=2e-3)
    assert d.test.stored.double().mean() / 255 == pytest.approx(0.084, abs=2e-3)
    assert d.num_classes == 1623


def chardata(folder, train=1400, test=30, **changes):
    images = {name: RNG.random((n, 28, 28)) for name, n in (("data", train), ("testdata", test))}
    content = {name: by_columns(values).T for name, values in images.items()}
    savemat(folder / "chardata.mat", content | {"target": np.zeros((50, train))} | changes, do_compression=True)
    return images


def test_omniglot_of_the_iwae_paper(tmp_path):
    images = chardata(tmp_path)
    d = data.named("omniglot_iwae", path=tmp_path, binarisation="dynamic")
    assert [len(split) for split in d.splits] == [55, 1345, 30]
    np.testing.assert_array_equal(d.train.stored[:, 0].numpy(), images["data"][:55].astype(np.float32))
    np.testing.assert_array_equal(d.validation.stored[:, 0].numpy(), images["data"][55:].astype(np.float32))
    np.testing.assert_array_equal(d.test.stored[:, 0].numpy(), images["testdata"].astype(np.float32))
    assert (d.levels, d.num_classes) == (2, 0)
    assert data.named("omniglot_iwae", path=tmp_path).levels is None
    assert "not those of data=omniglot" in d.description


@pytest.mark.parametrize(
    "changes",
    [
        {"testdata": np.full((784, 3), 1.5)},
        {"testdata": np.full((784, 3), np.nan)},
        {"testdata": np.zeros((783, 3))},
        {"testdata": np.zeros((784, 0))},
        {"data": np.zeros((784, 1345))},
    ],
)
def test_another_chardata_is_refused(tmp_path, changes):
    chardata(tmp_path, **changes)
    with pytest.raises(data.DataFormatError, match=r"chardata\.mat has"):
        data.named("omniglot_iwae", path=tmp_path)


def test_chardata_is_not_fetched_unchecked(tmp_path, monkeypatch):
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(data.DataNotFoundError, match=r"yburda/iwae(.|\n)*not fetched by itself, as no SHA-256"):
        data.named("omniglot_iwae")


@pytest.mark.parametrize("compress", [True, False])
def test_lists_of_text(tmp_path, compress):
    names = np.empty((2, 2), object)
    names[:] = [["a", "ü"], ["c d", "四"]]
    savemat(tmp_path / "file.mat", {"names": names, "x": np.zeros(2)}, do_compression=compress)
    assert read_matlab_text(tmp_path / "file.mat", "names") == ("a", "c d", "ü", "四")
