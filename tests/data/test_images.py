"""Folders of images: pixels by the stated rules, everything unusable listed at once."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vaekit import data

pytestmark = pytest.mark.usefixtures("untouched")

GREY = np.arange(6 * 5, dtype=np.uint8).reshape(6, 5) * 8
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def save(folder, *, n=3, image=None, name="{}.png", **options):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (Image.fromarray(GREY) if image is None else image).save(folder / name.format(i), **options)
    return folder


def pixels(folder, **arguments):
    d = data.images(folder, **arguments)
    assert all(torch.equal(split.stored[0], d.train.stored[0]) for split in (d.validation, d.test))
    return d.train.stored[0]


def chw(values):
    return torch.from_numpy(np.atleast_3d(values).copy()).permute(2, 0, 1)


def test_grey_and_colour(tmp_path):
    assert torch.equal(pixels(save(tmp_path / "grey")), chw(GREY))
    colour = save(tmp_path / "colour", image=Image.fromarray(COLOUR))
    assert torch.equal(pixels(colour), chw(COLOUR))
    assert pixels(colour, mode="L").shape == (1, 6, 5)
    assert torch.equal(pixels(tmp_path / "grey", mode="RGB"), chw(GREY).expand(3, 6, 5))
    d = data.images(colour)
    assert (d.low, d.high) == (COLOUR.min() / 255, pytest.approx(COLOUR.max() / 255))
    assert d.remedies == {}
    assert d.name == "colour"


def test_one_colour_image_makes_all_colour(tmp_path):
    save(tmp_path)
    save(tmp_path, image=Image.fromarray(COLOUR), name="colour{}.png")
    assert data.images(tmp_path).event_shape == (3, 6, 5)


@pytest.mark.parametrize("suffix", ["bmp", "tiff", "webp", "png"])
def test_lossless_formats(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    save(tmp_path, image=Image.fromarray(COLOUR), name="{}." + suffix, **options)
    assert torch.equal(pixels(tmp_path), chw(COLOUR))


def test_jpeg_is_close(tmp_path):
    save(tmp_path, name="{}.JPG", quality=100)
    assert (pixels(tmp_path).int() - chw(GREY).int()).abs().max() <= 4


def test_alpha_is_put_on_white(tmp_path):
    alpha = np.zeros((6, 5), np.uint8)
    alpha[0], alpha[1] = 255, 51
    save(tmp_path, image=Image.fromarray(np.dstack([COLOUR, alpha])))
    seen = pixels(tmp_path)
    assert torch.equal(seen[:, 0], chw(COLOUR)[:, 0])
    expected = chw(COLOUR)[:, 1].float() * 0.2 + 255 * 0.8
    assert (seen[:, 1] - expected).abs().max() <= 1
    assert (seen[:, 2:] == 255).all()


def test_alpha_of_grey_stays_grey(tmp_path):
    save(tmp_path, image=Image.fromarray(GREY).convert("LA"))
    assert torch.equal(pixels(tmp_path), chw(GREY))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    save(tmp_path, image=Image.fromarray(GREY.astype(np.uint16) * 257 + 100), name="{}." + suffix)
    assert torch.equal(pixels(tmp_path), chw(GREY))


@pytest.mark.parametrize("mode", ["P", "CMYK", "1"])
def test_palettes_cmyk_and_bilevel(tmp_path, mode):
    image = Image.fromarray(np.where(GREY > 100, 255, 0).astype(np.uint8)).convert("RGB").convert(mode)
    save(tmp_path, image=image, name="{}.tiff")
    assert torch.equal(pixels(tmp_path, mode="L"), chw(np.where(GREY > 100, 255, 0).astype(np.uint8)))


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("size", [None, (5, 6)])
def test_exif_rotation_is_applied_once(tmp_path, suffix, mode, size):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(GREY).convert(mode)
    save(tmp_path, image=image, name="{}." + suffix, exif=exif)
    assert torch.equal(pixels(tmp_path, mode="L", size=size), chw(np.rot90(GREY, -1)))


def test_the_first_frame_is_taken(tmp_path):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    save(tmp_path, image=first, name="{}.tiff", save_all=True, append_images=[second])
    assert torch.equal(pixels(tmp_path), chw(GREY))


def test_resizing_averages_areas(tmp_path):
    board = (np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8)
    save(tmp_path, image=Image.fromarray(board))
    assert set(pixels(tmp_path, size=4).flatten().tolist()) <= {127, 128}
    d = data.images(tmp_path, size=[2, 4])
    assert d.event_shape == (1, 2, 4)
    assert "resized to 2 x 4" in d.description


def test_different_sizes_are_refused_with_what_to_write(tmp_path):
    save(tmp_path)
    save(tmp_path, n=2, image=Image.fromarray(GREY[:4]), name="small{}.png")
    with pytest.raises(ValueError, match=r"6 x 5 \(3\), 4 x 5 \(2\); expected one. Write data.size=\[6,5\]"):
        data.images(tmp_path)
    assert data.images(tmp_path, size=(4, 4)).event_shape == (1, 4, 4)


@pytest.mark.parametrize("size", [0, -1, [4], [4, 4, 4], 5000, [4.0, 4]])
def test_a_wrong_size_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match=r"expected height and width"):
        data.images(tmp_path, size=size)


def test_a_wrong_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'rgb', expected L"):
        data.images(save(tmp_path), mode="rgb")


def test_folders_of_one_level_are_classes(tmp_path):
    for value, name in ((0, "dark"), (255, "light")):
        save(tmp_path / name, n=5, image=Image.fromarray(np.full((2, 2), value, np.uint8)))
    d = data.images(tmp_path)
    assert d.class_names == ("dark", "light")
    for split in (d.train, d.validation, d.test):
        assert torch.equal(split.labels, (split.stored[:, 0, 0, 0] > 0).long())
    save(tmp_path, n=1, image=Image.fromarray(np.zeros((2, 2), np.uint8)))
    assert data.images(tmp_path).train.labels is None


def test_the_order_is_that_of_the_paths(tmp_path):
    for i in (7, 2, 9, 1):
        save(tmp_path / str(i), n=1, image=Image.fromarray(np.full((2, 2), i, np.uint8)))
    d = data.images(tmp_path, validation=0.25, test=0.25)
    values = sorted(torch.cat([d.train.stored, d.validation.stored, d.test.stored])[:, 0, 0, 0].tolist())
    assert values == [1, 2, 7, 9]
    assert d.train.stored[:, 0, 0, 0].tolist() == sorted(d.train.stored[:, 0, 0, 0].tolist())
    assert data.images(tmp_path, seed=0).fingerprint() == data.images(tmp_path, seed=0).fingerprint()


@pytest.mark.parametrize("layout", ["{part}/{kind}", "{part}"])
def test_folders_called_train_and_test_are_splits_and_no_classes(tmp_path, layout):
    for value, part in ((10, "train"), (20, "val"), (30, "test")):
        for kind in ("a", "b"):
            folder = tmp_path / layout.format(part=part, kind=kind)
            save(folder, n=2, image=Image.fromarray(np.full((2, 2), value, np.uint8)), name=kind + "{}.png")
    d = data.images(tmp_path)
    assert [s.stored.unique().tolist() for s in (d.train, d.validation, d.test)] == [[10], [20], [30]]
    assert d.class_names == (("a", "b") if "kind" in layout else ())
    assert "as the folders say" in d.description


def test_train_and_test_without_validation(tmp_path):
    for value, part in ((10, "train"), (30, "test")):
        save(tmp_path / part, n=10, image=Image.fromarray(np.full((2, 2), value, np.uint8)))
    d = data.images(tmp_path)
    assert [s.stored.unique().tolist() for s in (d.train, d.validation, d.test)] == [[10], [10], [30]]
    assert [len(s) for s in (d.train, d.validation, d.test)] == [9, 1, 10]


@pytest.mark.parametrize("name", ["val", "validation"])
def test_of_train_and_validation_alone_the_second_is_the_test_part(tmp_path, name):
    for value, part in ((10, "train"), (30, name)):
        for kind in ("cat", "dog"):
            save(tmp_path / part / kind, n=5, image=Image.fromarray(np.full((2, 2), value, np.uint8)))
    d = data.images(tmp_path)
    assert [s.stored.unique().tolist() for s in d.splits] == [[10], [10], [30]]
    assert [len(s) for s in d.splits] == [9, 1, 10]
    assert d.class_names == ("cat", "dog")
    assert d.test.labels.tolist() == [0] * 5 + [1] * 5
    assert "test is the folder of validation images, as there is no other" in d.description


def test_the_order_does_not_depend_on_the_threads(tmp_path, monkeypatch):
    for n in range(30):
        save(tmp_path, n=1, image=Image.fromarray(np.full((2, 2), n, np.uint8)), name=f"{n:02}.png")
    seen = data.images(tmp_path)
    monkeypatch.setattr("vaekit.data.decode._WORKERS", 1)
    assert data.images(tmp_path).fingerprint() == seen.fingerprint()


def test_hidden_files_and_text_are_passed_over(tmp_path):
    save(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "README.txt").write_text("words")
    save(tmp_path / ".thumbnails")
    assert len(data.images(tmp_path).train) == 1


def bomb(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_everything_unusable_is_listed_in_one_error(tmp_path):
    save(tmp_path)
    good = (tmp_path / "0.png").read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"words")
    (tmp_path / "bomb.png").write_bytes(bomb(20_000, 20_000))
    (tmp_path / "large.png").write_bytes(bomb(8_000, 4_001))
    (tmp_path / "paper.psd").write_bytes(b"8BPS")
    Image.fromarray(GREY).save(tmp_path / "hidden_gif.png", format="GIF")
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(data.DataFormatError) as caught:
        data.images(tmp_path)
    message = str(caught.value)
    assert "7 of 10 files" in message
    for name in ("empty.png: empty file", "text.png", "bomb.png", "large.png: 8000 x 4001 pixels, expected at most 32"):
        assert name in message
    for name in ("paper.psd", "hidden_gif.png", "float.tiff: values of 32 bits"):
        assert name in message
    assert "0.png" not in message
    assert good


def test_damage_behind_a_good_header_is_listed(tmp_path):
    rng = np.random.default_rng(0)
    save(tmp_path, image=Image.fromarray(rng.integers(0, 256, (50, 50), dtype=np.uint8)))
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(data.DataFormatError, match=r"1 of 3 files.*\n.*1\.png"):
        data.images(tmp_path)


def test_only_the_first_twenty_are_shown(tmp_path):
    save(tmp_path)
    for i in range(30):
        (tmp_path / f"bad{i:02}.png").write_bytes(b"")
    with pytest.raises(data.DataFormatError) as caught:
        data.images(tmp_path)
    assert str(caught.value).count("bad") == 20
    assert "... and 10 more" in str(caught.value)


def test_an_absent_or_empty_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a folder. Write data.path=FOLDER"):
        data.images(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="has no images"):
        data.images(tmp_path)


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 examples leave 0 for training"):
        data.images(save(tmp_path, n=2))


@pytest.mark.parametrize("binarisation", list(data.BINARISATIONS))
def test_binarisations(tmp_path, binarisation):
    d = data.images(save(tmp_path), binarisation=binarisation)
    assert d.binary == (binarisation != "none")
