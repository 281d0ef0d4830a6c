"""Gumbel-softmax: which category wins, what its gradients are, and the discrete numbers behind it."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chisquare
from torch.distributions import Independent, OneHotCategorical, kl_divergence

from vaekit.conditionals import RelaxedCategorical
from vaekit.distributions import centre, draw
from vaekit.distributions.noise import PerExample, use
from vaekit.distributions.relaxed import GumbelSoftmax
from vaekit.models import Latent
from vaekit.priors import UniformCategorical
from vaekit.schedules import Linear, advance

pytestmark = pytest.mark.usefixtures("float64")

V, M, N = 2, 5, 20_000


def logits() -> torch.Tensor:
    return torch.tensor([[2.0, 0.0, -1.0, 1.0, -3.0], [0.0, 0.0, 0.0, 4.0, 1.0]])


@pytest.mark.parametrize("temperature", [0.1, 0.5, 5.0])
@pytest.mark.parametrize("training", [True, False])
def test_draws_have_the_frequencies_of_the_categories(training: bool, temperature: float) -> None:
    """Chi-squared of the largest entry against softmax(logits), each variable: false alarm 1e-6 each; at every temperature."""
    part = RelaxedCategorical((V, M), temperature).train(training)
    value = draw(part(logits().expand(1, N, V, M), None)).value[0]
    torch.testing.assert_close(value.sum(-1), torch.ones(N, V))
    assert bool((value >= 0).all())
    assert bool(((value == 0) | (value == 1)).all()) is not training
    for v in range(V):
        counts = torch.bincount(value[:, v].argmax(-1), minlength=M)
        assert chisquare(counts.numpy(), (N * logits()[v].softmax(0)).numpy()).pvalue > 1e-6
    both = torch.bincount(value[:, 0].argmax(-1) * M + value[:, 1].argmax(-1), minlength=M * M)
    joint = N * (logits()[0].softmax(0)[:, None] * logits()[1].softmax(0)).flatten()
    often = joint > 5
    assert chisquare(both[often].numpy(), (joint[often] * both[often].sum() / joint[often].sum()).numpy()).pvalue > 1e-6


def test_a_draw_is_equation_1_of_the_paper() -> None:
    u = torch.rand(3, 4, V, M)
    q = GumbelSoftmax(torch.tensor(0.7), logits().expand(3, 4, V, M))
    pi = logits().softmax(-1)
    weights = ((pi.log() - (-u.log()).log()) / 0.7).exp()
    torch.testing.assert_close(q.relaxed(u), weights / weights.sum(-1, keepdim=True))
    assert q.relaxed(torch.zeros(3, 4, V, M)).isfinite().all()  # torch's uniform numbers include 0


def test_gradients_of_relaxed_draws_are_those_of_finite_differences() -> None:
    part = RelaxedCategorical((V, M), 0.6)

    def value(context: torch.Tensor) -> torch.Tensor:
        with use(PerExample(1, torch.arange(3))):
            return draw(part(context, None)).value

    assert torch.autograd.gradcheck(value, (torch.randn(2, 3, V, M, requires_grad=True),), atol=1e-6, rtol=1e-5)
    assert not draw(part.eval()(torch.randn(2, 3, V, M, requires_grad=True), None)).value.requires_grad


def test_evaluation_draws_belong_to_the_examples() -> None:
    part, context = RelaxedCategorical((V, M)).eval(), torch.randn(2, 6, V, M)
    with use(PerExample(3, torch.arange(6))):
        whole = draw(part(context, None)).value
    with use(PerExample(3, torch.tensor([5, 2]))):
        assert torch.equal(draw(part(context[:, [5, 2]], None)).value, whole[:, [5, 2]])


@pytest.mark.parametrize("training", [True, False])
def test_the_rate_is_that_of_the_discrete_variables(training: bool) -> None:
    """sum q log(q M), against a sum written out and against a mean over exact draws; 4 standard errors: 6e-5."""
    context = logits().expand(1, N, V, M)
    q = RelaxedCategorical((V, M)).train(training)(context, None)
    p = UniformCategorical((V, M))(torch.zeros(1, N, 0), None)
    pi = logits().softmax(-1)
    expected = sum(float(x * math.log(x * M)) for x in pi.flatten())
    torch.testing.assert_close(kl_divergence(q, p)[0, 0], torch.tensor(expected))
    exact = Independent(OneHotCategorical(logits=context), 1)
    value = exact.sample()
    ratio = (q.log_prob(value) - p.log_prob(value))[0]
    assert abs(float(ratio.mean()) - expected) < 4 * float(ratio.std()) / math.sqrt(N)
    by_variable = Latent("z", q, p, draw(q)).kl_per_dimension()
    assert by_variable.shape == (1, N, V)
    torch.testing.assert_close(by_variable.sum(-1), kl_divergence(q, p))


def test_the_relaxed_log_probability_lies_between_those_of_the_categories() -> None:
    q = RelaxedCategorical((V, M))(logits().expand(1, 4, V, M), None)
    exact = Independent(OneHotCategorical(logits=logits().expand(1, 4, V, M)), 1)
    unit = exact.sample()
    torch.testing.assert_close(q.log_prob(unit), exact.log_prob(unit))
    torch.testing.assert_close(
        q.log_prob(torch.full((1, 4, V, M), 1 / M)), logits().log_softmax(-1).mean(-1).sum().expand(1, 4)
    )


def test_the_centre_is_the_most_likely_category() -> None:
    for part in (RelaxedCategorical((V, M)), RelaxedCategorical((V, M)).eval()):
        q = part(logits().expand(1, 2, V, M), None)
        assert centre(q).value[0, 0].tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
        torch.testing.assert_close(q.mean[0, 0], logits().softmax(-1))


def test_the_temperature_follows_its_schedule() -> None:
    part = RelaxedCategorical((V, M), Linear(start=1.0, stop=0.5, steps=10))
    for step, expected in ((0, 1.0), (5, 0.75), (10, 0.5), (99, 0.5)):
        advance(part, step)
        assert float(part(torch.zeros(1, 1, V, M), None).base_dist.temperature) == pytest.approx(expected)
    with pytest.raises(ValueError, match="temperature is 0 at step 10"):
        RelaxedCategorical((V, M), Linear(start=1.0, stop=0.0, steps=10))
    for make in (RelaxedCategorical, UniformCategorical):
        with pytest.raises(ValueError, match=r"\[variables, categories\]"):
            make((3,))
