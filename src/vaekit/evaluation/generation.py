"""How like the data the images are that a model makes up: distances and overlaps of two sets in the features of a network."""

# N images of either set, D features, G groups, (C, H, W) image

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vaekit.data.batch import Dataset, Split
from vaekit.data.transforms import Dynamic
from vaekit.errors import ConfigError
from vaekit.evaluation.features import (
    INCEPTION_SHA256,
    INCEPTION_SIDE,
    SIDE,
    efficientnet_features,
    inception_features,
    need_packages,
)
from vaekit.evaluation.passes import Plan, batches
from vaekit.evaluation.pictures import samples
from vaekit.evaluation.similarity import reconstruction_estimates
from vaekit.evaluation.units import Estimate
from vaekit.math.jackknife import jackknife_error, left_out
from vaekit.math.neighbours import density_coverage, precision_recall, squared_distances
from vaekit.models.vae import VAE

# as many as published numbers are made with, where there are as many
MOST = 10_000
# parts that a set is divided into for its standard errors, and the least that leaves each of them two images
GROUPS = 10
LEAST = 2 * GROUPS
# images in a block of the kernel distance, where there are enough
_BLOCK = 1000
# images decoded at a time. It does not follow the batch size, so numbers do not either
_CHUNK = 250
_NETWORK = "efflite0"
_EFFICIENTNET = (
    f"resized to {SIDE} x {SIDE} pixels (bilinear, antialiased), pooled features of EfficientNet-lite0 (ImageNet)"
)
_INCEPTION = (
    f"resized to {INCEPTION_SIDE} x {INCEPTION_SIDE} pixels (bilinear as in TensorFlow 1, not antialiased), pooled features of "
    f"Inception-v3 of 2015-12-05 (SHA-256 {INCEPTION_SHA256[:8]}...)"
)
_OVERLAPS = ("precision", "recall", "density", "coverage")


@dataclass(frozen=True)
class Sets:
    """Features of as many real as generated images, each (N, D), on the CPU.

    Attributes:
        real: Of images of a split.
        fake: Of the model's own.
        seed: Of the division into groups.
    """

    real: Tensor
    fake: Tensor
    seed: int

    def kept(self, index: Tensor) -> Sets:
        """Those at these positions."""
        return replace(self, real=self.real[index], fake=self.fake[index])


def generation_estimates(
    model: VAE,
    dataset: Dataset,
    split: str,
    plan: Plan,
    count: int | None = None,
    inception_weights: Path | None = None,
) -> dict[str, Estimate]:
    """All numbers about generated images and reconstructions.

    Arguments:
        model: Of images.
        dataset: What it was trained on.
        split: train, validation or test.
        plan: Batch size and seed; the numbers of generated images do not depend on the batch size.
        count: Generated images, and as many of the split; by default as many as the split has, at most 10,000.
        inception_weights: The file of the weights that `fid` is defined by; without it there is no `fid`.

    Returns:
        `fid` where its weights are given, `fd_efflite0`, `kd_efflite0`, `precision_efflite0`, `recall_efflite0`,
        `density_efflite0`, `coverage_efflite0`, `mse`, `psnr`, and `ssim` where images are large enough.

    Raises:
        ConfigError: If the data are no images, there are too few, a package is missing, or the file is not that of the weights.
    """
    data = dataset.split(split)
    count = _checked(model, len(data), count)
    need_packages()
    device = next(model.parameters()).device
    # what is refused is refused before images are made
    fid_features = None if inception_weights is None else inception_features(inception_weights, device)
    features = efficientnet_features(device)
    low, high = limits(dataset)
    real, context = real_images(data, plan, count)
    fake = generated_images(model, count, plan.seed, context if model.conditional else None)
    real, fake = unit_interval(real, low, high), unit_interval(fake, low, high)
    given = ", each under the conditions of a real image" if model.conditional else ""
    compared = (
        f"{count:,} samples from the prior{given}, means of p(x|z), against {count:,} {split} images; {_rules(data)}"
    )
    found = {}
    if fid_features is not None:
        sets = Sets(fid_features(real), fid_features(fake), plan.seed)
        found["fid"] = frechet_estimate(sets, f"{compared}, {_INCEPTION}")
    sets, words = Sets(features(real), features(fake), plan.seed), f"{compared}, {_EFFICIENTNET}"
    return found | {
        "fd_efflite0": frechet_estimate(sets, words),
        "kd_efflite0": kernel_estimate(sets, words),
        **overlap_estimates(sets, words),
        **reconstruction_estimates(model, data, plan, low, high),
    }


def _checked(model: VAE, available: int, count: int | None) -> int:
    shape = tuple(model.event_shape)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ConfigError(
            f"--generation compares images of shape (1 or 3, height, width), and this model's examples have shape {shape}."
        )
    if available < LEAST:
        raise ConfigError(f"--generation needs at least {LEAST} images in the split, which has {available}.")
    count = min(available, MOST) if count is None else count
    if not LEAST <= count <= available:
        raise ConfigError(
            f"--count is {count:,}, expected a number from {LEAST} to {available:,}: as many images of the split are compared."
        )
    return count


def _rules(split: Split) -> str:
    before = " before their binarisation" if _binarised(split) else ""
    return f"images{before} as 8 bits, grey repeated to 3 channels"


def limits(dataset: Dataset) -> tuple[float, float]:
    """Least and greatest value that an image can have: 0 and 1, unless the data lie outside of them."""
    return (0.0, 1.0) if dataset.low >= 0.0 and dataset.high <= 1.0 else (dataset.low, dataset.high)


def unit_interval(images: Tensor, low: float, high: float) -> Tensor:
    """Values from [low, high] to [0, 1]; what lies outside is cut off and never wraps around."""
    return ((images.double() - low) / (high - low)).clamp(0.0, 1.0)


def real_images(split: Split, plan: Plan, count: int) -> tuple[Tensor, Tensor | None]:
    """Images of the split, (N, C, H, W), and what they are conditioned on: all of them, or `count` at random, in order.

    Where the model is shown draws of grey images, the grey images are taken: they are what means of p(x|z) should look like.
    """
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(plan.seed))[:count].sort().values
    part = _undrawn(split.part(chosen.to(split.stored.device)))
    found = list(batches(part, plan))
    context = None if found[0].context is None else torch.cat([b.context for b in found if b.context is not None])
    return torch.cat([batch.x.cpu() for batch in found]), context


def _undrawn(split: Split) -> Split:
    return replace(split, transforms=tuple(t for t in split.transforms if not isinstance(t, Dynamic)))


def _binarised(split: Split) -> bool:
    return any(isinstance(transform, Dynamic) for transform in split.transforms)


def generated_images(model: VAE, count: int, seed: int, context: Tensor | None = None) -> Tensor:
    """Means of p(x|z) for draws of z from the prior, (N, C, H, W). The k-th image does not depend on how many are made."""
    parts = []
    for first in range(0, count, _CHUNK):
        size = min(_CHUNK, count - first)
        given = None if context is None else context[first : first + size]
        parts.append(samples(model, size, seed, given, first=first))
    return torch.cat(parts)


def frechet_estimate(sets: Sets, words: str = "") -> Estimate:
    r"""Fréchet distance between normal distributions with the means and covariances of the two sets.

    .. math:: |m - m'|^2 + \mathrm{tr}(C + C' - 2 (C C')^{1/2})

    It is biased upwards, the more so the fewer images: compare numbers of equal `n` only.

    References:
        | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017), equation 6
        | https://arxiv.org/abs/1706.08500
    """
    sets = spanned(sets)
    kept = left_out(len(sets.real), GROUPS, sets.seed)
    without = torch.tensor([_frechet(sets.kept(index)) for index in kept], dtype=torch.float64)
    words = f"Frechet distance, depends on n; {words}; {_jackknifed()}"
    return Estimate(_frechet(sets), jackknife_error(without), "1", len(sets.real), words)


def spanned(sets: Sets) -> Sets:
    """The same points in coordinates of their common span, where that has fewer dimensions: no distance changes."""
    points = torch.cat([sets.real, sets.fake]).double()
    points = points - points.mean(0)
    if len(points) < points.shape[1]:
        points = points @ torch.linalg.qr(points.T).Q
    real, fake = torch.split(points, len(sets.real))
    return replace(sets, real=real, fake=fake)


def _frechet(sets: Sets) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(sets.real.shape[1]), normalize=True)
    metric.update(sets.real, real=True)
    metric.update(sets.fake, real=False)
    return float(metric.compute())


def kernel_estimate(sets: Sets, words: str = "") -> Estimate:
    r"""Kernel distance: the unbiased squared maximum mean discrepancy under the kernel :math:`(x \cdot y / D + 1)^3`.

    Mean over disjoint random blocks, which are independent of each other: their spread is the standard error. Its expectation is 0
    for equal distributions, so that single values may be negative.

    References:
        | Demystifying MMD GANs (Bińkowski et al., 2018), the Kernel Inception Distance
        | https://arxiv.org/abs/1801.01401
    """
    n = len(sets.real)
    blocks = max(GROUPS, n // _BLOCK)
    size = n // blocks
    order = torch.randperm(n, generator=torch.Generator().manual_seed(sets.seed))
    values = [_kernel(sets.kept(order[block * size : (block + 1) * size])) for block in range(blocks)]
    spread = torch.tensor(values, dtype=torch.float64)
    words = (
        f"kernel distance, degree 3, mean over {blocks} disjoint blocks of {size}, whose spread is its error; {words}"
    )
    return Estimate(float(spread.mean()), float(spread.std(correction=1)) / math.sqrt(blocks), "1", n, words)


def _kernel(sets: Sets) -> float:
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message=".*will save all extracted features", category=UserWarning)
        metric = KernelInceptionDistance(feature=_Given(sets.real.shape[1]), subsets=1, subset_size=len(sets.real))
        metric.update(sets.real.double(), real=True)
        metric.update(sets.fake.double(), real=False)
        return float(metric.compute()[0])


def overlap_estimates(sets: Sets, words: str = "") -> dict[str, Estimate]:
    """Precision and recall with k = 3, density and coverage with k = 5: see `vaekit.math.neighbours`.

    Their standard errors are at least 1 / n, the share of one image: a share of 0 or 1 of few images is not known exactly.
    """
    n = len(sets.real)
    whole = _Distances(
        squared_distances(sets.real, sets.real),
        squared_distances(sets.fake, sets.fake),
        squared_distances(sets.real, sets.fake),
    )
    kept = left_out(n, GROUPS, sets.seed)
    without = torch.tensor([whole.kept(index).overlaps() for index in kept], dtype=torch.float64)
    found = {}
    for name, value, others in zip(_OVERLAPS, whole.overlaps(), without.T, strict=True):
        neighbours = 3 if name in ("precision", "recall") else 5
        error = f"{_jackknifed()}, rather too large than too small, at least 1/n"
        note = f"{name} with {neighbours} neighbours, depends on n; {words}; {error}"
        found[f"{name}_{_NETWORK}"] = Estimate(value, max(jackknife_error(others), 1.0 / n), "1", n, note)
    return found


@dataclass(frozen=True)
class _Distances:
    """Squared, each (N, N): within the real images, within the generated ones, and from real to generated."""

    real: Tensor
    fake: Tensor
    cross: Tensor

    def kept(self, index: Tensor) -> _Distances:
        return _Distances(*(squared[index][:, index] for squared in (self.real, self.fake, self.cross)))

    def overlaps(self) -> tuple[float, float, float, float]:
        return *precision_recall(self.real, self.fake, self.cross), *density_coverage(self.real, self.cross)


def _jackknifed() -> str:
    return f"standard error: jackknife over {GROUPS} random groups of both sets"


class _Given(nn.Module):
    """Stands where torchmetrics wants a network: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
