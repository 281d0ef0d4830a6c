"""Augmented images are parts of the original, drawn as stated, and of the training part alone."""

import math

import numpy as np
import pytest
import torch

from vaekit import data
from vaekit.data.door import Parts, Wishes, admit
from vaekit.data.transforms import Scale
from vaekit.distributions import noise

FLIP, CROP = data.RandomFlip(), data.RandomResizedCrop()


def ramp(n, height, width, across):
    """Images whose values are the coordinates of the pixels' centres, in pixels: linear, so that bilinear sampling is exact."""
    x = (
        torch.arange(width, dtype=torch.float64) + 0.5
        if across
        else torch.arange(height, dtype=torch.float64)[:, None] + 0.5
    )
    return x.expand(n, 1, height, width).clone()


def test_flips_are_mirror_images_with_their_probability():
    n = 20_000
    torch.manual_seed(0)
    x = ramp(n, 2, 3, across=True)
    seen = data.RandomFlip(0.3)(x)
    mirrored = (seen == x.flip(-1)).flatten(1).all(1)
    assert (mirrored ^ (seen == x).flatten(1).all(1)).all()
    # false alarm: 6e-5
    assert abs(mirrored.double().mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / n)
    assert torch.equal(data.RandomFlip(1.0)(x), x.flip(-1))
    assert torch.equal(data.RandomFlip(0.0)(x), x)


def test_crops_show_the_rectangles_that_they_draw(monkeypatch):
    n, height, width = 500, 12, 20
    drawn = []
    rectangles = data.RandomResizedCrop.rectangles

    def record(self, x):
        drawn.append(rectangles(self, x))
        return drawn[-1]

    monkeypatch.setattr(data.RandomResizedCrop, "rectangles", record)
    crop = data.RandomResizedCrop(scale=(0.2, 0.9))
    for across, side in ((True, width), (False, height)):
        seen = crop(ramp(n, height, width, across))
        share, first = drawn[-1][:, 0 if across else 1], drawn[-1][:, 2 if across else 3]
        centres = (torch.arange(side, dtype=torch.float64) + 0.5) / side
        expected = (first[:, None] + share[:, None] * centres) * side
        line = seen[:, 0, 0] if across else seen[:, 0, :, 0]
        # at the border, values are those of the outermost pixels
        torch.testing.assert_close(line, expected.clamp(0.5, side - 0.5))


def test_rectangles_have_the_stated_areas_and_ratios_and_lie_inside():
    n, height, width = 20_000, 30, 20
    torch.manual_seed(1)
    crop = data.RandomResizedCrop(scale=(0.1, 0.4), ratio=(0.5, 2.0))
    w, h, left, top = crop.rectangles(torch.zeros(n, 1, height, width, dtype=torch.float64)).unbind(1)
    for low, share in ((left, w), (top, h)):
        assert (low >= 0).all()
        assert (low + share <= 1 + 1e-12).all()
    area, ratio = w * h, (w * width) / (h * height)
    whole = w < 1  # none is cut to the image's width
    assert whole.double().mean() > 0.8
    assert (area.min(), area.max()) == (pytest.approx(0.1, abs=0.01), pytest.approx(0.4, abs=1e-3))
    assert ratio.min() == pytest.approx(0.5, abs=1e-3)
    small = data.RandomResizedCrop(scale=(0.1, 0.2), ratio=(0.5, 2.0)).rectangles(
        torch.zeros(n, 1, 40, 40, dtype=torch.float64)
    )
    logarithm = (small[:, 0] / small[:, 1]).log()
    # uniform over +-log 2: mean 0, variance log(2)^2 / 3; false alarm: 6e-5 each
    deviation = math.log(2) / math.sqrt(3)
    assert abs(logarithm.mean()) < 4 * deviation / math.sqrt(n)
    assert abs((small[:, 0] * small[:, 1]).mean() - 0.15) < 4 * 0.1 / math.sqrt(12 * n)


def test_the_whole_area_is_the_image_itself():
    x = torch.rand(5, 3, 9, 7, dtype=torch.float64)
    whole = data.RandomResizedCrop(scale=(1.0, 1.0), ratio=(7 / 9, 7 / 9))
    torch.testing.assert_close(whole(x), x)


def test_no_value_leaves_the_range_of_its_image():
    torch.manual_seed(0)
    x = torch.where(torch.rand(200, 1, 16, 16) < 0.5, 0.1, 1.0)
    seen = data.RandomResizedCrop(scale=(0.05, 0.5))(x)
    assert seen.min() >= x.min()
    assert seen.max() <= 1


@pytest.mark.parametrize("augmentation", [FLIP, CROP])
def test_noise_belongs_to_the_example(augmentation):
    x = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))

    def shown(index):
        with noise.use(noise.PerExample(5, index)):
            return augmentation(x[index])

    whole = shown(torch.arange(8))
    torch.testing.assert_close(shown(torch.tensor([6, 1])), whole[[6, 1]], rtol=0, atol=0)
    torch.manual_seed(3)
    first = augmentation(x)
    torch.manual_seed(3)
    assert torch.equal(augmentation(x), first)


def dataset(binarisation="none", values=None, scale=255, **augmentation):
    stored = (
        torch.randint(0, 256, (40, 1, 6, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        if values is None
        else values
    )
    split = data.Split(stored, (Scale(scale),))
    parts = Parts((split, split, split), scaling="value / 255", splitting="three times the same")
    return admit("test", parts, Wishes(binarisation, augmentation=augmentation))


ALL = torch.arange(40)


def test_only_training_images_are_augmented_and_it_is_said():
    torch.manual_seed(0)
    plain, d = dataset(), dataset(flip=FLIP, crop=CROP)
    for part in ("validation", "test"):
        assert torch.equal(d.split(part).batch(ALL).x, plain.test.batch(ALL).x)
    assert not torch.equal(d.train.batch(ALL).x, plain.train.batch(ALL).x)
    assert d.fingerprint() == plain.fingerprint()
    assert (
        "training images mirrored left to right with probability 0.5, then cropped at random to 0.8 to 1 of"
        in d.description
    )
    assert "mirrored" not in plain.description


def test_cropped_bytes_stay_bytes():
    torch.manual_seed(0)
    d = dataset(crop=CROP)
    assert d.levels == 256
    x = d.train.batch(ALL).x
    levels = torch.arange(256, dtype=torch.uint8)
    assert set(x.flatten().tolist()) <= set((levels.float() / 255).tolist())
    assert len(x.unique()) > 100


@pytest.mark.parametrize("binarisation", ["threshold", "dynamic"])
def test_binarisation_comes_last(binarisation):
    torch.manual_seed(0)
    d = dataset(binarisation, crop=CROP, flip=FLIP)
    assert set(d.train.batch(ALL).x.unique().tolist()) == {0.0, 1.0}
    assert [type(t) for t in d.train.transforms[1:3]] == [data.RandomResizedCrop, data.RandomFlip]
    assert (d.binary, d.levels) == (True, 2)


def test_what_was_drawn_already_is_flipped_but_not_cropped():
    d = dataset("static", flip=data.RandomFlip(1.0))
    assert torch.equal(d.train.batch(ALL).x, d.train.stored.flip(-1).float())
    with pytest.raises(
        ValueError, match=r"data.augmentation.crop makes values between.*Write data.binarisation=threshold or dynamic"
    ):
        dataset("static", crop=CROP)


def test_binary_images_stay_binary_or_are_refused():
    torch.manual_seed(0)
    ones = torch.randint(0, 2, (40, 1, 6, 6)).to(torch.uint8)
    assert set(dataset(values=ones, scale=1, crop=CROP).train.batch(ALL).x.unique().tolist()) == {0.0, 1.0}
    with pytest.raises(ValueError, match="are 0 or 1 already"):
        dataset(values=ones * 255, crop=CROP)
    assert dataset("threshold", values=ones * 255, crop=CROP).binary


def test_tables_are_refused(tmp_path):
    np.save(tmp_path / "table.npy", np.random.default_rng(0).random((20, 4)))
    with pytest.raises(ValueError, match=r"^data.augmentation expects images, received a table of 4 features"):
        data.array(tmp_path / "table.npy", augmentation={"flip": FLIP})


@pytest.mark.parametrize(
    "make",
    [
        lambda: data.RandomFlip(1.5),
        lambda: data.RandomFlip(math.nan),
        lambda: data.RandomResizedCrop(scale=(0.0, 1.0)),
        lambda: data.RandomResizedCrop(scale=(0.9, 0.8)),
        lambda: data.RandomResizedCrop(scale=(0.5, 1.1)),
        lambda: data.RandomResizedCrop(ratio=(1.0,)),
        lambda: data.RandomResizedCrop(ratio=(1.0, math.inf)),
    ],
)
def test_wrong_arguments_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_a_configuration_names_them():
    from vaekit.builder import build

    node = {"kind": "data.named", "name": "digits", "augmentation": {"a": {"kind": "data.RandomFlip", "p": 1.0}}}
    d = build(node, where="data")
    index = torch.arange(3)
    assert torch.equal(d.train.batch(index).x, d.train.stored[:3].flip(-1) / 16)
