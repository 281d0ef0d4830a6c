"""Random numbers as a function: Philox4x32-10 (Salmon et al., 2011), on any device, without a state."""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Four random 32-bit words for each counter: the block cipher Philox4x32 with ten rounds.

    Counter-based, so the numbers of an example depend on the example alone and not on who stands beside it in a batch.

    Arguments:
        counter: Four int64 tensors that broadcast together, each in :math:`[0, 2^{32})`.
        key: An integer in :math:`[0, 2^{64})`, usually a seed.

    Returns:
        Four int64 tensors in :math:`[0, 2^{32})`, in the broadcast shape.

    References:
        | Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011), section 3.3
        | https://doi.org/10.1145/2063384.2063405
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key & _WORD, (key >> 32) & _WORD
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def _multiply(word: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    # int64 multiplication wraps, which keeps all 64 bits of the unsigned product; the mask undoes the sign of the shift
    product = word * (constant - (1 << 64) if constant >= 1 << 63 else constant)
    return (product >> 32) & _WORD, product & _WORD


def uniform_words(key: int, example: Tensor, samples: Tensor, stream: int, elements: int) -> Tensor:
    """Uniform numbers in (0, 1) for each (sample, example, element): a pure function of those three, `key` and `stream`.

    Arguments:
        key: The seed.
        example: Positions of the examples in their data set, shape (B,), int64.
        samples: Numbers of the samples, shape (K,), int64.
        stream: Which draw within one pass; draws with different numbers are independent.
        elements: Numbers wanted for each sample of each example, E.

    Returns:
        float64, shape (K, B, E), with 32 random bits each and never 0 or 1.
    """
    blocks = torch.arange(-(-elements // 4), device=example.device)
    place = torch.tensor(stream, device=example.device)
    words = philox((blocks, samples[:, None, None], example[:, None], place), key)
    # after two rounds each word depends on every word of the counter, so all four have the broadcast shape
    stacked = torch.stack(words, -1).flatten(-2)[..., :elements]
    return (stacked.double() + 0.5) / 2.0**32
