"""Where random draws come from: torch's generator while training, a pure function of the example while evaluating."""

# K samples, B batch, *e event

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from vaekit.math.philox import uniform_words


class PerExample:
    """Noise that belongs to the examples of a batch: the same for an example whatever batch it comes in.

    Evaluated under this noise, a number does not depend on the size or the order of the evaluation batches, and the same seed
    gives the same number twice. The k-th draw inside one `use` is independent of the others.

    Arguments:
        seed: Any non-negative integer below 2**64.
        index: Positions of the examples in their data set, shape (B,), int64.
        first_sample: Number of the first importance sample, so that K samples can be drawn in chunks.
        stream: Number of the first draw; passes that must be independent start from different numbers.
    """

    def __init__(self, seed: int, index: Tensor, *, first_sample: int = 0, stream: int = 0) -> None:
        self.seed, self.first_sample, self.stream = seed, first_sample, stream
        self.index = index.cpu() if index.device.type == "mps" else index  # Apple's GPUs have no float64

    def uniform(self, shape: torch.Size) -> Tensor:
        """Uniform in (0, 1), float64, for `shape` (K, B, *e)."""
        samples = torch.arange(self.first_sample, self.first_sample + shape[0], device=self.index.device)
        words = uniform_words(self.seed, self.index, samples, self.stream, math.prod(shape[2:]))
        self.stream += 1
        return words.reshape(shape)


_current: ContextVar[PerExample | None] = ContextVar("noise", default=None)


@contextmanager
def use(noise: PerExample) -> Iterator[None]:
    """Within this context `uniform` and `standard_normal` draw from `noise`."""
    token = _current.set(noise)
    try:
        yield
    finally:
        _current.reset(token)


def uniform(shape: torch.Size, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1) for `shape` (K, B, *e)."""
    noise = _current.get()
    if noise is None:
        return torch.rand(shape, dtype=dtype, device=device)
    # the largest numbers below 1 in float64 are 1 in float32
    return noise.uniform(shape).to(device=device, dtype=dtype).clamp_max(1.0 - torch.finfo(dtype).eps / 2)


def standard_normal(shape: torch.Size, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Standard normal numbers for `shape` (K, B, *e)."""
    noise = _current.get()
    if noise is None:
        return torch.randn(shape, dtype=dtype, device=device)
    normal: Tensor = torch.special.ndtri(noise.uniform(shape))
    return normal.to(device=device, dtype=dtype)
