"""What dropout costs while training, and whether batch normalisation remembers what it sees there."""

# B examples

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vaekit.data.batch import Batch
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.symptoms.drawn import drawn, loss_of
from vaekit.evaluation.units import Estimate, mean
from vaekit.models.vae import VAE

# batch normalisation has no meaning for less
_SMALLEST_BATCH = 2


def mode_symptoms(model: VAE, train: Batch, plan: Plan, batch_size: int) -> dict[str, Estimate]:
    """-ELBO of training examples as in training, minus that as in evaluation, for one kind of layer at a time.

    - `dropout_cost`: with units left out; `dropout_share`, the largest share of units that a layer leaves out;
    - `running_cost`: the other way round, what the running averages of batch normalisation cost beside the batch's own, in
      batches of the size of the training; above 0, evaluation is worse than training was.
    """
    dropout = [part for part in model.modules() if isinstance(part, nn.Dropout) and part.p > 0.0]
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    if not dropout and not norms:
        return {}
    plain = _losses(model, train, plan, len(train.x))
    found: dict[str, Estimate] = {}
    if dropout:
        with _training(dropout):
            cost = _losses(model, train, plan, len(train.x)) - plain
        found["dropout_cost"] = mean(cost, "nats", "-ELBO of training examples with dropout minus that without")
        share = max(part.p for part in dropout)
        found["dropout_share"] = Estimate(share, 0.0, "1", 0, "largest share of units that a layer leaves out")
    if norms and batch_size >= _SMALLEST_BATCH and len(train.x) >= _SMALLEST_BATCH:
        with _training(norms):
            theirs = _losses(model, train, plan, batch_size)
        # a last batch of one is normalised by the running averages in training as well
        count = len(theirs)
        words = f"-ELBO of training examples by running averages minus that by batches of {min(batch_size, count)}"
        found["running_cost"] = mean(plain[:count] - theirs, "nats", words)
    return found


def _losses(model: VAE, batch: Batch, plan: Plan, size: int) -> Tensor:
    size = min(size, len(batch.x))
    whole = len(batch.x) - len(batch.x) % size
    parts = [loss_of(drawn(model, _rows(batch, first, size), plan), model.bounded) for first in range(0, whole, size)]
    return torch.cat(parts)


def _rows(batch: Batch, first: int, count: int) -> Batch:
    rows = slice(first, first + count)
    labels = None if batch.labels is None else batch.labels[rows]
    conditions = None if batch.conditions is None else batch.conditions[rows]
    return replace(batch, x=batch.x[rows], labels=labels, index=batch.index[rows], conditions=conditions)


@contextmanager
def _training(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Within this context these layers do as in training; what they remember is put back."""
    before = [{name: buffer.clone() for name, buffer in part.named_buffers()} for part in parts]
    try:
        for part in parts:
            part.train()
        yield
    finally:
        for part, buffers in zip(parts, before, strict=True):
            part.eval()
            for name, buffer in part.named_buffers():
                buffer.copy_(buffers[name])
