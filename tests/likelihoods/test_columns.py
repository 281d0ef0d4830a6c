"""The likelihood of tables: exact log-probabilities, draws, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import log_expit, log_softmax
from scipy.stats import chisquare, kstest, norm
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

from vaekit.builder import build
from vaekit.distributions import draw
from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import PerExample, use
from vaekit.errors import ConfigError
from vaekit.likelihoods import Columns
from vaekit.likelihoods.base import DataRange

pytestmark = pytest.mark.usefixtures("float64")

LAYOUTS = [(0,), (-1,), (2,), (0, 3, -1, 2, 0, 3), (4, 4, 4, 2), (-1, -1, 5, 0), (1000, 0)]
ALL = (0, 3, -1, 2, 0, 3)  # widths 1, 3, 2, 2, 1, 3
DRAWS = 20_000


def part(layout: tuple[int, ...], seed: int = 0) -> Columns:
    """With scales that are neither 1 nor alike."""
    made = Columns((sum({0: 1, -1: 2}.get(kind, kind) for kind in layout),), layout)
    with torch.no_grad():
        made.theta.copy_(torch.linspace(-0.1, 0.05, len(made.theta)))
    return made


def rows(layout: tuple[int, ...], n: int, seed: int = 0) -> Tensor:
    """Rows of such a table."""
    rng, blocks = np.random.default_rng(seed), []
    for kind in layout:
        if kind > 0:
            blocks.append(np.eye(kind)[rng.integers(kind, size=n)])
            continue
        there = rng.random(n) < 0.6 if kind else np.ones(n, dtype=bool)
        blocks.append(np.stack([np.where(there, 2 * rng.normal(size=n), 0.0), there], 1)[:, : 2 if kind else 1])
    return torch.from_numpy(np.concatenate(blocks, 1))


def by_hand(layout: tuple[int, ...], context: np.ndarray, x: np.ndarray, scale: np.ndarray) -> float:
    """log p of one row, from scipy's densities, column by column."""
    total, at, number = 0.0, 0, 0
    for kind in layout:
        if kind > 0:
            total += log_softmax(context[at : at + kind])[int(x[at : at + kind].argmax())]
            at += kind
            continue
        observed = kind == 0 or x[at + 1] == 1
        if kind == -1:
            total += log_expit(context[at + 1] if observed else -context[at + 1])
        if observed:
            total += norm.logpdf(x[at], context[at], scale[number])
        at, number = at + (1 if kind == 0 else 2), number + 1
    return total


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("spread", [1.0, 80.0])
def test_log_prob_is_the_sum_of_scipys_over_the_columns(layout: tuple[int, ...], spread: float) -> None:
    likelihood = part(layout)
    context, x = spread * torch.randn(2, 7, *likelihood.context_shape), rows(layout, 7)
    actual = likelihood(context, model=None).log_prob(x)
    scale = likelihood.scale.detach().numpy()
    for k, b in itertools.product(range(2), range(7)):
        expected = by_hand(layout, context[k, b].numpy(), x[b].numpy(), scale)
        assert actual[k, b].item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_it_is_exact_in_float32() -> None:
    likelihood = part(ALL)
    context, x = 10 * torch.randn(1, 50, 12), rows(ALL, 50)
    expected = likelihood(context, model=None).log_prob(x)
    actual = likelihood.float()(context.float(), model=None).log_prob(x.float())
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-4)


def test_it_sums_and_integrates_to_one() -> None:
    """Over all levels, over observed and not, and over the values of a number where there is one."""
    layout = (3, -1, 2)
    likelihood = part(layout)
    px = likelihood(torch.randn(1, 1, 7), model=None)
    grid = torch.linspace(-30, 30, 6001)
    total = 0.0
    for a, b in itertools.product(range(3), range(2)):
        levels = torch.zeros(7)
        levels[a], levels[5 + b] = 1.0, 1.0
        total += px.log_prob(levels).exp().item()  # not observed: one point
        values = levels.repeat(len(grid), 1)
        values[:, 3], values[:, 4] = grid, 1.0
        total += torch.trapezoid(px.log_prob(values[:, None, None]).exp().flatten(), grid).item()
    assert total == pytest.approx(1.0, abs=1e-9)


def test_mean_and_variance_are_those_of_many_draws() -> None:
    """Six standard errors: 2e-9 for each value."""
    likelihood = part(ALL).requires_grad_(False)
    px = likelihood(torch.randn(1, 1, 12).expand(1, DRAWS, 12), model=None)
    x = draw(px).value[0]
    mean, variance = px.mean[0, 0], px.variance[0, 0]
    assert ((x.mean(0) - mean).abs() < 6 * (variance / DRAWS).sqrt()).all()
    fourth = (x - mean).pow(4).mean(0)
    assert ((x.var(0) - variance).abs() < 6 * ((fourth - variance**2) / DRAWS).sqrt()).all()


def test_draws_are_rows_of_such_a_table_and_follow_the_density() -> None:
    """Chi-squared over all categories and what is observed, Kolmogorov-Smirnov for the numbers: false alarm 1e-6 each."""
    layout = (3, -1, 2, 0)
    likelihood = part(layout).requires_grad_(False)
    context = torch.randn(1, 1, 8)
    for x in (draw, lambda q: q.sample()):
        px = likelihood(context.expand(1, DRAWS, 8), model=None)
        drawn = x(px)
        value = (drawn if isinstance(drawn, Tensor) else drawn.value)[0]
        assert set(value[:, [0, 1, 2, 4, 5, 6]].unique().tolist()) == {0.0, 1.0}
        assert (value[:, :3].sum(1) == 1).all()
        assert (value[:, 5:7].sum(1) == 1).all()
        assert (value[value[:, 4] == 0, 3] == 0).all()
        cell = value[:, :3].argmax(1) * 4 + value[:, 4].long() * 2 + value[:, 5:7].argmax(1)
        c = context[0, 0]
        p = torch.einsum(
            "a,b,c->abc", c[:3].softmax(0), torch.stack([1 - c[4].sigmoid(), c[4].sigmoid()]), c[5:7].softmax(0)
        )
        assert chisquare(np.bincount(cell.numpy(), minlength=12), DRAWS * p.flatten().numpy()).pvalue > 1e-6
        scale = likelihood.scale
        for values, loc, s in ((value[value[:, 4] == 1, 3], c[3], scale[0]), (value[:, 7], c[7], scale[1])):
            assert kstest(values.numpy(), norm(float(loc), float(s)).cdf).pvalue > 1e-6


def test_a_draw_belongs_to_its_example() -> None:
    likelihood = part(ALL).requires_grad_(False)
    context, index = torch.randn(4, 6, 12), torch.tensor([5, 0, 17, 3, 99, 4])

    def drawn(samples: slice, chosen: list[int]) -> Tensor:
        with use(PerExample(3, index[chosen], first_sample=samples.start)):
            return reparameterised(likelihood(context[samples][:, chosen], model=None))

    whole = drawn(slice(0, 4), list(range(6)))
    for samples, chosen in [(slice(0, 4), [4]), (slice(1, 3), [5, 2, 0])]:
        torch.testing.assert_close(drawn(samples, chosen), whole[samples][:, chosen], rtol=1e-12, atol=1e-12)


def test_gradients() -> None:
    likelihood, x = part(ALL), rows(ALL, 3)
    context = torch.randn(2, 3, 12, requires_grad=True)
    theta = likelihood.theta.detach().clone().requires_grad_()

    def log_prob(context: Tensor, theta: Tensor) -> Tensor:
        return functional_call(likelihood, {"theta": theta}, (context, None)).log_prob(x)

    assert gradcheck(log_prob, (context, theta), atol=1e-6, rtol=1e-5)


def test_the_value_of_a_number_that_is_not_there_is_not_asked_for() -> None:
    likelihood = part((-1,))
    context = torch.randn(1, 1, 2, requires_grad=True)
    value = torch.tensor([[0.0, 0.0]])
    (gradient,) = torch.autograd.grad(likelihood(context, model=None).log_prob(value).sum(), context)
    assert gradient[0, 0, 0] == 0.0
    assert gradient[0, 0, 1] != 0.0


def test_a_decoder_begins_at_the_means_and_frequencies() -> None:
    """The scores of rows are then highest on average: no other constant context does better."""
    likelihood, x = Columns((12,), ALL), rows(ALL, 500)
    best = likelihood.beginning(x.mean(0))

    def score(context: Tensor) -> float:
        return float(likelihood(context.expand(1, 500, 12), model=None).log_prob(x).mean().detach())

    torch.testing.assert_close(likelihood(best[None, None], model=None).mean[0, 0], x.mean(0))
    for _ in range(20):
        assert score(best + 0.1 * torch.randn(12)) < score(best)
    never = x.mean(0).clone()
    never[1:4] = torch.tensor([0.0, 0.4, 0.6])
    assert likelihood.beginning(never).isfinite().all()


def test_scales_begin_at_one_and_have_a_floor() -> None:
    likelihood = Columns((3,), (0, 0, 0))
    assert torch.equal(likelihood.scale, torch.ones(3))
    with torch.no_grad():
        likelihood.theta.copy_(torch.tensor([-1e3, 0.0, math.log(2.0) / Columns.GAIN]))
    torch.testing.assert_close(likelihood.scale, torch.tensor([0.01, 1.0, 0.01 + 0.99 * 2.0]))
    assert likelihood.parameters_of_note == pytest.approx({"smallest_scale": 0.01, "largest_scale": 1.99})
    assert Columns((2,), (2,)).parameters_of_note == {}


@pytest.mark.parametrize(
    ("shape", "columns", "message"),
    [
        ((1, 28, 28), None, r"is for tables.*data=table data\.path=FILE.*Write likelihood=normal"),
        ((5,), (0, 3), r"make 4 values of an example, but event_shape is \[5\]"),
        ((1, 4), (0, 3), "make 4 values"),
        ((1,), (1,), r"columns are \[1\], expected 0 for a number"),
        ((1,), (-2,), "expected 0 for a number"),
    ],
)
def test_what_is_no_table_is_refused(shape: tuple[int, ...], columns: tuple[int, ...] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Columns(shape, columns)
    with pytest.raises(ConfigError, match=message):
        build({"kind": "likelihoods.Columns", "event_shape": list(shape), "columns": columns}, where="likelihood")


def test_it_accepts_its_data_and_moves() -> None:
    likelihood = part(ALL)
    likelihood.check(DataRange(-5.0, 12.0))
    assert likelihood.context_shape == likelihood.event_shape == (12,)
    assert list(likelihood.state_dict()) == ["theta"]
