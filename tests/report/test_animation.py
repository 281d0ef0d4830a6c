"""Frames and the animation of them: one size, forty frames at most, the last one held, below a megabyte, equal bytes."""

import numpy as np
import pytest
from PIL import Image

from vaekit.report import animation, frame

RNG = np.random.default_rng(0)


def numbered(number, height=20):
    """A white frame with a black column at its number."""
    pixels = np.full((height, 256, 3), 255, dtype=np.uint8)
    pixels[:, number] = 0
    return pixels


def shown(path):
    """The number of each frame, and for how many milliseconds it is shown."""
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert image.info["loop"] == 0
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            found.append((int(np.asarray(image.convert("RGB"))[0, :, 0].argmin()), image.info["duration"]))
    return found


def size(path):
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("count", [2, 7, 40])
def test_all_frames_are_shown_in_their_order_and_the_last_is_held(tmp_path, count):
    animation([numbered(number) for number in range(count)], tmp_path / "a.gif")
    assert shown(tmp_path / "a.gif") == [*((number, 180) for number in range(count - 1)), (count - 1, 2500)]


def test_one_frame_is_a_picture(tmp_path):
    animation([numbered(3)], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 1


@pytest.mark.parametrize("count", [41, 100, 256])
def test_of_many_frames_forty_are_shown_evenly_spaced_with_the_first_and_the_last(tmp_path, count):
    animation([numbered(number) for number in range(count)], tmp_path / "a.gif")
    numbers = [number for number, _ in shown(tmp_path / "a.gif")]
    assert numbers == [round(float(place)) for place in np.linspace(0, count - 1, 40)]


def test_frames_come_from_files_and_equal_frames_give_equal_bytes(tmp_path):
    paths = []
    for epoch in range(5):
        paths.append(tmp_path / f"epoch_{epoch:06d}.png")
        frame(RNG.random((32, 1, 8, 8)), paths[-1], f"epoch {epoch}")
    animation(paths, tmp_path / "a.gif")
    animation(paths, tmp_path / "b.gif")
    animation([np.asarray(Image.open(path).convert("RGB")) for path in paths], tmp_path / "c.gif")
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes() == (tmp_path / "c.gif").read_bytes()
    assert len(shown(tmp_path / "a.gif")) == 5
    assert size(tmp_path / "a.gif") == size(paths[0])


def test_the_heaviest_samples_stay_below_a_megabyte(tmp_path):
    """Frames of coloured noise: as many are shown as fit, with the last among them."""
    paths = [tmp_path / f"{epoch}.png" for epoch in range(6)]
    for path in paths:
        Image.fromarray(RNG.integers(0, 256, (500, 600, 3), dtype=np.uint8)).save(path)
    animation(paths, tmp_path / "a.gif")
    assert 2 <= len(shown(tmp_path / "a.gif")) < 6
    assert (tmp_path / "a.gif").stat().st_size < 1_000_000
    assert shown(tmp_path / "a.gif")[-1][1] == 2500
    with Image.open(tmp_path / "a.gif") as image, Image.open(paths[-1]) as last:
        image.seek(image.n_frames - 1)
        error = np.asarray(image.convert("RGB"), float) - np.asarray(last.convert("RGB"), float)
    assert abs(error).mean() < 25  # 64 colours for noise; any other frame is 85 away


@pytest.mark.slow
def test_forty_frames_of_grey_samples_of_8_by_8_all_fit(tmp_path):
    paths = [tmp_path / f"{epoch:02d}.png" for epoch in range(40)]
    for epoch, path in enumerate(paths):
        frame(np.clip(RNG.normal(0.2, 0.3, (32, 1, 8, 8)), 0, 1), path, f"epoch {epoch}")
    animation(paths, tmp_path / "a.gif")
    assert (tmp_path / "a.gif").stat().st_size < 1_000_000
    assert len(shown(tmp_path / "a.gif")) >= 30


def test_frames_of_different_sizes_and_no_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one size"):
        animation([numbered(0), numbered(1, height=21)], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="received 0"):
        animation([], tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "shape", [(1, 4, 4), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 128, 128), (3, 218, 178), (1, 1, 90)]
)
def test_a_frame_has_one_size_whatever_the_images(tmp_path, shape):
    frame(RNG.random((40, *shape)), tmp_path / "a.png", "epoch 1")
    frame(RNG.random((3, 1, 8, 8)), tmp_path / "b.png", "epoch 1000")
    assert size(tmp_path / "a.png") == size(tmp_path / "b.png")


def test_pixels_of_small_images_stay_crisp(tmp_path):
    frame(np.zeros((32, 1, 4, 4)), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        black = (np.asarray(image.convert("RGB")) == 0).all(-1)
    assert black.sum() == 32 * 64 * 64
    rows, columns = np.nonzero(black)
    assert np.ptp(rows) + 1 == 4 * 64 + 3 * 4
    assert np.ptp(columns) + 1 == 8 * 64 + 7 * 4


def test_the_epoch_is_written_into_the_frame(tmp_path):
    for epoch in (1, 2):
        frame(np.zeros((32, 1, 8, 8)), tmp_path / f"{epoch}.png", f"epoch {epoch}")
    assert (tmp_path / "1.png").read_bytes() != (tmp_path / "2.png").read_bytes()


def test_tables_have_frames_too(tmp_path):
    for number in range(3):
        frame(RNG.normal(size=(64, 5)), tmp_path / f"{number}.png", f"epoch {number}")
    animation([tmp_path / f"{number}.png" for number in range(3)], tmp_path / "a.gif")
    assert len(shown(tmp_path / "a.gif")) == 3
