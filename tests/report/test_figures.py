"""The figures: pixels are the data, layouts are as said, equal calls give equal bytes, odd input is drawn too."""

import math

import numpy as np
import pytest
from PIL import Image

from vaekit.report import (
    curves,
    generated_samples,
    latent,
    latent_space,
    latent_spectrum,
    manifold,
    reconstructions,
    training_losses,
)
from vaekit.report.tiles import NOT_A_NUMBER, to_pixels

RED, BLUE = (255, 0, 0), (0, 0, 255)
HOSTILE = ["$\\frac{", "_hidden", "NK 細胞", "a\nb", "<script>alert(1)</script>", "x" * 300, "\udc80", ""]


def read(path):
    with Image.open(path) as image:
        assert image.info.keys() <= {"dpi"}
        return np.asarray(image.convert("RGB"))


def places(pixels, colour):
    rows, columns = np.nonzero((pixels == colour).all(axis=-1))
    return rows, columns


def flat(colour, count=1, height=8, width=8):
    return np.broadcast_to(np.array(colour).reshape(1, 3, 1, 1) / 255, (count, 3, height, width))


@pytest.mark.parametrize(
    ("value", "pixel"), [(1.01, 255), (-0.01, 0), (0.5, 128), (math.inf, 255), (-math.inf, 0), (1.0, 255), (0.0, 0)]
)
def test_values_are_clipped_before_they_become_bytes(value, pixel):
    assert (to_pixels(np.full((1, 1, 2, 2), value)) == pixel).all()


def test_the_display_range_is_black_to_white():
    shown = to_pixels(np.array([-1.0, 0.0, 1.0, 7.0]).reshape(4, 1, 1, 1), low=-1.0, high=1.0)
    assert shown[:, 0, 0, 0].tolist() == [0, 128, 255, 255]


def test_a_nan_pixel_is_neither_black_nor_white():
    images = np.zeros((1, 1, 2, 2))
    images[0, 0, 0, 1] = np.nan
    assert tuple(to_pixels(images)[0, 0, 1]) == NOT_A_NUMBER


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8)), np.zeros(4)])
def test_a_missing_channel_axis_is_named(images):
    with pytest.raises(ValueError, match="channel axis"):
        to_pixels(images)


def test_an_empty_display_range_is_refused():
    with pytest.raises(ValueError, match="low < high"):
        to_pixels(np.zeros((1, 1, 2, 2)), low=1.0, high=1.0)


def test_values_out_of_range_do_not_wrap_in_the_file(tmp_path):
    bright, dark = np.full((4, 1, 28, 28), 1.01), np.full((4, 1, 28, 28), -0.01)
    reconstructions(bright, dark, tmp_path / "r.png")
    pixels = read(tmp_path / "r.png")
    rows, columns = places(pixels, (0, 0, 0))
    assert len(rows) == 4 * 112 * 112  # the reconstructions and nothing else
    assert (pixels[rows.min() - 100, columns] == 255).all()  # above each, its original


@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 20), (28, 28), (64, 64), (1, 1), (3, 40), (300, 200)])
def test_originals_lie_right_above_their_reconstructions(tmp_path, height, width):
    reconstructions(flat(RED, 3, height, width), flat(BLUE, 3, height, width), tmp_path / "r.png", "a caption")
    pixels = read(tmp_path / "r.png")
    (above, left), (below, same_left) = places(pixels, RED), places(pixels, BLUE)
    assert above.max() < below.min()
    assert len(above) == len(below) > 0
    assert set(left) == set(same_left)
    # whole pixels, every one enlarged alike: three equal rectangles
    assert len(above) % (3 * height * width) == 0
    assert math.isqrt(len(above) // (3 * height * width)) ** 2 * 3 * height * width == len(above)


def test_more_examples_than_a_row_holds_keep_their_pairs(tmp_path):
    reconstructions(flat(RED, 30), flat(BLUE, 30), tmp_path / "r.png")
    pixels = read(tmp_path / "r.png")
    kinds = [
        kind
        for row in pixels
        for kind in ("R" if (row == RED).all(-1).any() else "B" if (row == BLUE).all(-1).any() else "",)
        if kind
    ]
    order = "".join(kind for kind, before in zip(kinds, ["", *kinds[:-1]], strict=True) if kind != before)
    assert order == "RB" * 3
    assert pixels.shape[1] < 1700


def test_a_grey_image_is_drawn_once(tmp_path):
    ramp = np.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    generated_samples(ramp, tmp_path / "grey.png")
    generated_samples(np.repeat(ramp, 3, axis=1), tmp_path / "rgb.png")
    assert (tmp_path / "grey.png").read_bytes() == (tmp_path / "rgb.png").read_bytes()
    pixels = read(tmp_path / "grey.png")
    assert len(places(pixels, (0, 0, 0))[0]) == 11 * 11  # the one black pixel of the one tile


def test_samples_form_a_square(tmp_path):
    generated_samples(np.zeros((64, 1, 28, 28)), tmp_path / "g.png")
    rows, columns = places(read(tmp_path / "g.png"), (0, 0, 0))
    assert np.ptp(rows) == np.ptp(columns)


def test_samples_of_classes_form_columns_below_their_names(tmp_path):
    images = np.full((20, 3, 8, 8), 0.5)
    images[7::10] = flat(RED)[0]
    generated_samples(images, tmp_path / "c.png", columns=[str(k) for k in range(10)])
    pixels = read(tmp_path / "c.png")
    rows, columns = places(pixels, RED)
    assert np.ptp(columns) + 1 == 88
    assert np.ptp(rows) + 1 == 2 * 88 + 6
    assert (pixels[: rows.min(), columns.min() : columns.max()] < 200).any()  # its name
    assert not (pixels[: rows.min(), columns.max() + 1 : columns.max() + 6] < 200).any()


def test_the_plane_lies_as_its_images_lie(tmp_path):
    images = np.full((3, 3, 3, 8, 8), 0.5)
    images[0, 2], images[2, 0] = flat(RED)[0], flat(BLUE)[0]
    manifold(images, tmp_path / "m.png", ("z[0]", "z[1]"), np.array([-1.0, 0.0, 1.0]))
    pixels = read(tmp_path / "m.png")
    (red_rows, red_columns), (blue_rows, blue_columns) = places(pixels, RED), places(pixels, BLUE)
    assert red_rows.max() < blue_rows.min()
    assert red_columns.min() > blue_columns.max()


def test_shapes_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one shape"):
        reconstructions(np.zeros((2, 1, 8, 8)), np.zeros((2, 1, 8, 9)), tmp_path / "x.png")
    with pytest.raises(ValueError, match="coordinates"):
        manifold(np.zeros((3, 3, 1, 8, 8)), tmp_path / "x.png", ("a", "b"), np.zeros(4))
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        latent_space(np.zeros((5, 3)), None, [], ("a", "b"), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def rows_of_a_run(count):
    keys = ("train/recon_loss", "train/kl_loss", "val/recon_loss", "val/kl_loss")
    return [{"step": 7 * n, "epoch": n, **dict.fromkeys(keys, 50.0 / n)} for n in range(1, count + 1)]


def odd_rows():
    rows = rows_of_a_run(6)
    rows[2]["train/kl_loss"], rows[4]["val/kl_loss"] = math.nan, 1e300
    return rows


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def broken(values):
    values = values.copy()
    values.flat[::7], values.flat[::11] = np.nan, np.inf
    return values


FIGURES = {
    "no-epochs": lambda path: training_losses([], path),
    "one-epoch": lambda path: training_losses(rows_of_a_run(1), path),
    "run": lambda path: training_losses(rows_of_a_run(40), path),
    "nan-run": lambda path: training_losses(odd_rows(), path),
    "all-nan-run": lambda path: training_losses([{"epoch": 1, "train/elbo": math.nan}], path),
    "steps": lambda path: training_losses([{"step": n, "train/kl_loss": 1.0} for n in range(9)], path),
    "images": lambda path: reconstructions(normal(5, 1, 8, 8), normal(5, 1, 8, 8), path, HOSTILE[0]),
    "no-images": lambda path: reconstructions(normal(0, 1, 8, 8), normal(0, 1, 8, 8), path),
    "two-channels": lambda path: generated_samples(normal(5, 2, 8, 8), path, low=-3.0, high=3.0),
    "table": lambda path: reconstructions(normal(5, 8), broken(normal(5, 8)), path, HOSTILE[4], features=HOSTILE),
    "wide-table": lambda path: reconstructions(normal(1, 2000), normal(1, 2000), path),
    "narrow-table": lambda path: reconstructions(normal(3, 1), normal(3, 1), path, features=["only"]),
    "table-samples": lambda path: generated_samples(normal(64, 8), path, HOSTILE[5], features=HOSTILE),
    "counts": lambda path: generated_samples(np.abs(normal(20, 500)), path),
    "nan-samples": lambda path: generated_samples(np.full((4, 3), np.nan), path),
    "constant-samples": lambda path: generated_samples(np.ones((4, 3)), path),
    "latent": lambda path: latent_space(normal(300, 2), np.arange(300) % 10, HOSTILE, (HOSTILE[0], HOSTILE[2]), path),
    "latent-many-classes": lambda path: latent_space(normal(300, 2), np.arange(300) % 40, [], ("a", "b"), path),
    "latent-unlabelled": lambda path: latent_space(broken(normal(300, 2)), None, [], ("a", "b"), path),
    "latent-one-point": lambda path: latent_space(np.array([[1e9, 0.0]]), np.array([-1]), [], ("a", "b"), path),
    "latent-nan": lambda path: latent_space(np.full((3, 2), np.nan), None, [], ("a", "b"), path),
    "spectrum": lambda path: latent_spectrum(np.exp(normal(20)), normal(20) ** 2, HOSTILE[:4] * 5, path),
    "spectrum-wide": lambda path: latent_spectrum(broken(np.exp(normal(300))), None, ["z"] * 300, path),
    "spectrum-nan": lambda path: latent_spectrum(np.full(3, np.nan), None, ["z"] * 3, path),
    "spectrum-dead": lambda path: latent_spectrum(np.zeros(1), np.zeros(1), ["z[0]"], path),
    "plane": lambda path: manifold(normal(5, 5, 1, 8, 8), path, (HOSTILE[0], HOSTILE[2]), np.linspace(-2, 2, 5)),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_every_figure_is_written_once_whole_and_with_equal_bytes(draw, tmp_path):
    draw(tmp_path / "new" / "a.png")
    draw(tmp_path / "new" / "b.png")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"a.png", "b.png"}  # no drafts are left
    assert (tmp_path / "new" / "a.png").read_bytes() == (tmp_path / "new" / "b.png").read_bytes()
    height, width, _ = read(tmp_path / "new" / "a.png").shape
    assert 150 <= height <= 2400
    assert 300 <= width <= 2400


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn."""
    kept = []
    for module in (curves, latent):
        monkeypatch.setattr(module, "write_png", lambda figure, path: kept.append(figure))
    return kept


def test_the_best_epoch_stands_above_the_lines(drawn, tmp_path):
    training_losses(rows_of_a_run(40), tmp_path / "x.png")
    axes = drawn[0].axes[0]
    assert axes.get_title("center") == "best 2.5 at epoch 40"
    drawn[0].canvas.draw()
    left, middle, right = (text.get_window_extent() for text in (axes._left_title, axes.title, axes._right_title))
    assert left.x1 < middle.x0 < middle.x1 < right.x0
    assert middle.y0 > axes.get_window_extent().y1


def test_the_latent_space_shows_all_examples(drawn, tmp_path):
    points = normal(1000, 2)
    points[0] = 5.0, 0.0
    latent_space(points, None, [], ("a", "b"), tmp_path / "x.png")
    assert drawn[0].axes[0].get_xlim()[1] > 5.0
    assert drawn[0].axes[0].get_title("left") == "1,000 examples"


@pytest.mark.parametrize("count", [2, 50, 1000])
def test_an_outlier_does_not_squash_the_others_and_is_told(count, drawn, tmp_path):
    points = normal(count, 2)
    points[0] = 1e6, 0.0
    latent_space(points, None, [], ("a", "b"), tmp_path / "x.png")
    assert drawn[0].axes[0].get_xlim()[1] < 15
    assert drawn[0].axes[0].get_title("left").endswith("examples; 1 outside of the picture")


def test_more_features_than_lines_can_show_are_points_over_their_originals(tmp_path):
    """A reconstruction of twice the value lies above the diagonal, and nothing of it below."""
    originals = np.linspace(0, 1, 2000)[None].repeat(2, 0)
    reconstructions(originals, originals * 2, tmp_path / "points.png")
    reconstructions(originals, originals, tmp_path / "same.png")
    reconstructions(originals[:, :300], originals[:, :300], tmp_path / "lines.png")

    def coloured(name: str) -> np.ndarray:
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)[150:]  # below the legend
        return np.argwhere((pixels[..., 0] > 180) & (pixels[..., 2] < 60))

    assert len(coloured("points.png")) > 0.2 * len(coloured("same.png")) > 0
    # steeper: as high, over as many columns
    assert np.ptp(coloured("points.png")[:, 0]) > 100
