"""Strips, codebooks and captions: layouts are as said, words fit the numbers, equal calls give equal bytes."""

import numpy as np
import pytest
from PIL import Image

from vaekit.report import codebook_usage, strips, write_message
from vaekit.report.captions import caption

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
HOSTILE = ["$\\frac{", "_hidden", "NK 細胞", "a\nb", "<script>alert(1)</script>", "x" * 300, "\udc80", ""]


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def box(pixels, colour):
    rows, columns = np.nonzero((pixels == colour).all(axis=-1))
    return (rows.min(), rows.max(), columns.min(), columns.max()), len(rows)


def image(colour, size=8):
    return np.broadcast_to(np.array(colour).reshape(3, 1, 1) / 255, (3, size, size))


def words(count):
    return [f"row {number}" for number in range(count)]


@pytest.mark.parametrize("columns", [(), ("1", "2", "3", "4")])
def test_images_lie_in_their_row_and_column(tmp_path, columns):
    images = np.full((3, 4, 3, 8, 8), 0.5)
    images[0, 0], images[0, 3], images[2, 3] = image(RED), image(BLUE), image(GREEN)
    strips(images, tmp_path / "s.png", words(3), columns, "a caption")
    pixels = read(tmp_path / "s.png")
    (red, n), (blue, m), (green, k) = (box(pixels, colour) for colour in (RED, BLUE, GREEN))
    assert n == m == k == 104 * 104
    assert red[:2] == blue[:2]  # one row
    assert blue[2:] == green[2:]  # one column
    assert blue[2] - red[2] == 3 * 110
    assert green[0] - blue[0] == 2 * 110


def test_the_examples_stand_at_both_ends_of_every_row_a_little_apart(tmp_path):
    images = np.zeros((2, 3, 1, 8, 8))
    ends = np.stack([np.full((1, 8, 8), 0.2), np.full((1, 8, 8), 0.8)])
    strips(images, tmp_path / "s.png", words(2), ["0", "1/2", "1"], ends=ends)
    pixels = read(tmp_path / "s.png")
    first, last, between = (box(pixels, (value,) * 3) for value in (51, 204, 0))
    assert first[1] == last[1] == 2 * 104 * 104
    assert between[1] == 2 * 3 * 104 * 104
    assert first[0][3] < between[0][2] < between[0][3] < last[0][2]
    assert between[0][2] - first[0][3] - 1 == last[0][2] - between[0][3] - 1 == 24


def test_nothing_is_cut_off(tmp_path):
    """The paper stays white at its edges, however long the words are."""
    images = np.zeros((len(HOSTILE), 5, 1, 8, 8))
    strips(images, tmp_path / "s.png", HOSTILE, ["-2.75"] * 5, "a very long caption " * 20)
    codebook_usage(np.arange(512), 300.0, tmp_path / "c.png")
    write_message("a prior that was not fitted has a lot to say about what should be done now " * 3, tmp_path / "m.png")
    strips(np.random.default_rng(0).normal(size=(3, 4, 6)), tmp_path / "t.png", HOSTILE[:3], words(4), "caption " * 30)
    for path in tmp_path.iterdir():
        pixels = read(path)
        for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
            assert (edge == 255).all(), path.name


def test_labels_do_not_run_into_the_images(tmp_path):
    """All ink of the longest label lies left of the first image."""
    images = np.broadcast_to(image(RED), (1, 2, 3, 8, 8))
    strips(images, tmp_path / "s.png", ["M" * 40])
    pixels = read(tmp_path / "s.png")
    left = box(pixels, RED)[0][2]
    assert (pixels[:, left - 6 : left] == 255).all()


@pytest.mark.parametrize("size", [1, 8, 28, 64, 200])
def test_any_size_of_images(tmp_path, size):
    strips(np.zeros((1, 11, 1, size, size)), tmp_path / "s.png", ["a"], [str(number) for number in range(11)])
    _, count = box(read(tmp_path / "s.png"), (0, 0, 0))
    assert count % (11 * size * size) == 0


def test_a_table_is_drawn_as_lines(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 7, 4))
    strips(values, tmp_path / "a.png", words(5), words(7), features=["a", "b", "c", "d"])
    strips(values, tmp_path / "b.png", words(5), words(7), features=["a", "b", "c", "d"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    values[0, 0, 0], values[1, 1, 1] = np.nan, np.inf
    strips(values, tmp_path / "c.png", words(5))


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((2, 3, 4, 4), 2, 3), ((2, 3, 1, 4, 4), 1, 3), ((2, 3, 1, 4, 4), 2, 2), ((2, 3), 2, 3)],
)
def test_what_does_not_fit_is_refused(tmp_path, shape, rows, columns):
    with pytest.raises(ValueError, match="received"):
        strips(np.zeros(shape), tmp_path / "s.png", words(rows), words(columns))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: strips(
            np.random.default_rng(0).random((2, 5, 1, 8, 8)), path, ["z[0]", "z[1]"], words(5), "caption"
        ),
        lambda path: codebook_usage(np.array([5, 0, 3, 9]), 2.6, path),
    ],
)
def test_equal_calls_give_equal_bytes(tmp_path, draw):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("counts", [[3], [0, 0, 7], [1] * 4096, list(range(64))])
def test_codebooks_of_any_size(tmp_path, counts):
    codebook_usage(np.array(counts), 1.0, tmp_path / "c.png")
    pixels = read(tmp_path / "c.png")
    assert (pixels == (0, 114, 178)).all(-1).any()  # bars in the colour of the style


def test_the_area_of_a_codebook_is_its_shares(tmp_path):
    """The most frequent code stands at the left, and each bar is as high as its share."""
    codebook_usage(np.array([1, 4, 0, 2]), 2.6, tmp_path / "c.png")
    blue = (read(tmp_path / "c.png") == (0, 114, 178)).all(-1)
    _, columns = np.nonzero(blue)
    width = (columns.max() - columns.min() + 1) / 3  # the fourth code has no bar
    heights = [blue[:, int(columns.min() + (bar + 0.3) * width)].sum() for bar in range(3)]
    assert heights == sorted(heights, reverse=True)
    assert heights[1] / heights[0] == pytest.approx(0.5, abs=0.05)
    assert heights[2] / heights[0] == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([3, 1], "Every code is used"),
        ([3, 0], "1 of 2 codes is never used"),
        ([3, 0, 0], "2 of 3 codes are never used"),
    ],
)
def test_dead_codes_in_words(counts, said, tmp_path, monkeypatch):
    from vaekit.report import codebook

    heard = []
    monkeypatch.setattr(codebook, "heading", lambda axes, *words: heard.extend(words))
    codebook_usage(np.array(counts), 1.75, tmp_path / "c.png")
    assert heard == [said, f"perplexity 1.8 of {len(counts)}"]


@pytest.mark.parametrize("counts", [[[1, 2]], [-1, 2], [np.nan]])
def test_counts_that_are_none_are_refused(counts, tmp_path):
    with pytest.raises(ValueError, match="Counts"):
        codebook_usage(np.array(counts), 1.0, tmp_path / "c.png")


def test_no_examples_no_codebook(tmp_path):
    codebook_usage(np.zeros(4), 1.0, tmp_path / "c.png")
    assert (tmp_path / "c.png").is_file()


def test_pictures_stand_in_the_order_of_the_page():
    names = [
        "reconstructions", "generated_samples", "class_samples", "samples_gmm", "samples_normal", "training",
        "sample_stage0_4x4", "reconstructions_stage0_4x4", "sample_stage1_8x8", "reconstructions_stage1_8x8",
        "sample_stage10_4096x4096", "traversal", "interpolation", "latent_space", "manifold", "codebook_usage",
        "another", "my_own",
    ]  # fmt: skip
    assert sorted(sorted(names), key=caption) == names
    for name in names[:-2]:
        assert caption(name).title
        assert caption(name).text.endswith(".")
    assert (caption("my_own").title, caption("my_own").text) == ("my own", "")
    assert caption("sample_stage1_8x8").title == "Samples of stage 1, 8 x 8"
    assert caption("samples_gmm").title == "Samples from a fitted prior: gmm"
