"""The terms of quantised latents do not depend on the size of the batch, and move what they should."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from vaekit.conditionals import EMACodebook, GradientCodebook, Quantized
from vaekit.likelihoods import Bernoulli
from vaekit.models import VAE, quantized
from vaekit.networks import MLP
from vaekit.objectives import KL, Objective, Penalty, Reconstruction
from vaekit.priors import UniformCodes

pytestmark = pytest.mark.usefixtures("float64")


def model(codebook: Any = EMACodebook) -> VAE:
    network = partial(MLP, hidden_dims=(8,))
    posterior = partial(Quantized, codebook=partial(codebook, codes=6))
    return quantized(network, network, posterior, UniformCodes, Bernoulli((1, 8, 8)), embedding_dim=3)


def objective() -> Objective:
    terms = {
        "recon": Reconstruction(),
        "kl": KL(),
        "commitment": Penalty("commitment"),
        "codebook": Penalty("codebook"),
    }
    return Objective(terms, {"commitment": 0.25})


@pytest.mark.parametrize("copies", [2, 16, 128])
def test_the_loss_does_not_depend_on_the_size_of_the_batch(copies: int) -> None:
    x, vae, loss = torch.rand(3, 1, 8, 8).round(), model().eval(), objective()
    one, many = loss(vae(x)), loss(vae(x.repeat(copies, 1, 1, 1)))
    torch.testing.assert_close(many.total, one.total)
    for name, value in one.parts.items():
        torch.testing.assert_close(many.parts[name], value)
    assert one.parts["commitment"] > 0


def test_the_loss_is_that_of_equation_3() -> None:
    """Reconstruction and both distances, the second not scaled and the first by 0.25; the KL is a constant."""
    x, vae = torch.rand(3, 1, 8, 8).round(), model().eval()
    trace = vae(x)
    q = trace.latents[0].q
    distance = (q.encoded - q.vectors).square().sum(2).mean((2, 3))[0]
    expected = -trace.log_px[0] + 4 * torch.tensor(6.0).log() + 1.25 * distance
    torch.testing.assert_close(objective()(trace).total, expected.mean())


def test_every_player_gets_the_gradient_of_its_own_terms() -> None:
    x, vae = torch.rand(4, 1, 8, 8).round(), model(GradientCodebook).eval()
    posterior = vae.hierarchy.open()[0].posterior
    groups = {
        "encoder": list(vae.encoder.parameters()),
        "decoder": list(vae.decoder.parameters()),
        "codebook": [posterior.codebook.vectors],
    }
    reached = {}
    terms = {"recon": Reconstruction(), "commitment": Penalty("commitment"), "codebook": Penalty("codebook")}
    for name, term in terms.items():
        for parameter in vae.parameters():
            parameter.grad = None
        term(vae(x)).mean().backward()
        reached[name] = {
            group
            for group, owned in groups.items()
            if any(p.grad is not None and p.grad.abs().sum() > 0 for p in owned)
        }
    assert reached == {"recon": {"encoder", "decoder"}, "commitment": {"encoder"}, "codebook": {"codebook"}}


def test_a_trace_without_the_penalty_says_so() -> None:
    trace = model().eval()(torch.rand(2, 1, 8, 8).round())
    with pytest.raises(ValueError, match=r"'comitment'; there are codebook, commitment"):
        Penalty("comitment")(trace)
