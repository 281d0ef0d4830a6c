"""Passes of a model over a split: without gradients, in evaluation mode, each example with its own noise."""

# K samples, B batch, N examples

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.data.batch import Batch, Split
from vaekit.distributions.noise import PerExample, use
from vaekit.models.trace import Trace
from vaekit.models.vae import VAE

# decoded values at a time: bounds memory for any K and any size of the images, and is enough to keep the cores busy
_VALUES = 1 << 22
# draws of the data (dynamic binarisation) and of the latents must be independent: they start from different streams
_DATA, _LATENTS = 0, 1 << 16


@dataclass(frozen=True)
class Plan:
    """How numbers on held-out data are made.

    Arguments:
        batch_size: Examples at a time; changes nothing but memory and time.
        samples: Posterior draws of each example, K.
        seed: Of all draws. The same seed gives the same numbers.
    """

    batch_size: int = 500
    samples: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more.")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}, expected a number from 0 to 2**64 - 1.")


@contextmanager
def measuring(model: VAE) -> Iterator[None]:
    """Within this context the model is in evaluation mode and nothing is differentiated; its mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # for distributions that draw by themselves
            yield
    finally:
        model.train(was_training)


def batches(split: Split, plan: Plan, start: int = 0) -> Iterator[Batch]:
    """The split in order, from the example at `start`; random transforms draw each example's own noise."""
    device = split.stored.device
    count = min(plan.batch_size, max(1, _VALUES // split.stored.shape[1:].numel()))
    for first in range(start, len(split), count):
        yield examples(split, torch.arange(first, min(first + count, len(split)), device=device), plan)


def examples(split: Split, index: Tensor, plan: Plan) -> Batch:
    """The examples at `index` (B,), as every pass over the split sees them."""
    with use(PerExample(plan.seed, index, stream=_DATA)):
        return split.batch(index)


def traces(model: VAE, batch: Batch, plan: Plan) -> Iterator[Trace]:
    """K samples of a batch, in chunks of as many samples as memory allows; all chunks together are the K samples."""
    chunk = max(1, _VALUES // batch.x.numel())
    for first in range(0, plan.samples, chunk):
        count = min(chunk, plan.samples - first)
        with use(PerExample(plan.seed, batch.index, first_sample=first, stream=_LATENTS)):
            trace = model(batch.x, count, batch.context)
        yield trace


def encodings(model: VAE, split: Split, plan: Plan) -> tuple[Tensor, Tensor]:
    """Posterior means and standard deviations of all latents, each (N, total latent size), on the CPU."""
    means, scales = [], []
    with measuring(model):
        for batch in batches(split, plan):
            means.append(model.encode(batch.x, batch.context).cpu())
            scales.append(model.encode_scale(batch.x, batch.context).cpu())
    return torch.cat(means), torch.cat(scales)
