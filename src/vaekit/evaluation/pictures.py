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
        return batch.x.cpu(), model.reconstruct(batch.x).cpu()


def samples(model: VAE, count: int, seed: int) -> Tensor:
    """Means of p(x|z) for `count` draws of z from the prior, (n, *x). The k-th sample does not depend on how many are drawn."""
    device = next(model.parameters()).device
    index = torch.arange(count, device=device)
    with measuring(model), use(PerExample(seed, index, stream=_SAMPLES)):
        return model.generate(count).mean[0].cpu()


def noisy_samples(model: VAE, count: int, seed: int) -> Tensor:
    """Draws of x from the model, with observation noise, (n, *x)."""
    device = next(model.parameters()).device
    with measuring(model), use(PerExample(seed, torch.arange(count, device=device), stream=_SAMPLES)):
        return model.sample(count).cpu()


@dataclass(frozen=True)
class LatentView:
    """Two latent dimensions of a split.

    Attributes:
        points: Posterior means, (N, 2).
        dimensions: Which two.
        nats: Their mean KL.
        total: Latent dimensions in all.
    """

    points: Tensor
    dimensions: tuple[int, int]
    nats: tuple[float, float]
    total: int

    @property
    def choice(self) -> str:
        """How the two were chosen, in words; empty where there are no others."""
        return "" if self.total == 2 else f"the two of {self.total} latent dimensions with the largest KL"

    @property
    def axes(self) -> tuple[str, str]:
        """Labels."""
        first, second = (f"z[{d}], KL {kl:.2f} nats" for d, kl in zip(self.dimensions, self.nats, strict=True))
        return first, second


def latent_view(means: Tensor, kl: Tensor) -> LatentView | None:
    """The two dimensions with the largest KL, in their order; None for a single dimension.

    Arguments:
        means: Posterior means, (N, L).
        kl: Mean KL of each dimension, nats, (L,).
    """
    if means.shape[1] < 2:
        return None
    a, b = sorted(int(d) for d in kl.argsort(descending=True)[:2])
    return LatentView(means[:, [a, b]], (a, b), (float(kl[a]), float(kl[b])), means.shape[1])


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
        images = model.decode(torch.stack([across, down], -1).reshape(-1, 2)).mean
    return images.reshape(rows, rows, *model.event_shape).cpu(), coordinates.cpu()
