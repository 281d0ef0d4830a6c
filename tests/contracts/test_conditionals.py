"""What is true of every conditional: posterior families, priors and likelihoods."""

# K samples, B batch, *c context, *e event

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor
from torch.autograd import gradcheck
from torch.distributions import Distribution
from torch.func import functional_call

from vaekit.conditionals import Conditional
from vaekit.distributions import centre, draw
from vaekit.distributions.noise import PerExample, use

pytestmark = pytest.mark.usefixtures("float64")

LEADS = [(1, 1), (1, 4), (3, 1), (3, 4)]
EVENTS = [(1,), (5,), (2, 3), (1, 4, 3), (3, 2, 2)]
DRAWS = 20_000


def context_for(part: Conditional, lead: tuple[int, ...]) -> Tensor:
    return torch.randn(*lead, *part.context_shape)


def value_for(register: Any, shape: tuple[int, ...]) -> Tensor:
    value: Tensor = register.draw(shape)
    return value


def patterns(register: Any, size: int) -> Tensor:
    """All values of an event of `size` values under a discrete support: (n, 1, size)."""
    if size == 1:
        return register.atoms[:, None, None]
    return torch.tensor(list(itertools.product(register.atoms.tolist(), repeat=size)))[:, None]


def quadrature(register: Any, q: Distribution) -> tuple[Tensor, Tensor]:
    """Nodes and weights for a density of one value, (n, K, B, 1): Gauss-Legendre on panels that meet at the mean.

    Panels of one standard deviation, out to forty: densities that are smooth but for a kink at the mean are integrated to rounding.
    """
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(20))
    if register.support == "unit":
        start, width = torch.zeros_like(q.mean), torch.ones_like(q.mean) / 4
        panels = torch.arange(4.0)
    else:
        start, width = q.mean, q.stddev
        panels = torch.arange(-40.0, 40.0)
    at = (panels[:, None] + 0.5 * (nodes + 1.0)).flatten()
    return start + width * at[:, None, None, None], width * (0.5 * weights).repeat(len(panels))[:, None, None, None]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("lead", LEADS)
def test_shapes(part: Any, lead: tuple[int, ...], event: tuple[int, ...]) -> None:
    conditional = part.make(event)
    assert isinstance(conditional.event_shape, torch.Size)
    assert isinstance(conditional.context_shape, torch.Size)
    assert conditional.event_shape == event
    distribution = conditional(context_for(conditional, lead), model=None)
    assert isinstance(distribution, Distribution)
    assert distribution.batch_shape == lead
    assert distribution.event_shape == event
    drawn = draw(distribution)
    assert drawn.value.shape == distribution.mean.shape == lead + event
    assert drawn.log_prob.shape == distribution.log_prob(drawn.value).shape == lead
    assert distribution.log_prob(drawn.value[:1]).shape == lead


@pytest.mark.parametrize("event", EVENTS)
def test_log_prob_is_the_sum_of_scipys_over_the_event(part: Any, event: tuple[int, ...]) -> None:
    conditional = part.make(event)
    context, x = context_for(conditional, (3, 4)), value_for(part, (3, 4, *event))
    expected = part.log_density(context.numpy(), x.numpy()).sum(tuple(range(2, 2 + len(event))))
    actual = conditional(context, model=None).log_prob(x)
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_log_prob_is_scipys_at_the_far_ends(part: Any, dtype: torch.dtype, tolerance: float) -> None:
    """Relative to the larger of the value and one nat."""
    for conditional, context, x, expected in part.points():
        made = conditional.to(dtype)(torch.tensor([[context]], dtype=dtype), model=None)
        actual = made.log_prob(torch.tensor([[[x]]], dtype=dtype))
        assert actual.dtype == dtype
        assert abs(actual.item() - expected) <= tolerance * max(1.0, abs(expected)), (
            context,
            x,
            actual.item(),
            expected,
        )


def test_made_in_float32_and_cast_is_exact_in_float64(part: Any) -> None:
    torch.set_default_dtype(torch.float32)
    try:
        points = [(conditional.double(), *rest) for conditional, *rest in part.points()]
    finally:
        torch.set_default_dtype(torch.float64)
    for conditional, context, x, expected in points:
        if any(b.is_floating_point() for b in (*conditional.parameters(), *conditional.state_dict().values())):
            continue  # what was learned or measured in float32 has its digits
        actual = conditional(torch.tensor([[context]]), model=None).log_prob(torch.tensor([[[x]]]))
        assert abs(actual.item() - expected) <= 1e-10 * max(1.0, abs(expected))


def test_integrates_to_one(part: Any) -> None:
    if part.discrete:
        size = 3 if part.finite else 1
        conditional = part.make((size,))
        x = patterns(part, size)  # (n, B, size)
        total = conditional(context_for(conditional, (1, 5)), model=None).log_prob(x).exp().sum(0)
    else:
        conditional = part.make((1,))
        q = conditional(context_for(conditional, (1, 5)), model=None)
        x, weights = quadrature(part, q)
        total = (q.log_prob(x).exp() * weights[..., 0]).sum((0, 1))
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-9)


def test_mean_and_variance_are_those_of_the_density(part: Any) -> None:
    conditional = part.make((1,))
    q = conditional(context_for(conditional, (1, 5)), model=None)
    if part.discrete:
        x = part.atoms[:, None, None, None].expand(-1, 1, 5, 1)
        mass = q.log_prob(x).exp()[..., None]
    else:
        x, weights = quadrature(part, q)
        mass = q.log_prob(x).exp()[..., None] * weights
    mean = (mass * x).sum(0)
    torch.testing.assert_close(q.mean, mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.variance, (mass * (x - mean) ** 2).sum(0), rtol=1e-9, atol=1e-9)


def pooled(value: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """How often each count was drawn and is expected, with all that are rare taken together."""
    drawn = torch.bincount(value[value == value.round()].long(), minlength=len(expected))
    rare = expected < 20
    return tuple(torch.cat([number[~rare], number[rare].sum()[None]]) for number in (drawn, expected))


@pytest.mark.parametrize("sampler", [lambda q: draw(q).value, lambda q: q.sample()], ids=["draw", "sample"])
def test_draws_follow_the_density(part: Any, sampler: Callable[[Distribution], Tensor]) -> None:
    """Kolmogorov-Smirnov or chi-squared against exp(log_prob). False alarm 1e-6 for each part and sampler; the seed is fixed."""
    conditional = part.make((3,) if part.support == "binary" else (1,)).requires_grad_(False)
    context = context_for(conditional, (1, 1))
    density = conditional(context, model=None)
    value = sampler(conditional(context.expand(1, DRAWS, *conditional.context_shape), model=None))[0]
    if part.discrete:
        events = patterns(part, value.shape[-1])  # (n, B, size)
        expected = DRAWS * density.log_prob(events).exp()[:, 0]
        if part.finite:
            counts = ((value[None] - events).abs() < 1e-9).all(-1).sum(1)
        else:
            counts, expected = pooled(value, expected)
        assert counts.sum() == DRAWS  # nothing outside the support
        assert expected.min() > 5  # below it the distribution of chi-squared is another
        assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-6
    else:
        grid = density.mean + density.stddev * torch.linspace(-14, 14, 4001)[:, None, None]
        if part.support == "unit":
            grid = torch.linspace(0, 1, 4001)[:, None, None]
        cumulative = torch.cumulative_trapezoid(density.log_prob(grid).exp()[:, 0], grid[:, 0, 0])
        points, heights = grid[:, 0, 0].numpy(), np.concatenate([[0.0], cumulative.numpy()])
        assert kstest(value[:, 0].numpy(), lambda x: np.interp(x, points, heights)).pvalue > 1e-6


def test_draws_of_an_event_are_independent(part: Any) -> None:
    """Correlation between the values of one event, and between samples and examples. 6 standard errors: 2e-9 each."""
    conditional = part.make((3,))
    context = context_for(conditional, (1, 1)).expand(2, DRAWS, *conditional.context_shape)
    value = draw(conditional(context, model=None)).value
    columns = torch.cat([value[0], value[1]], -1).T  # events and samples side by side
    correlation = torch.corrcoef(columns) - torch.eye(6)
    assert correlation.abs().max() < 6 / DRAWS**0.5
    assert torch.corrcoef(torch.stack([value[0, 1:, 0], value[0, :-1, 0]]))[0, 1].abs() < 6 / DRAWS**0.5


def test_log_prob_has_the_right_gradients(part: Any) -> None:
    conditional = part.make((2, 2))
    parameters = {name: p.detach().clone().requires_grad_() for name, p in conditional.named_parameters()}
    context, x = context_for(conditional, (2, 3)).requires_grad_(), value_for(part, (3, 2, 2))
    x.requires_grad_(not part.discrete)

    def log_prob(context: Tensor, x: Tensor, *values: Tensor) -> Tensor:
        changed = dict(zip(parameters, values, strict=True))
        return functional_call(conditional, changed, (context, None)).log_prob(x)

    assert gradcheck(log_prob, (context, x, *parameters.values()), atol=1e-6, rtol=1e-5)


def test_reparameterised_draws_have_the_right_gradients(part: Any) -> None:
    conditional = part.make((2,))
    context = context_for(conditional, (2, 3)).requires_grad_()
    if part.discrete:
        assert not draw(conditional(context, model=None)).value.requires_grad
        return

    def value(context: Tensor) -> Tensor:
        with use(PerExample(seed=1, index=torch.arange(3))):
            return draw(conditional(context, model=None)).value

    assert gradcheck(value, (context,), atol=1e-6, rtol=1e-5)


def test_the_centre_is_the_mean(part: Any) -> None:
    conditional = part.make((2, 2))
    q = conditional(context_for(conditional, (2, 3)), model=None)
    drawn = centre(q)
    assert torch.equal(drawn.value, q.mean)
    torch.testing.assert_close(drawn.log_prob, q.log_prob(q.mean))
    assert drawn.penalties == {}


def test_state_dict_round_trip(part: Any) -> None:
    conditional = part.make((2, 2))
    for parameter in conditional.parameters():
        parameter.data.normal_(std=0.1)
    other = copy.deepcopy(conditional)
    for tensor in (*other.parameters(), *other.buffers()):
        if any(tensor is kept for kept in other.state_dict(keep_vars=True).values()):
            tensor.data.fill_(7.0)
    other.load_state_dict(conditional.state_dict())
    context, x = context_for(conditional, (2, 3)), value_for(part, (3, 2, 2))
    assert torch.equal(conditional(context, model=None).log_prob(x), other(context, model=None).log_prob(x))


def test_permuting_the_batch_permutes_the_result(part: Any) -> None:
    conditional = part.make((2, 2))
    context, x, order = context_for(conditional, (2, 5)), value_for(part, (5, 2, 2)), torch.randperm(5)
    expected = conditional(context, model=None).log_prob(x)[:, order]
    actual = conditional(context[:, order], model=None).log_prob(x[order])
    torch.testing.assert_close(actual, expected, rtol=1e-14, atol=1e-14)  # vector units treat the last few apart


@pytest.mark.parametrize("event", [(0,), (3, 0), (-1,)])
def test_an_empty_event_is_refused(part: Any, event: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sizes of 1 or more") as caught:
        part.make(event)
    assert str(list(event)) in str(caught.value)
