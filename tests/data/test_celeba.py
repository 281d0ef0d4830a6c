"""CelebA out of a folder laid out as its makers do it, on a few small pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from vaekit import data
from vaekit.data.resize import area_resize
from vaekit.distributions import noise

pytestmark = pytest.mark.usefixtures("untouched")

RNG = np.random.default_rng(0)


@pytest.fixture
def celeba(tmp_path):
    """Ten smooth images of 20 x 24 pixels; the first is known exactly but for JPEG."""
    folder = tmp_path / "CelebA" / "img_align_celeba"
    folder.mkdir(parents=True)
    for n in range(1, 11):
        rows, columns = np.mgrid[0:24, 0:20]
        image = np.stack([rows * 8, columns * 8, np.full_like(rows, n * 20)], -1).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{n:06}.jpg", quality=100, subsampling=0)
    return folder


def partition(path, parts="0000001122"):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{n:06}.jpg {part}\n" for n, part in enumerate(parts, start=1)), encoding="utf-8")


def test_the_middle_is_cut_out_and_resized(celeba):
    d = data.celeba(celeba, crop=12, size=4)
    assert (d.event_shape, d.levels, d.name, d.num_classes) == ((3, 4, 4), 256, "celeba", 0)
    rows, columns = torch.meshgrid(torch.arange(6, 18) * 8.0, torch.arange(4, 16) * 8.0, indexing="ij")
    expected = area_resize(torch.stack([rows, columns])[None], (4, 4))[0]
    assert (d.train.stored[0, :2].float() - expected).abs().max() <= 3  # JPEG
    assert "middle 12 x 12 pixels, resized to 4 x 4 by averaging areas, value / 255" in d.description
    assert "10 of 202,599 images are there, so numbers are not comparable" in d.description


@pytest.mark.parametrize("place", ["img_align_celeba/{}", "{}", "Eval/{}"])
@pytest.mark.parametrize("given", ["CelebA", "CelebA/img_align_celeba"])
def test_the_official_parts(celeba, tmp_path, place, given):
    partition(celeba.parent / place.format("list_eval_partition.txt"), "2100000012")
    d = data.celeba(tmp_path / given, crop=20, size=20)
    # the blue of an image is its number
    blue = [(split.stored[:, 2].double().mean((1, 2)) / 20).round().int().tolist() for split in d.splits]
    assert blue == [[3, 4, 5, 6, 7, 8], [2, 9], [1, 10]]
    assert "split as published" in d.description
    assert "resized" not in d.description


def test_without_the_list_the_split_is_random_and_said(celeba):
    d = data.celeba(celeba, crop=12, size=4, seed=3)
    assert [len(split) for split in d.splits] == [8, 1, 1]
    assert "split at random with seed 3, as list_eval_partition.txt is not there" in d.description


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("000001.jpg 0\n", r"does not list 9 of 10 images, 000002\.jpg"),
        ("000001.jpg 3\n", r"line 1 is '000001.jpg 3', expected a file name and 0, 1 or 2"),
        ("000001.jpg\n", "line 1"),
        ("".join(f"{n:06}.jpg 0\n" for n in range(1, 11)), "puts 10, 0 and 0 of the images"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(celeba, text, message):
    (celeba.parent / "list_eval_partition.txt").write_text(text, encoding="utf-8")
    with pytest.raises(data.DataFormatError, match=message):
        data.celeba(celeba, crop=12, size=4)


def test_wrong_arguments_are_refused(celeba, tmp_path):
    with pytest.raises(
        ValueError, match=r"data\.crop is 140, but images in .* have a side of 20 pixels; write data.crop=20"
    ):
        data.celeba(celeba)
    with pytest.raises(ValueError, match=r"data\.size is 0"):
        data.celeba(celeba, crop=12, size=0)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        data.celeba(tmp_path / "absent")
    (celeba / "000011.jpg").write_bytes(b"words")
    with pytest.raises(data.DataFormatError, match=r"1 of 11 files(.|\n)*000011\.jpg"):
        data.celeba(celeba, crop=12, size=4)


def test_augmented(celeba):
    d = data.celeba(celeba, crop=12, size=4, augmentation={"flip": data.RandomFlip(1.0)})
    index = torch.arange(3)
    with noise.use(noise.PerExample(0, index)):
        assert torch.equal(d.train.batch(index).x, d.train.stored[:3].flip(-1) / 255)
