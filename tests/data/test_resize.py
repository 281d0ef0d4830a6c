"""Images become squares by the stated rule, and every new pixel is the mean of the area that it covers."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from vaekit import data
from vaekit.data.resize import area_resize, fit_description, fit_square, fitted_size, overlaps

pytestmark = pytest.mark.usefixtures("untouched")

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("size", "resolution", "fitted"),
    [
        ((28, 28), 32, (28, 28)),
        ((28, 20), 32, (28, 20)),
        ((24, 24), 32, (24, 24)),
        ((24, 3), 32, (24, 3)),
        ((23, 23), 32, (32, 32)),
        ((32, 32), 32, (32, 32)),
        ((33, 33), 32, (32, 32)),
        ((8, 8), 32, (32, 32)),
        ((28, 20), 64, (64, 46)),  # 45.7
        ((100, 1), 10, (10, 1)),  # 0.1, but no image is without a pixel
        ((1, 1000), 1, (1, 1)),
        ((218, 178), 64, (64, 52)),  # 52.3
        ((3, 4), 6, (5, 6)),  # 4.5, rounded up
    ],
)
def test_the_longer_side_decides(size, resolution, fitted):
    assert fitted_size(size, resolution) == fitted
    assert fitted_size(size[::-1], resolution) == fitted[::-1]


def by_definition(image, new):
    """The mean over the area of each new pixel, in fractions."""
    (old_h, old_w), (h, w) = image.shape, new

    def overlap(i, n, j, old):
        low, high = max(Fraction(i * old, n), j), min(Fraction((i + 1) * old, n), j + 1)
        return max(high - low, Fraction(0))

    def pixel(i, j):
        total = sum(
            overlap(i, h, a, old_h) * overlap(j, w, b, old_w) * int(image[a, b])
            for a in range(old_h)
            for b in range(old_w)
        )
        return total / (Fraction(old_h, h) * Fraction(old_w, w))

    return [[pixel(i, j) for j in range(w)] for i in range(h)]


@pytest.mark.parametrize("new", [(4, 3), (3, 9), (10, 14), (1, 1), (5, 7), (7, 2)])
def test_area_means_are_exact(new):
    image = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
    expected = by_definition(image, new)
    stored = torch.from_numpy(image)[None, None]
    assert area_resize(stored, new)[0, 0].tolist() == [[round(value) for value in row] for row in expected]
    exact = torch.tensor([[float(value) for value in row] for row in expected], dtype=torch.float64)
    torch.testing.assert_close(area_resize(stored.double(), new)[0, 0], exact)


def test_more_than_fits_at_once_and_sums_beyond_float32(monkeypatch):
    many = torch.from_numpy(RNG.integers(0, 256, (7, 3, 6, 6), dtype=np.uint8))
    whole = area_resize(many, (4, 5))
    monkeypatch.setattr("vaekit.data.resize._AT_ONCE", 80)
    assert torch.equal(area_resize(many, (4, 5)), whole)
    # 255 * 301^2 is above 2**24; a mean of 254.5 + a little is 255
    large = torch.full((1, 1, 301, 301), 255, dtype=torch.uint8)
    large.view(-1)[: 301 * 301 // 2] = 254
    assert area_resize(large, (1, 1)).item() == 255


def test_each_old_pixel_is_shared_out_whole():
    shares = overlaps(7, 3)
    assert shares.sum(1).tolist() == [7, 7, 7]
    assert shares.sum(0).tolist() == [3] * 7


def test_padding_is_centred_and_zero():
    image = torch.arange(1, 4, dtype=torch.uint8).reshape(1, 1, 3, 1)
    assert fit_square(image, 4)[0, 0].tolist() == [[0, 1, 0, 0], [0, 2, 0, 0], [0, 3, 0, 0], [0, 0, 0, 0]]


def test_what_is_done_is_said():
    assert fit_description((32, 32), 32) == ""
    assert fit_description((28, 20), 32) == "padded with zeros from 28 x 20 to 32 x 32 pixels"
    assert fit_description((8, 8), 32) == "resized from 8 x 8 to 32 x 32 pixels by averaging areas"
    assert fit_description((100, 50), 10) == (
        "resized from 100 x 50 to 10 x 5 pixels by averaging areas, padded with zeros from 10 x 5 to 10 x 10 pixels"
    )


def test_digits_are_repeated_fourfold():
    small, large = data.named("digits"), data.named("digits", resolution=32)
    assert large.event_shape == (1, 32, 32)
    assert large.levels == 17
    assert torch.equal(large.test.stored, small.test.stored.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert "resized from 8 x 8 to 32 x 32 pixels by averaging areas" in large.description
    assert torch.equal(large.test.labels, small.test.labels)


@pytest.mark.parametrize("name", ["mnist", "freyfaces"])
def test_images_of_nearly_the_size_are_padded(need, name):
    need(name)
    small, large = data.named(name), data.named(name, resolution=32)
    assert large.event_shape == (1, 32, 32)
    width = small.event_shape[2]
    left = (32 - width) // 2
    assert torch.equal(large.test.stored[:, :, 2:30, left : left + width], small.test.stored)
    assert large.test.stored.sum() == small.test.stored.sum()
    assert "padded with zeros" in large.description


def test_arrays(tmp_path):
    np.save(tmp_path / "grey.npy", RNG.integers(0, 256, (20, 6, 4), dtype=np.uint8))
    np.save(tmp_path / "float.npy", RNG.random((20, 3, 6, 4)).astype(np.float32))
    np.save(tmp_path / "table.npy", RNG.random((20, 4)))
    assert data.array(tmp_path / "grey.npy", resolution=3, scale=255).levels == 256
    d = data.array(tmp_path / "float.npy", resolution=12)
    assert (d.event_shape, d.train.stored.dtype, d.levels) == ((3, 12, 12), torch.float32, None)
    with pytest.raises(
        ValueError, match=r"^data.resolution=8 expects images, received a table of 4 features from table"
    ):
        data.array(tmp_path / "table.npy", resolution=8)


@pytest.mark.parametrize("resolution", [0, -3, 5000, 2.5, True])
def test_a_wrong_resolution_is_refused(tmp_path, resolution):
    with pytest.raises(ValueError, match=r"expected a whole number of pixels from 1 to 4096") as caught:
        data.named("digits", resolution=resolution)
    assert "\n" not in str(caught.value)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="whole number of pixels"):
        data.images(tmp_path, resolution=resolution)


def test_files_of_any_size_become_squares(tmp_path):
    sizes = [(4, 3), (8, 8), (20, 10), (2, 5)]  # width and height
    for number, size in enumerate(sizes):
        Image.new("L", size, 100).save(tmp_path / f"{number}.png")
    d = data.images(tmp_path, resolution=4, validation=0.25, test=0.25)
    seen = torch.cat([split.stored for split in d.splits])
    assert sorted(seen.flatten(1).sum(1).tolist()) == sorted(100 * n for n in (4 * 3, 4 * 4, 4 * 2, 2 * 4))
    assert set(seen.unique().tolist()) == {0, 100}
    assert "longer side of 3 to 4 pixels padded with zeros, others resized" in d.description
    both = data.images(tmp_path, size=[2, 4], resolution=8)
    assert both.event_shape == (1, 8, 8)
    assert "resized to 2 x 4, resized from 2 x 4 to 4 x 8 pixels by averaging areas, padded" in both.description
