"""The aggregate posterior: against a plain sum, scipy, factorising mixtures, and the faults that others have made."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm
from torch import Tensor

from vaekit.math.total_correlation import aggregate_log_density, log_normal, normal_aggregate

pytestmark = pytest.mark.usefixtures("float64")


def mixture(loc: Tensor, scale: Tensor, draws: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Draws of each component, (draws N, L), the density of each under its own, and whose it is."""
    noise = torch.randn(draws, *loc.shape, generator=torch.Generator().manual_seed(seed))
    z = (loc + scale * noise).flatten(0, 1)
    whose = torch.arange(len(loc)).repeat(draws)
    return z, log_normal(z, loc[whose], scale[whose]).sum(1), whose


def aggregate(loc: Tensor, scale: Tensor, z: Tensor, whose: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    is_own = whose[:, None] == torch.arange(len(loc))
    return normal_aggregate(z, (loc[whose], scale[whose]), (loc, scale), is_own, len(loc))


def grid(values: list[list[tuple[float, float]]], seed: int = 0) -> tuple[Tensor, Tensor]:
    """All combinations of the means and scales of the dimensions, in no order: a mixture whose dimensions are independent."""
    product = torch.tensor(list(itertools.product(*values)))
    product = product[torch.randperm(len(product), generator=torch.Generator().manual_seed(seed))]
    return product[..., 0], product[..., 1]


TWO = [(-1.0, 0.4), (1.3, 0.7)]
GRIDS = {
    "D=10": grid([TWO] * 10),
    "D=3, far apart": grid([[(-40.0, 0.1), (3.0, 2.0), (50.0, 0.3)]] * 3),
    "D=2, of different sizes": grid([TWO, [(float(k), 0.2 + 0.1 * k) for k in range(7)]]),
}


@pytest.mark.parametrize(("loc", "scale"), GRIDS.values(), ids=GRIDS.keys())
def test_the_total_correlation_of_a_factorised_aggregate_posterior_is_0(loc: Tensor, scale: Tensor) -> None:
    """Not on average but at every draw: the mixture of all combinations is the product of the mixtures of the dimensions."""
    z, _, whose = (part[:100] for part in mixture(loc, scale, 20))
    together, _, dimensions, _ = aggregate(loc, scale, z, whose)
    assert dimensions.shape == z.shape
    torch.testing.assert_close(together, dimensions.sum(1), rtol=1e-10, atol=1e-10)


def test_the_mixture_is_that_of_scipy() -> None:
    draw = np.random.default_rng(0)
    loc, scale = draw.normal(size=(13, 4)), draw.uniform(0.1, 2.0, size=(13, 4))
    z, _, whose = mixture(torch.tensor(loc), torch.tensor(scale), 3)
    together, others, dimensions, dimension_others = aggregate(torch.tensor(loc), torch.tensor(scale), z, whose)
    single = norm.logpdf(z.numpy()[:, None], loc, scale)  # (Q, M, L)
    own = whose.numpy()[:, None] == np.arange(13)
    without = np.where(own, -np.inf, single.sum(2))
    expected = {
        "together": (together, logsumexp(single.sum(2), 1) - math.log(13)),
        "others": (others, logsumexp(without, 1) - math.log(12)),
        "dimensions": (dimensions, logsumexp(single, 1) - math.log(13)),
        "dimension_others": (
            dimension_others,
            logsumexp(np.where(own[..., None], -np.inf, single), 1) - math.log(12),
        ),
    }
    for found, known in expected.values():
        np.testing.assert_allclose(found.numpy(), known, rtol=1e-11, atol=1e-11)


def test_total_correlation_of_a_mixture_in_the_plane_is_the_integral() -> None:
    """Against numeric integration: three blobs on a diagonal. Four standard errors of 15,000 draws: false alarm 6e-5."""
    loc, scale = (
        torch.tensor([[-1.5, -1.0], [0.2, 0.4], [1.6, 1.1]]),
        torch.tensor([[0.5, 0.4], [0.6, 0.5], [0.4, 0.7]]),
    )
    line = torch.linspace(-6.0, 6.0, 601)
    a, b = (log_normal(line[:, None], loc[:, j], scale[:, j]).exp() for j in (0, 1))
    density, product = (a[:, None] * b).mean(2), a.mean(1)[:, None] * b.mean(1)
    # the rule of the trapezoid: the error is below any power of the step where all derivatives vanish at both ends
    truth = float((density * (density / product).log()).sum()) * float(line[1] - line[0]) ** 2
    assert truth > 0.2
    z, _, whose = mixture(loc, scale, 5000)
    together, _, dimensions, _ = aggregate(loc, scale, z, whose)
    nats = together - dimensions.sum(1)
    assert abs(float(nats.mean()) - truth) < 4 * float(nats.std()) / len(nats) ** 0.5


def test_posteriors_far_apart_tell_log_n_and_equal_ones_nothing() -> None:
    """Mutual information at its two ends, both exact: the own posterior counts 1/N, whatever the place of the example."""
    z, log_q, whose = mixture(100.0 * torch.arange(9.0)[:, None].expand(9, 4), torch.ones(9, 4), 2)
    far, *_ = aggregate(100.0 * torch.arange(9.0)[:, None].expand(9, 4), torch.ones(9, 4), z, whose)
    torch.testing.assert_close(log_q - far, torch.full((18,), math.log(9)), rtol=1e-12, atol=1e-12)
    z, log_q, whose = mixture(torch.zeros(9, 4), torch.ones(9, 4), 2)
    for together in aggregate(torch.zeros(9, 4), torch.ones(9, 4), z, whose)[:2]:
        torch.testing.assert_close(log_q, together, rtol=1e-12, atol=1e-12)


def test_a_part_of_the_mixture_has_the_right_density_on_average() -> None:
    """Over all pairs out of six components: the mean of the estimated density is the density, own posterior in the pair or not."""
    loc, scale, z = torch.randn(6, 2), torch.rand(6, 2) + 0.5, torch.randn(1, 2)
    whole = log_normal(z, loc, scale).sum(1)
    own = whole[4:5]
    for without, truth in ((False, whole.exp().mean()), (True, whole[[0, 1, 2, 3, 5]].exp().mean())):
        seen = []
        for pair in itertools.permutations([0, 1, 2, 3, 5], 2):
            chosen = torch.tensor([*pair, 4])  # their own as well: it counts 1/N all the same
            is_own = (chosen == 4)[None]
            seen.append(aggregate_log_density(own, whole[chosen][None], is_own, 6)[without].exp())
        torch.testing.assert_close(torch.stack(seen).mean(), truth, rtol=1e-12, atol=1e-12)


def test_the_own_posterior_counts_once_whether_it_is_among_the_components_or_not() -> None:
    own, log_q = torch.randn(5), torch.randn(5, 4)
    none = torch.zeros(5, 4, dtype=torch.bool)
    one = torch.cat([none, torch.ones(5, 1, dtype=torch.bool)], 1)
    apart = aggregate_log_density(own, log_q, none, 100)
    among = aggregate_log_density(own, torch.cat([log_q, own[:, None]], 1), one, 100)
    for found, expected in zip(among, apart, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_draw_without_another_posterior_is_refused() -> None:
    with pytest.raises(ValueError, match="give two examples or more"):
        aggregate_log_density(torch.zeros(1), torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), 1)
