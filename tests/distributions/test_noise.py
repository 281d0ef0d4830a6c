"""Noise that belongs to the examples."""

# K samples, B batch

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Bernoulli, Independent, Laplace, Normal

from vaekit.distributions import Draw, centre, draw
from vaekit.distributions.noise import PerExample, standard_normal, uniform, use

pytestmark = pytest.mark.usefixtures("float64")

CPU = torch.device("cpu")


def normals(
    shape: tuple[int, ...], noise: PerExample | None = None, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    if noise is None:
        return standard_normal(torch.Size(shape), dtype=dtype, device=CPU)
    with use(noise):
        return standard_normal(torch.Size(shape), dtype=dtype, device=CPU)


def test_standard_normal_both_ways() -> None:
    """Kolmogorov-Smirnov against the normal distribution. False alarm 1e-6 each."""
    for noise in (None, PerExample(3, torch.arange(200))):
        assert kstest(normals((10, 200, 10), noise).flatten().numpy(), "norm").pvalue > 1e-6


def test_no_batch_partition_or_order_changes_a_number() -> None:
    index = torch.tensor([5, 0, 17, 3, 99, 4])
    whole = normals((3, 6, 2, 2), PerExample(1, index))
    for part in (torch.tensor([0, 1]), torch.tensor([2, 3, 4, 5]), torch.tensor([5]), torch.randperm(6)):
        assert torch.equal(normals((3, len(part), 2, 2), PerExample(1, index[part])), whole[:, part])


def test_no_two_examples_or_samples_share_a_number() -> None:
    """Evaluated numbers would have the errors of fewer examples than there are."""
    numbers = normals((5, 40, 3), PerExample(1, torch.arange(40)))
    assert len(numbers.unique()) == numbers.numel()


def test_samples_can_be_drawn_in_chunks() -> None:
    index = torch.arange(4)
    whole = normals((10, 4, 3), PerExample(1, index))
    chunks = [normals((n, 4, 3), PerExample(1, index, first_sample=first)) for first, n in [(0, 3), (3, 6), (9, 1)]]
    assert torch.equal(torch.cat(chunks), whole)


def test_draws_within_one_pass_and_passes_of_other_streams_are_different() -> None:
    index = torch.arange(4)
    with use(PerExample(1, index)):
        first, second = normals((2, 4, 3)), normals((2, 4, 3))
    assert not torch.equal(first, second)
    assert torch.equal(second, normals((2, 4, 3), PerExample(1, index, stream=1)))
    assert not torch.equal(first, normals((2, 4, 3), PerExample(2, index)))


def test_it_ends_with_its_context_even_after_an_error() -> None:
    def fail() -> None:
        with use(PerExample(1, torch.arange(2))):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    torch.manual_seed(5)
    expected = torch.randn(1, 3)
    torch.manual_seed(5)
    assert torch.equal(normals((1, 3)), expected)
    with use(PerExample(1, torch.arange(2))):
        outer = normals((1, 2))
        with use(PerExample(2, torch.arange(3))):
            normals((1, 3))
        assert torch.equal(normals((1, 2)), normals((1, 2), PerExample(1, torch.arange(2), stream=1)))
    assert torch.equal(outer, normals((1, 2), PerExample(1, torch.arange(2))))


def test_it_leaves_torchs_generator_alone() -> None:
    state = torch.get_rng_state()
    normals((2, 3), PerExample(1, torch.arange(3)))
    assert torch.equal(torch.get_rng_state(), state)


def test_single_precision_is_the_rounded_double() -> None:
    index = torch.arange(1000)
    single, double = (normals((2, 1000, 5), PerExample(1, index), dtype) for dtype in (torch.float32, torch.float64))
    assert single.dtype == torch.float32
    assert torch.equal(single, double.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_uniform_numbers_stay_below_one_in_any_precision(dtype: torch.dtype) -> None:
    """The largest of 2^32 numbers rounds to 1 in float32, and a pixel that is surely on would be off."""

    class Largest(PerExample):
        def uniform(self, shape: torch.Size) -> torch.Tensor:
            return torch.full(shape, (2**32 - 0.5) / 2**32, dtype=torch.float64)

    with use(Largest(0, torch.arange(2))):
        drawn = uniform(torch.Size([1, 2]), dtype=dtype, device=CPU)
    assert (drawn < 1).all()
    assert (drawn > 0.99).all()


def test_normal_numbers_are_finite_at_both_ends() -> None:
    ends = torch.tensor([0.5, 2**32 - 0.5]) / 2**32
    assert torch.special.ndtri(ends).abs().max() < 7


def test_a_draw_is_location_plus_scale_times_noise() -> None:
    loc, scale = torch.randn(2, 3, 4), torch.rand(2, 3, 4) + 0.1
    for q in (Normal(loc, scale), Independent(Normal(loc, scale), 1)):
        with use(PerExample(1, torch.arange(3))):
            drawn = draw(q)
        expected = loc + scale * normals((2, 3, 4), PerExample(1, torch.arange(3)))
        assert torch.equal(drawn.value, expected)
        torch.testing.assert_close(drawn.log_prob, q.log_prob(expected))


def test_binary_draws_belong_to_their_examples_too() -> None:
    probs = torch.rand(3, 50, 4)
    index = torch.arange(50)

    def drawn(part: torch.Tensor) -> torch.Tensor:
        with use(PerExample(1, index[part])):
            return draw(Independent(Bernoulli(probs=probs[:, part]), 1)).value

    whole = drawn(index)
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(torch.cat([drawn(index[:20]), drawn(index[20:])], 1), whole)
    for sure in (0.0, 1.0):
        assert (draw(Bernoulli(probs=torch.full((2, 1000), sure))).value == sure).all()


def test_any_distribution_of_torch_can_be_drawn_from() -> None:
    loc = torch.zeros(1, 4000, requires_grad=True)
    drawn = draw(Laplace(loc, 1.0))
    drawn.value.sum().backward()
    torch.testing.assert_close(loc.grad, torch.ones_like(loc))
    assert kstest(drawn.value.detach().flatten().numpy(), "laplace").pvalue > 1e-6  # false alarm 1e-6
    assert torch.equal(centre(Laplace(loc, 1.0)).value, loc)


def test_a_density_is_asked_for_once_and_only_when_wanted() -> None:
    asked = []

    def density() -> torch.Tensor:
        asked.append(1)
        return torch.tensor(math.pi)

    drawn = Draw(torch.zeros(()), density)
    assert not asked
    assert drawn.log_prob is drawn.log_prob
    assert len(asked) == 1
