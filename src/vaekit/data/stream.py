"""The order in which a training sees its examples: a function of seed and step, with no state to lose."""

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.data.batch import Batch, Split


class Stream:
    """Batches of a split, by step. Each epoch is a permutation of its own, and the last batch of an epoch may be smaller.

    Arguments:
        split: On the device where the batches are wanted.
        batch_size: Examples in a batch, at least 1.
        seed: Of the order.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.split) // self.batch_size)

    def __call__(self, step: int) -> Batch:
        """The batch of `step`, counted from 0 over all epochs."""
        return self.split.batch(self.index(step))

    def index(self, step: int) -> Tensor:
        """The examples of that batch: positions in the split, int64, shape (B,)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self.batch_size
        return self.order(epoch)[first : first + self.batch_size]

    def order(self, epoch: int) -> Tensor:
        """The order of an epoch, counted from 0: positions in the split, int64, shape (N,)."""
        if epoch != self._epoch:
            order = self.split.order(torch.Generator().manual_seed(_mixed(self.seed, epoch)))
            self._epoch, self._order = epoch, order.to(self.split.stored.device)
        return self._order


def _mixed(seed: int, epoch: int) -> int:
    # one generator step apart for neighbouring epochs would be a poor seed: spread them over the 63 bits torch takes
    return (seed * 0x9E3779B97F4A7C15 + (epoch + 1) * 0xBF58476D1CE4E5B9) % (1 << 63)
