"""What is true of every term: nats per example, no hidden scale."""

# K samples, B batch

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vaekit.models import Trace
from vaekit.objectives import KL, Objective, SumReduction
from vaekit.objectives.base import Role

pytestmark = pytest.mark.usefixtures("float64")

Make = Callable[..., Trace]


def numbers(K: int, B: int, x_shape: tuple[int, ...], z_shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """x, p(x|z) means, posterior means and scales, noise. The posterior is the same for all K, as in a flat model."""
    q_loc, q_scale = torch.randn(1, B, *z_shape), torch.rand(1, B, *z_shape) + 0.2
    each = (K, B, *z_shape)
    return (
        torch.randn(B, *x_shape),
        torch.randn(K, B, *x_shape),
        q_loc.expand(each),
        q_scale.expand(each),
        torch.randn(each),
    )


def chosen(parts: tuple[Tensor, ...], index: Tensor) -> tuple[Tensor, ...]:
    x, *rest = parts
    return (x[index], *(part[:, index] for part in rest))


@given(
    K=st.integers(1, 4),
    B=st.integers(1, 6),
    x_shape=st.sampled_from([(1,), (5,), (1, 3, 2)]),
    z_shape=st.sampled_from([(1,), (4,), (2, 2)]),
)
def test_one_number_for_each_example_or_one_for_the_batch(
    term: Any, make_trace: Make, K: int, B: int, x_shape: tuple[int, ...], z_shape: tuple[int, ...]
) -> None:
    value = term.make()(make_trace(*numbers(K, B, x_shape, z_shape)))
    assert value.shape == ((B,) if term.alone else ())
    assert value.isfinite().all()


def test_the_samples_are_averaged(averaged_term: Any, make_trace: Make) -> None:
    parts = numbers(4, 3, (5,), (2,))
    x, *rest = parts
    term = averaged_term.make()
    singles = [term(make_trace(x, *(part[k : k + 1] for part in rest))) for k in range(4)]
    torch.testing.assert_close(term(make_trace(*parts)), torch.stack(singles).mean(0), rtol=1e-12, atol=1e-12)


def test_examples_do_not_see_each_other(lone_term: Any, make_trace: Make) -> None:
    """Duplicating, splitting and permuting the batch duplicates, splits and permutes the result."""
    parts, term = numbers(2, 6, (5,), (2,)), lone_term.make()
    whole = term(make_trace(*parts))
    for index in (torch.arange(6).repeat(3), torch.arange(4), torch.arange(4, 6), torch.randperm(6), torch.tensor([2])):
        torch.testing.assert_close(term(make_trace(*chosen(parts, index))), whole[index], rtol=1e-12, atol=1e-12)


def test_the_order_of_the_examples_does_not_matter(term: Any, make_trace: Make) -> None:
    parts, objective = numbers(2, 6, (5,), (2,)), Objective({"it": term.make()}, {"it": 0.3})
    shuffled = objective(make_trace(*chosen(parts, torch.randperm(6)))).total
    torch.testing.assert_close(shuffled, objective(make_trace(*parts)).total, rtol=1e-12, atol=1e-12)


def test_the_loss_is_invariant_under_duplication(empirical_term: Any, make_trace: Make) -> None:
    parts, objective = numbers(2, 6, (5,), (2,)), Objective({"it": empirical_term.make()}, {"it": 0.3})
    twice = objective(make_trace(*chosen(parts, torch.arange(6).repeat(2)))).total
    torch.testing.assert_close(twice, objective(make_trace(*parts)).total, rtol=1e-12, atol=1e-12)


def test_the_loss_is_invariant_under_splitting(lone_term: Any, make_trace: Make) -> None:
    parts, objective = numbers(2, 6, (5,), (2,)), Objective({"it": lone_term.make()}, {"it": 0.3})
    halves = [objective(make_trace(*chosen(parts, index))).total for index in (torch.arange(3), torch.arange(3, 6))]
    whole = objective(make_trace(*parts)).total
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tiles", [2, 3])
def test_an_iid_model_tiled_to_a_larger_image_scales_every_term_alike(
    extensive_term: Any, make_trace: Make, tiles: int
) -> None:
    """An image of r x r independent copies, each with its own copy of the latent, has r^2 times the nats of each term."""
    x, px_loc, q_loc, q_scale, noise = numbers(2, 3, (1, 4, 2), (1, 2, 2))
    small = extensive_term.make()(make_trace(x, px_loc, q_loc, q_scale, noise))
    large = extensive_term.make()(
        make_trace(*(part.repeat(*[1] * (part.dim() - 2), tiles, tiles) for part in (x, px_loc, q_loc, q_scale, noise)))
    )
    torch.testing.assert_close(large, tiles**2 * small, rtol=1e-12, atol=1e-12)


def test_the_number_of_elements_is_what_the_term_sums_over(term: Any, make_trace: Make) -> None:
    trace = make_trace(*numbers(2, 3, (3, 5, 7), (2, 2)))
    assert term.make().elements(trace) == term.elements(105, 4)
    assert SumReduction()(term.make(), trace) == 1


def test_gradients_are_those_of_finite_differences(plain_term: Any, make_trace: Make) -> None:
    """Of those that are differentiated as they stand; what is true of the others is in tests/objectives/test_estimators.py."""
    x, *rest = numbers(2, 2, (3,), (2,))
    leaves = [part.clone().requires_grad_() for part in rest[:3]]

    def value(px_loc: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
        return plain_term.make()(make_trace(x, px_loc, q_loc, q_scale, rest[3]))

    assert torch.autograd.gradcheck(value, leaves, atol=1e-6, rtol=1e-5)


def test_the_numbers_of_one_example(term: Any, make_trace: Make) -> None:
    """By hand: x = 1, p(x|z) = N(0.4, 0.5^2), q = N(2, 0.1^2), z = 2 + 0.1 * 3."""
    trace = make_trace(*(torch.tensor(v).reshape(shape) for v, shape in [
        (1.0, (1, 1)), (0.4, (1, 1, 1)), (2.0, (1, 1, 1)), (0.1, (1, 1, 1)), (3.0, (1, 1, 1)),
    ]))  # fmt: skip
    assert term.make()(trace).item() == pytest.approx(term.by_hand, rel=1e-12)


def test_a_term_ignores_the_weights_of_others(term: Any, make_trace: Make) -> None:
    trace = make_trace(*numbers(2, 3, (5,), (2,)))
    objective = Objective({"it": term.make(), "other": KL()}, {"it": 0.5, "other": 0.0})
    loss = objective(trace)
    torch.testing.assert_close(loss.parts["it"], term.make().nats(trace).mean())
    torch.testing.assert_close(loss.total, 0.5 * term.make()(trace).mean())


def test_what_is_logged_is_what_is_measured(term: Any, make_trace: Make) -> None:
    """A wrapper logs the nats of what it wraps, with the sign and the scale of those."""
    trace, made = make_trace(*numbers(2, 3, (5,), (2,))), term.make()
    assert made.role in Role
    wrapped = getattr(made, "term", made)
    assert made.role is wrapped.role
    torch.testing.assert_close(made.nats(trace), wrapped(trace), rtol=0, atol=0)
    assert Objective({"it": made}).plain is (wrapped is made)
