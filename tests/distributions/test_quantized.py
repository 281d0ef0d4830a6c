"""The nearest code, its gradient, its penalties, and priors over codes."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import chisquare
from torch.distributions import kl_divergence

from vaekit.distributions import centre, draw, quantized
from vaekit.distributions.noise import PerExample, use
from vaekit.distributions.quantized import Quantized, UniformCodes, codes_of, nearest, vectors_of

pytestmark = pytest.mark.usefixtures("float64")

K, B, D, M = 2, 3, 4, 7


def posterior(shape: tuple[int, ...] = (3, 2), batch: int = B) -> tuple[Quantized, torch.Tensor, torch.Tensor]:
    encoded = torch.randn(K, batch, D, *shape, requires_grad=True)
    codebook = torch.randn(M, D, requires_grad=True)
    return Quantized(encoded, codes_of(encoded.detach(), codebook.detach()), codebook), encoded, codebook


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_is_scipys(offset: float, dtype: torch.dtype) -> None:
    vectors, codebook = (torch.randn(n, 5).to(dtype) + offset for n in (400, 30))
    expected = cdist(vectors.double().numpy(), codebook.double().numpy()).argmin(1)
    assert nearest(vectors, codebook).tolist() == expected.tolist()


def test_the_search_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, codebook = torch.randn(50, 3), torch.randn(11, 3)
    whole = nearest(vectors, codebook)
    monkeypatch.setattr(quantized, "_DISTANCES", 25)
    assert torch.equal(nearest(vectors, codebook), whole)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_codes_and_vectors_are_inverse(shape: tuple[int, ...]) -> None:
    codebook = torch.randn(M, D)
    codes = torch.randint(M, (K, B, *shape))
    vectors = vectors_of(codes, codebook)
    assert vectors.shape == (K, B, D, *shape)
    assert torch.equal(codes_of(vectors, codebook), codes)
    if shape == (3, 2):
        assert torch.equal(vectors[1, 2, :, 2, 1], codebook[codes[1, 2, 2, 1]])


def test_the_value_is_exactly_the_code_and_its_gradient_that_of_the_encoder() -> None:
    q, encoded, codebook = posterior()
    drawn = draw(q)
    assert torch.equal(drawn.value, vectors_of(q.codes, codebook))
    weight = torch.randn_like(drawn.value)
    (drawn.value * weight).sum().backward()
    assert encoded.grad is not None
    assert torch.equal(encoded.grad, weight)  # the identity
    assert codebook.grad is None  # the reconstruction does not move the codebook
    assert torch.equal(drawn.log_prob, torch.zeros(K, B))
    assert torch.equal(centre(q).value, drawn.value)
    assert torch.equal(q.stddev, torch.zeros_like(encoded))


@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_penalties_are_sums_over_dimensions_and_means_over_positions(shape: tuple[int, ...]) -> None:
    q, encoded, codebook = posterior(shape)
    penalties = draw(q).penalties
    distances = torch.zeros(K, B)
    for k in range(K):
        for b in range(B):
            vectors = encoded[k, b].detach().reshape(D, -1).T
            squares = [min(float((z - e).square().sum()) for e in codebook.detach()) for z in vectors]
            distances[k, b] = sum(squares) / len(squares)
    for name in ("commitment", "codebook"):
        torch.testing.assert_close(penalties[name].detach(), distances)


def test_each_penalty_moves_its_own_side() -> None:
    for name, moved in (("commitment", 0), ("codebook", 1)):
        q, *sides = posterior()
        draw(q).penalties[name].sum().backward()
        assert sides[moved].grad is not None
        assert sides[moved].grad.abs().sum() > 0
        assert sides[1 - moved].grad is None
    # 2 (z - e) / positions
    q, encoded, _ = posterior()
    draw(q).penalties["commitment"].sum().backward()
    torch.testing.assert_close(encoded.grad, 2 * (encoded - q.vectors).detach() / 6)


def test_the_density_is_of_the_counting_measure() -> None:
    q, _, codebook = posterior()
    torch.testing.assert_close(q.log_prob(q.vectors), torch.zeros(K, B))
    other = q.vectors.detach().clone()
    other[0, 1, :, 0, 0] = codebook[(q.codes[0, 1, 0, 0] + 1) % M].detach()
    assert q.log_prob(other).tolist()[0] == [0.0, -math.inf, 0.0]


@pytest.mark.parametrize("shape", [(), (3, 2)])
def test_the_rate_under_uniform_codes_is_positions_times_log_codes(shape: tuple[int, ...]) -> None:
    q, _, codebook = posterior(shape)
    p = UniformCodes(codebook.detach(), (K, B), shape)
    nats = torch.full((K, B), math.prod(shape) * math.log(M))
    torch.testing.assert_close(kl_divergence(q, p), nats)
    torch.testing.assert_close(-p.log_prob(draw(q).value), nats)


def test_uniform_codes_are_drawn_alike() -> None:
    """Chi-squared over the codes: false alarm 1e-6. Each example has draws of its own under its own noise."""
    codebook = torch.randn(M, D)
    p = UniformCodes(codebook, (1, 4000), (5,))
    for value in (draw(p).value, p.sample()):
        assert value.shape == (1, 4000, D, 5)
        counts = torch.bincount(codes_of(value, codebook).flatten(), minlength=M)
        assert counts.sum() == 20_000
        assert chisquare(counts.numpy()).pvalue > 1e-6
    few = UniformCodes(codebook, (1, 3), (5,))
    with use(PerExample(1, torch.tensor([4, 5, 6]))):
        whole = draw(few).value
    with use(PerExample(1, torch.tensor([6]))):
        assert torch.equal(draw(UniformCodes(codebook, (1, 1), (5,))).value[0, 0], whole[0, 2])
