"""Penalties on codes and decoders: closed forms, and that the right network pays."""

# K samples, B batch, D values of one example, L latent dimensions

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from vaekit.conditionals import Conditional, Delta
from vaekit.conditionals import Normal as NormalPosterior
from vaekit.distributions.noise import use
from vaekit.likelihoods import Bernoulli, Likelihood, Normal, OptimalScaleNormal
from vaekit.models import VAE, Trace, flat
from vaekit.networks import MLP
from vaekit.objectives import (
    DecoderGradient,
    DecoderWeights,
    LatentL1,
    LatentL2,
    MeanReduction,
    Objective,
    Reconstruction,
)
from vaekit.objectives.base import Role
from vaekit.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("float64")

D, L, B = 4, 3, 5
EVERY = 2**D


class EverySign:
    """Noise whose K = 2^D samples are all vectors of signs: a mean over the samples is an exact expectation."""

    def uniform(self, shape: torch.Size) -> Tensor:
        assert shape[0] == EVERY
        signs = torch.tensor(list(itertools.product([0.25, 0.75], repeat=D)))
        return signs[:, None].expand(shape)


def autoencoder(
    likelihood: Likelihood | None = None, hidden: tuple[int, ...] = (6,), posterior: Conditional | None = None
) -> VAE:
    return flat(
        encoder=lambda **shapes: MLP(**shapes, hidden_dims=(6,), activation="tanh"),
        decoder=lambda **shapes: MLP(**shapes, hidden_dims=hidden, activation="tanh"),
        posterior=posterior or Delta((L,)),
        prior=StandardNormal((L,)),
        likelihood=likelihood or Normal((D,), scale=0.5),
    )


def exact(model: VAE, z: Tensor) -> Tensor:
    """Squared Frobenius norm of the Jacobian of the decoded mean at each code of (B, L), column by column."""
    jacobian = vmap(jacrev(lambda code: model.decode(code[None]).mean.flatten()))(z)
    return jacobian.square().sum((1, 2))


def expected_penalty(model: VAE, x: Tensor) -> Tensor:
    with use(EverySign()):
        return DecoderGradient()(model(x, samples=EVERY))


# codes


def test_codes_by_hand() -> None:
    x = torch.randn(B, D)
    model = autoencoder()
    z = model.encode(x)
    torch.testing.assert_close(LatentL2()(model(x, samples=2)), 0.5 * (z**2).sum(1))
    torch.testing.assert_close(LatentL1()(model(x, samples=2)), z.abs().sum(1))
    assert MeanReduction()(LatentL2(), model(x)) == MeanReduction()(LatentL1(), model(x)) == L


def test_codes_of_several_latents_add_up() -> None:
    trace = autoencoder()(torch.randn(B, D))
    twice = Trace(trace.x, trace.px, trace.latents * 2)
    for term in (LatentL1(), LatentL2()):
        torch.testing.assert_close(term(twice), 2.0 * term(trace))


def test_penalties_on_codes_leave_the_decoder_alone() -> None:
    model = autoencoder()
    trace = model(torch.randn(B, D))
    for term in (LatentL1(), LatentL2()):
        gradients = torch.autograd.grad(
            term(trace).sum(), list(model.parameters()), allow_unused=True, retain_graph=True
        )
        touched = {name for (name, _), g in zip(model.named_parameters(), gradients, strict=True) if g is not None}
        assert touched == {name for name, _ in model.named_parameters() if name.startswith("encoder.")}
        assert term.role is Role.PENALTY


# weights


def test_decoder_weights_by_hand() -> None:
    model = autoencoder()
    term, trace = DecoderWeights(), model(torch.randn(B, D))
    assert term(trace).item() == pytest.approx(sum(float((p.detach() ** 2).sum()) for p in model.decoder.parameters()))
    term(trace).backward()
    for parameter in model.decoder.parameters():
        torch.testing.assert_close(parameter.grad, 2.0 * parameter.detach())
    assert all(parameter.grad is None for parameter in model.encoder.parameters())


def test_decoder_weights_do_not_hang_on_the_batch() -> None:
    model = autoencoder()
    objective = Objective({"recon": Reconstruction(), "decoder": DecoderWeights()}, {"recon": 0.0})
    assert objective(model(torch.randn(2, D))).total == objective(model(torch.randn(200, D), samples=3)).total


@pytest.mark.parametrize("decoder", [None, nn.Identity()])
def test_a_trace_without_weights_is_refused(decoder: nn.Module | None) -> None:
    trace = autoencoder()(torch.randn(B, D))
    with pytest.raises(ValueError, match=r"model\(x\)"):
        DecoderWeights()(Trace(trace.x, trace.px, trace.latents, decoder))


# the gradient penalty


def test_of_a_linear_decoder_it_is_the_norm_of_its_matrix() -> None:
    """Exactly: the mean over all sign vectors v of |v' W|^2 is |W|_F^2, for every example, and its gradient is 2 W."""
    model, x = autoencoder(hidden=()), torch.randn(B, D)
    (linear,) = model.decoder.layers
    value = expected_penalty(model, x)
    torch.testing.assert_close(value, linear.weight.square().sum().expand(B), rtol=1e-12, atol=0)
    value.mean().backward()
    torch.testing.assert_close(linear.weight.grad, 2.0 * linear.weight.detach(), rtol=1e-12, atol=1e-12)


def test_of_a_linear_decoder_the_encoder_pays_nothing() -> None:
    """Differentiated with respect to the codes: a penalty by way of the data would scale with the encoder."""
    model, x = autoencoder(hidden=()), torch.randn(B, D)
    before = expected_penalty(model, x)
    gradients = torch.autograd.grad(before.sum(), list(model.encoder.parameters()), allow_unused=True)
    assert all(gradient is None or bool((gradient == 0).all()) for gradient in gradients)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(3.0)
    torch.testing.assert_close(expected_penalty(model, x), before)


@pytest.mark.parametrize(
    "likelihood", [lambda: Normal((D,), scale=0.5), lambda: Bernoulli((D,)), lambda: OptimalScaleNormal((D,))]
)
def test_it_is_the_exact_jacobian_in_expectation(likelihood: Callable[[], Likelihood]) -> None:
    model, x = autoencoder(likelihood()), torch.rand(B, D)
    truth = exact(model, model.encode(x))
    assert truth.std() > 0
    torch.testing.assert_close(expected_penalty(model, x), truth, rtol=1e-10, atol=1e-12)


def test_one_probe_is_unbiased_and_more_are_quieter() -> None:
    """20 000 probes of each; 6 standard errors: false alarm 2e-9 for each of two."""
    n = 20_000
    model, x = autoencoder(), torch.randn(1, D)
    trace, truth = model(x.expand(n, D)), exact(model, model.encode(x)).item()
    one, four = DecoderGradient()(trace).detach(), DecoderGradient(probes=4)(trace).detach()
    for value in (one, four):
        assert abs(value.mean().item() - truth) < 6 * value.std().item() / n**0.5
    assert four.std() < 0.6 * one.std()
    assert four.std() > 0.4 * one.std()


def test_its_gradients_are_those_of_finite_differences() -> None:
    """Second derivatives of the decoder, with the signs held fixed."""
    model, x = autoencoder(Bernoulli((D,))), torch.rand(2, D)
    names, values = zip(
        *((name, p.detach().clone().requires_grad_()) for name, p in model.named_parameters()), strict=True
    )

    def penalty(*parameters: Tensor) -> Tensor:
        with use(EverySign()):
            return DecoderGradient()(functional_call(model, dict(zip(names, parameters, strict=True)), (x, EVERY)))

    assert torch.autograd.gradcheck(penalty, values, atol=1e-6, rtol=1e-5)


def test_examples_do_not_see_each_other() -> None:
    model, x = autoencoder(), torch.randn(B, D)
    whole, order = expected_penalty(model, x), torch.randperm(B)
    torch.testing.assert_close(expected_penalty(model, x[order]), whole[order])
    torch.testing.assert_close(expected_penalty(model, x[:2]), whole[:2])
    torch.testing.assert_close(expected_penalty(model, x.repeat(2, 1)), whole.repeat(2))


def test_it_is_taken_at_the_draw_of_a_random_code() -> None:
    model, x = autoencoder(hidden=(), posterior=NormalPosterior((L,))), torch.randn(B, D)
    (linear,) = model.decoder.layers
    many = DecoderGradient(probes=3)(model(x, samples=2))
    assert many.shape == (B,)
    # |v' W|^2 = |W|_F^2 + cross terms, whose signs are random: all within what the signs can do
    bound = linear.weight.abs().sum(0).square().sum()
    assert bool((many <= bound).all())
    assert bool((many > 0).all())


def test_where_it_cannot_be_taken_it_says_so() -> None:
    model, x = autoencoder(), torch.randn(B, D)
    with torch.no_grad():
        trace = model(x)
    with pytest.raises(RuntimeError, match="gradients on"):
        DecoderGradient()(trace)
    with torch.no_grad(), pytest.raises(RuntimeError, match="gradients on"):
        DecoderGradient()(trace)
    with pytest.raises(ValueError, match="probes is 0"):
        DecoderGradient(probes=0)


def test_it_flattens_the_decoder() -> None:
    """Fifty steps on the penalty alone bring the exact Jacobian down, by a tenth at least."""
    model, x = autoencoder(), torch.randn(20, D)
    before = exact(model, model.encode(x)).mean().item()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        DecoderGradient()(model(x)).mean().backward()
        optimizer.step()
    assert exact(model, model.encode(x)).mean().item() < 0.9 * before
    assert MeanReduction()(DecoderGradient(), model(x)) == D * L
    assert DecoderGradient().role is Role.PENALTY
