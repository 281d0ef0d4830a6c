"""The arrays behind the pictures of a run: reconstructions, samples, the latent space and the decoded manifold."""

# N examples, R rows of a grid, *x event of the data

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.distributions.noise import PerExample, use
from vaekit.evaluation.passes import Plan, batches, measuring
from vaekit.models.vae import VAE

# samples are numbered examples of their own: their noise must not repeat that of the data
_SAMPLES = 1 << 17


def reconstructions(model: VAE, split: Split, plan: Plan, count: int = 10) -> tuple[Tensor, Tensor]:
    """The first `count` examples as the model sees them, and their reconstructions at the posterior mean; each (n, *x)."""
    with measuring(model):
        batch = next(batches(split, Plan(min(count, len(split)), 1, plan.seed)))
        return batch.x.cpu(), model.reconstruct(batch.x, batch.context).cpu()


def samples(model: VAE, count: int, seed: int, context: Tensor | None = None, first: int = 0) -> Tensor:
    """Means of p(x|z) for `count` draws of z from the prior, (n, *x). The k-th sample does not depend on how many are drawn.

    Arguments:
        model: Any.
        count: How many, n.
        seed: Of the draws.
        context: What a conditional model is told of each, n rows.
        first: Number of the first sample, so that many can be drawn in chunks.
    """
    device = next(model.parameters()).device
    index = torch.arange(first, first + count, device=device)
    with measuring(model), use(PerExample(seed, index, stream=_SAMPLES)):
        return model.generate(count, _on(device, context)).mean[0].cpu()


def class_samples(model: VAE, classes: int, columns: int, seed: int) -> Tensor:
    """Means of p(x|z, c) with one class c in a row and one draw of z in a column, (R, columns, *x), R the number of classes.

    Whatever differs within a column is due to the class: the noise behind z is the same.
    """
    device = next(model.parameters()).device
    column, row = torch.arange(columns, device=device).repeat(classes), torch.arange(classes, device=device)
    with measuring(model), use(PerExample(seed, column, stream=_SAMPLES)):
        images = model.generate(classes * columns, row.repeat_interleave(columns)).mean[0]
    return images.reshape(classes, columns, *model.event_shape).cpu()


def noisy_samples(model: VAE, count: int, seed: int, context: Tensor | None = None, first: int = 0) -> Tensor:
    """Draws of x from the model, with observation noise, (n, *x); from the sample number `first` on."""
    device = next(model.parameters()).device
    index = torch.arange(first, first + count, device=device)
    with measuring(model), use(PerExample(seed, index, stream=_SAMPLES)):
        return model.sample(count, _on(device, context)).cpu()


@dataclass(frozen=True)
class LatentView:
    """Two latent dimensions of a split.

    Attributes:
        points: Posterior means, (N, 2).
        dimensions: Which two.
        scores: Their mean KL, or the variance of their codes.
        total: Latent dimensions in all.
        unit: nats, or variance.
    """

    points: Tensor
    dimensions: tuple[int, int]
    scores: tuple[float, float]
    total: int
    unit: str = "nats"

    @property
    def choice(self) -> str:
        """How the two were chosen, in words; empty where there are no others."""
        word = "KL" if self.unit == "nats" else "variance"
        return "" if self.total == 2 else f"the two of {self.total} latent dimensions with the largest {word}"

    @property
    def axes(self) -> tuple[str, str]:
        """Labels."""
        said = "KL {:.2f} nats" if self.unit == "nats" else "variance {:.3g}"
        first, second = (f"z[{d}], {said.format(score)}" for d, score in zip(self.dimensions, self.scores, strict=True))
        return first, second


def latent_view(means: Tensor, scores: Tensor, unit: str = "nats") -> LatentView | None:
    """The two dimensions with the largest scores, in their order; None for a single dimension.

    Arguments:
        means: Posterior means, (N, L).
        scores: Mean KL of each dimension, or the variance of its codes, (L,).
        unit: nats, or variance.
    """
    if means.shape[1] < 2:
        return None
    a, b = sorted(int(d) for d in scores.argsort(descending=True, stable=True)[:2])
    return LatentView(means[:, [a, b]], (a, b), (float(scores[a]), float(scores[b])), means.shape[1], unit)


def manifold(model: VAE, rows: int = 20) -> tuple[Tensor, Tensor]:
    """The decoded plane of a two-dimensional latent, at equal steps of prior probability.

    Returns:
        Images, (R, R, *x), rows by the second coordinate from its highest down, columns by the first, and the coordinates,
        (R,), increasing.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), figure 4
        | https://arxiv.org/abs/1312.6114
    """
    weight = next(model.parameters())
    quantiles = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    coordinates = torch.special.ndtri(quantiles).to(weight)
    across, down = torch.meshgrid(coordinates, coordinates.flip(0), indexing="xy")
    with measuring(model):
        images = model.decode(torch.stack([across, down], -1).reshape(-1, 2)).mean[0]
    return images.reshape(rows, rows, *model.event_shape).cpu(), coordinates.cpu()


def _on(device: torch.device, context: Tensor | None) -> Tensor | None:
    return None if context is None else context.to(device)
