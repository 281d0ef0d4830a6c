"""Conditional models: p(x|z, c) and q(z|x, c) see what an example is conditioned on, all the way through a training."""

# K samples, B batch, *x event of the data

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit import runs
from vaekit.compose import compose
from vaekit.conditionals import Normal as NormalPosterior
from vaekit.data import Dataset, Split
from vaekit.errors import ConfigError
from vaekit.evaluation import bound_terms
from vaekit.evaluation.passes import Plan, encodings
from vaekit.likelihoods import Bernoulli, Normal
from vaekit.models import VAE, flat
from vaekit.networks import MLP, Conditioned, Embedding, OneHot, Values
from vaekit.networks.condition import Condition
from vaekit.priors import StandardNormal
from vaekit.recipe import make_session, resolved, validate
from vaekit.training import fit

SHAPE, LATENT = (1, 4, 3), 2
LABELS = torch.tensor([1, 0, 2, 2])


def make(condition: Condition) -> VAE:
    def network(in_shape: Any, out_shape: Any) -> Conditioned:
        return Conditioned(in_shape, out_shape, lambda **shapes: MLP(**shapes, hidden_dims=(8,)), condition)

    torch.manual_seed(2)
    return flat(network, network, NormalPosterior((LATENT,)), StandardNormal((LATENT,)), Bernoulli(SHAPE))


@pytest.fixture(params=["classes", "learned classes", "values"])
def case(request: pytest.FixtureRequest, float64: None) -> tuple[VAE, Tensor, Tensor]:
    """A model, a context of four rows, and one that differs from it in the third."""
    if request.param == "values":
        context = torch.randn(4, 2)
        other = context.clone()
        other[2, 1] += 1.0
        return make(Values(2)), context, other
    other = LABELS.clone()
    other[2] = 0
    return make(OneHot(3) if request.param == "classes" else Embedding(3, 2)), LABELS, other


def test_posterior_and_likelihood_see_the_condition(case: tuple[VAE, Tensor, Tensor]) -> None:
    """Each example its own row, and nobody another's."""
    model, context, other = case
    x, z = torch.rand(4, *SHAPE), torch.randn(4, LATENT)
    assert model.conditional
    for look in (
        lambda c: model.encode(x, c), lambda c: model.encode_scale(x, c), lambda c: model.posterior(x, c).mean[0],
        lambda c: model.decode(z, c).mean[0], lambda c: model.reconstruct(x, c),
    ):  # fmt: skip
        changed = (look(context) != look(other)).flatten(1).any(1)
        assert changed.tolist() == [False, False, True, False]


def test_samples_are_of_their_condition(case: tuple[VAE, Tensor, Tensor]) -> None:
    model, context, other = case
    means = []
    for c in (context, other):
        torch.manual_seed(3)
        means.append(model.generate(4, c).mean[0])
    assert (means[0] != means[1]).flatten(1).any(1).tolist() == [False, False, True, False]
    assert model.sample(4, context).shape == (4, *SHAPE)


def test_all_samples_of_an_example_have_its_condition(case: tuple[VAE, Tensor, Tensor]) -> None:
    model, context, _ = case
    x = torch.rand(4, *SHAPE)
    trace = model(x, 5, context)
    assert trace.log_w.shape == (5, 4)
    z = trace.latents[0].draw.value
    for k in range(5):
        torch.testing.assert_close(model.decode(z[k], context).log_prob(x)[0], trace.log_px[k], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(trace.latents[0].q.mean, model.encode(x, context).expand(5, 4, LATENT))


def test_without_a_condition_or_with_a_wrong_one(case: tuple[VAE, Tensor, Tensor]) -> None:
    model, context, _ = case
    x, z = torch.rand(4, *SHAPE), torch.randn(4, LATENT)
    for call in (
        lambda c: model(x, 1, c), lambda c: model.encode(x, c), lambda c: model.reconstruct(x, c),
        lambda c: model.decode(z, c), lambda c: model.generate(4, c), lambda c: model.sample(4, c),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"conditional: say what to condition on.*context=labels"):
            call(None)
        with pytest.raises(ValueError, match="for 4 examples: give one row for each example"):
            call(context[:3])
        with pytest.raises(ValueError, match="The model is conditioned on"):
            call(torch.rand(4, 7))


def test_other_models_leave_the_condition_aside() -> None:
    def network(in_shape: Any, out_shape: Any) -> MLP:
        return MLP(in_shape, out_shape, hidden_dims=(8,))

    model = flat(network, network, NormalPosterior((LATENT,)), StandardNormal((LATENT,)), Normal(SHAPE))
    x = torch.rand(4, *SHAPE)
    assert not model.conditional
    assert torch.equal(model.encode(x, LABELS), model.encode(x))
    assert torch.equal(model.reconstruct(x, LABELS), model.reconstruct(x))


SMALL = ("model=cvae", "hidden_dim=16", "training.epochs=3")


@pytest.mark.parametrize(
    "condition", [(), ("condition={kind: networks.Embedding, classes: 10, width: 3}",)], ids=["one-hot", "embedding"]
)
def test_a_whole_training_on_labels(train: Any, condition: tuple[str, ...]) -> None:
    run = train("run", *SMALL, *condition)
    model = runs.load(run.path)
    first, second = (part.condition for part in (model.encoder, model.decoder))
    assert first.width == second.width == (3 if condition else 10)
    batch = run.dataset.test.batch(torch.arange(6))
    assert model.reconstruct(batch.x, batch.labels).shape == batch.x.shape
    assert model.sample(10, torch.arange(10)).shape == (10, 1, 8, 8)
    assert all(math.isfinite(value) for row in run.history for value in row.values())
    # evaluation tells the model of the labels: others give other numbers
    plan, test = Plan(batch_size=64, samples=2), run.dataset.test
    wrong = Split(test.stored, test.transforms, (test.labels + 1) % 10)
    assert (bound_terms(model, test, plan).distortion != bound_terms(model, wrong, plan).distortion).all()
    assert not torch.equal(encodings(model, test, plan)[0], encodings(model, wrong, plan)[0])
    terms = bound_terms(model, test, run.plan)
    assert run.metrics["elbo"].value == pytest.approx(-float((terms.distortion + terms.rate).mean()), rel=1e-6)


def test_stopped_and_resumed(train: Any, same: Any) -> None:
    same(train("whole", *SMALL), train("stopped", *SMALL, stops=(1, 5, 8)))


def test_labels_that_tell_something_are_worth_nats(train: Any) -> None:
    """A digit's class need not be coded in z: with the labels turned at random the bound is lower by nats."""
    run = train("run", *SMALL, "training.epochs=15", "optimizer.lr=5e-3", "hidden_dim=32")
    test = run.dataset.test
    shuffled = Split(test.stored, test.transforms, test.labels[torch.randperm(len(test))])
    right, wrong = (bound_terms(run.model, split, run.plan) for split in (test, shuffled))
    assert float((wrong.distortion + wrong.rate - right.distortion - right.rate).mean()) > 1.0


def conditioned_data(N: int = 200) -> Dataset:
    """Images whose brightness is the first of two conditions; the second says nothing."""

    def split(seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        conditions = torch.rand(N, 2, generator=generator)
        noise = 0.1 * torch.randn(N, *SHAPE, generator=generator)
        return Split((conditions[:, 0, None, None, None] + noise).clamp(0.0, 1.0), (), conditions=conditions)

    return Dataset("made", split(0), split(1), split(2), "made", binary=False, low=0.0, high=1.0)


def test_a_whole_training_on_values(one_thread: None) -> None:
    """What the condition tells is not coded in z, and a condition that is wrong costs."""
    data = conditioned_data()
    composed = compose([
        "data=digits", "model=cvae", "condition={kind: networks.Values, count: 2}", "likelihood=normal_learned", "latent_dim=2",
        "hidden_dim=16", "training.batch_size=50", "training.epochs=30", "optimizer.lr=5e-3", "device=cpu",
    ])  # fmt: skip
    session = make_session(resolved(composed, data), data, torch.device("cpu"))
    with session.generators.borrowed():
        fit(session.model, session.objective, session.players, session.stream, steps=120, steps_per_epoch=4)
    plan = Plan(batch_size=100, samples=2)
    row, score = validate(session, data, plan)
    assert math.isfinite(score)
    assert row["val/elbo"] == score
    dark, bright = torch.tensor([[0.1, 0.5]]).repeat(50, 1), torch.tensor([[0.9, 0.5]]).repeat(50, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        means = [float(session.model.generate(50, c).mean.mean()) for c in (dark, bright)]
    assert means[0] < 0.3 < 0.7 < means[1]
    turned = Split(data.test.stored, (), conditions=1.0 - data.test.conditions)
    right, wrong = (bound_terms(session.model, split, plan) for split in (data.test, turned))
    assert float((wrong.distortion - right.distortion).mean()) > 1.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("condition.classes=5",), r"classes 0 to 4, received labels from"),
        (("condition={kind: networks.Values, count: 2}",), r"2 values for each example.*int64"),
        (("condition={kind: networks.MLP}",), r"condition"),
    ],
)
def test_mistakes(train: Any, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        train("run", *SMALL, *overrides)


def test_data_without_labels() -> None:
    data = conditioned_data()
    bare = Dataset("made", *(Split(part.stored, ()) for part in data.splits), "made", binary=False, low=0.0, high=1.0)
    composed = compose(["data=digits", "model=cvae", "device=cpu"])
    with pytest.raises(ConfigError, match="The data have no labels to condition on"):
        make_session(resolved(composed, bare), bare, torch.device("cpu"))
