"""Philox4x32-10 against the known answers of its authors, and as a source of numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from vaekit.math.philox import philox, uniform_words

# kat_vectors of Random123, the library of Salmon et al. (2011): counter, key, answer
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]  # fmt: skip


def reference(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """The cipher in Python's integers, from section 3.3 of the paper."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 % 2**32, (p0 >> 32) ^ c3 ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]) -> None:
    words = philox(tuple(torch.tensor(word) for word in counter), key[0] | key[1] << 32)
    assert tuple(word.item() for word in words) == answer == reference(counter, key)


def test_many_counters_at_once_are_each_its_own() -> None:
    generator = np.random.default_rng(0)
    counters = torch.from_numpy(generator.integers(0, 2**32, (4, 200)))
    words = torch.stack(philox(tuple(counters), 0x0123456789ABCDEF))
    for i in range(200):
        assert tuple(words[:, i].tolist()) == reference(tuple(counters[:, i].tolist()), (0x89ABCDEF, 0x01234567))


def numbers(key: int = 0, examples: int = 50, samples: int = 4, stream: int = 0, elements: int = 100) -> torch.Tensor:
    return uniform_words(key, torch.arange(examples), torch.arange(samples), stream, elements)


@pytest.mark.parametrize("elements", [1, 2, 3, 4, 5, 8, 100])
def test_shapes_and_a_prefix_stays_when_more_is_asked(elements: int) -> None:
    few, many = numbers(elements=elements), numbers(elements=101)
    assert few.shape == (4, 50, elements)
    assert few.dtype == torch.float64
    assert torch.equal(few, many[..., :elements])


def test_the_place_of_a_number_is_sample_example_stream_block() -> None:
    got = uniform_words(7, torch.tensor([11, 13]), torch.tensor([3]), 5, 6)[0, 1]
    expected = reference((0, 3, 13, 5), (7, 0)) + reference((1, 3, 13, 5), (7, 0))
    assert got.tolist() == [(word + 0.5) / 2**32 for word in expected[:6]]


@pytest.mark.parametrize("key", [0, 1, 42, 2**64 - 1])
def test_uniform(key: int) -> None:
    """Kolmogorov-Smirnov, and chi-squared of 64 cells. False alarm 1e-6 each; the numbers are fixed for ever."""
    u = numbers(key).flatten().numpy()
    assert 0 < u.min() < u.max() < 1
    assert kstest(u, "uniform").pvalue > 1e-6
    assert chisquare(np.histogram(u, 64, (0, 1))[0]).pvalue > 1e-6


@pytest.mark.parametrize("shift", ["example", "sample", "stream", "seed", "element"])
def test_neighbours_are_independent(shift: str) -> None:
    """Correlation, and a chi-squared test of the joint distribution in 8 x 8 cells. False alarm 2e-9 and 1e-6."""
    whole = numbers()
    first, second = {
        "example": (whole[:, 1:], whole[:, :-1]),
        "sample": (whole[1:], whole[:-1]),
        "stream": (whole, numbers(stream=1)),
        "seed": (whole, numbers(key=1)),
        "element": (whole[..., 1:], whole[..., :-1]),
    }[shift]
    a, b = first.flatten().numpy(), second.flatten().numpy()
    assert not np.any(a == b)  # expected number of chance hits: 20 000 / 2^32
    assert abs(np.corrcoef(a, b)[0, 1]) < 6 / len(a) ** 0.5
    joint = np.histogram2d(a, b, 8, [[0, 1], [0, 1]])[0].flatten()
    assert chisquare(joint).pvalue > 1e-6


def test_sample_example_and_stream_are_not_interchangeable() -> None:
    assert not torch.equal(numbers(samples=50)[3, 7], numbers(samples=50)[7, 3])
    assert not torch.equal(numbers(stream=1)[0], numbers(stream=0)[1])
    assert not torch.equal(numbers(stream=1)[0, 0], numbers(stream=0)[0, 1])


def test_large_positions_and_seeds_count_in_full() -> None:
    examples = torch.tensor([0, 1, 2**16, 2**31, 2**32 - 1])
    rows = [
        tuple(row.tolist())
        for key in (0, 2**32, 2**63)
        for row in uniform_words(key, examples, torch.arange(1), 0, 4)[0]
    ]
    assert len(set(rows)) == 15
