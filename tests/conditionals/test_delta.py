"""The point of an autoencoder: a distribution without density."""

# K samples, B batch

from __future__ import annotations

import pytest
import torch

from vaekit.conditionals import Conditional, Delta, Normal
from vaekit.distributions import centre, draw
from vaekit.distributions.delta import Delta as DeltaDistribution
from vaekit.likelihoods import Normal as NormalLikelihood
from vaekit.models import VAE, flat
from vaekit.networks import MLP
from vaekit.objectives import Reconstruction
from vaekit.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("float64")


def autoencoder(posterior: Conditional) -> VAE:
    return flat(
        encoder=lambda **shapes: MLP(**shapes, hidden_dims=(6,), activation="tanh"),
        decoder=lambda **shapes: MLP(**shapes, hidden_dims=(6,), activation="tanh"),
        posterior=posterior,
        prior=StandardNormal((2,)),
        likelihood=NormalLikelihood((5,), scale=0.5**0.5),
    )


@pytest.mark.parametrize("event", [(1,), (5,), (2, 3), (1, 4, 3)])
def test_shapes_and_moments(event: tuple[int, ...]) -> None:
    part = Delta(event)
    assert part.context_shape == part.event_shape == event
    context = torch.randn(3, 4, *event)
    q = part(context, model=None)
    assert q.batch_shape == (3, 4)
    assert q.event_shape == event
    for value in (q.mean, q.mode, q.rsample(), q.sample(), draw(q).value, centre(q).value):
        assert torch.equal(value, context)
    assert torch.equal(q.stddev, torch.zeros_like(context))
    assert q.rsample((2,)).shape == (2, 3, 4, *event)
    wide = q.expand((7, 3, 4))
    assert wide.batch_shape == (7, 3, 4)
    assert torch.equal(wide.mean[2], context)


def test_all_mass_is_on_the_point() -> None:
    q = DeltaDistribution(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 1)
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0 + 1e-12]])
    assert q.log_prob(value).tolist() == [0.0, -float("inf")]
    assert q.log_prob(torch.zeros(5, 2, 2)).shape == (5, 2)
    assert DeltaDistribution(torch.tensor([1.0, 2.0])).log_prob(torch.tensor(2.0)).tolist() == [-float("inf"), 0.0]
    with pytest.raises(NotImplementedError):
        q.entropy()


def test_its_draws_carry_the_gradient() -> None:
    context = torch.randn(1, 3, 2, requires_grad=True)
    drawn = draw(Delta((2,))(context, model=None))
    assert torch.equal(drawn.log_prob, torch.zeros(1, 3))
    drawn.value.sum().backward()
    assert torch.equal(context.grad, torch.ones(1, 3, 2))


def test_a_model_with_it_is_a_plain_autoencoder() -> None:
    model, x = autoencoder(Delta((2,))), torch.randn(4, 5)
    trace = model(x, samples=3)
    assert not model.bounded
    assert autoencoder(Normal((2,))).bounded
    code = model.encoder(x)
    assert torch.equal(model.encode(x), code)
    assert torch.equal(trace.latents[0].draw.value, code.expand(3, 4, 2))
    assert torch.equal(model.encode_scale(x), torch.zeros(4, 2))
    # with sigma^2 = 1/2 the nats are the squared error and a constant
    error = (model.decoder(code) - x).square().sum(1)
    torch.testing.assert_close(Reconstruction()(trace), error + model.likelihood.constant)
    # finite, but about nothing: minus the log-density of the code under the prior
    torch.testing.assert_close(trace.kl(), -trace.latents[0].log_p)
