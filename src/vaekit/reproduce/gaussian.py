"""The linear-Gaussian model, whose evidence is known: bounds and annealing against it. Nothing is trained."""

# N examples, D values of one example, L latent dimensions

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from vaekit.conditionals import Normal as DiagonalPosterior
from vaekit.data.batch import Split
from vaekit.data.synthetic import ProbabilisticPCA
from vaekit.evaluation.annealed import ais_estimates, bidirectional_estimates, simulated
from vaekit.evaluation.each import Ledger
from vaekit.evaluation.evidence import evidence_estimates
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.units import mean
from vaekit.likelihoods import Normal
from vaekit.models import VAE, flat
from vaekit.networks import MLP
from vaekit.priors import StandardNormal
from vaekit.reproduce.protocol import Check, Protocol, Quantity, Say, Variant
from vaekit.reproduce.verdict import Above, Shown, Within
from vaekit.runs import Run

_VALUES, _LATENTS, _EXAMPLES, _SIGMA = 20, 4, 200, 0.7
# of the posterior: as far from the exact one as that of a model that is not quite trained
_SHIFT, _WIDEN = 0.3, 1.5
_DRAWS = (1, 50, 5000)
_BETWEEN = 0.01
# of the annealing, for an error of about 0.0025 nats, a quarter of what is allowed
_FEW, _CHAINS, _STEPS, _LEAPFROG = 50, 128, 500, 5


def linear_gaussian(truth: ProbabilisticPCA, shift: float = 0.0, widen: float = 1.0) -> VAE:
    """The VAE that is the model `truth`, float64, its posterior moved by `shift` and its variances times `widen`.

    The columns of the weight must be orthogonal, so that the exact posterior is diagonal.
    """
    model = flat(
        encoder=lambda **shapes: MLP(**shapes, hidden_dims=()),
        decoder=lambda **shapes: MLP(**shapes, hidden_dims=()),
        posterior=DiagonalPosterior((truth.weight.shape[1],)),
        prior=StandardNormal((truth.weight.shape[1],)),
        likelihood=Normal(truth.bias.shape, scale=truth.sigma),
    ).double()
    variance = 1.0 / (1.0 + truth.weight.square().sum(0) / truth.sigma**2)
    gain = variance[:, None] * truth.weight.T / truth.sigma**2
    zeros = torch.zeros_like(gain)
    log_variance = (widen * variance).log()
    encoder, decoder = (_last(network) for network in (model.encoder, model.decoder))
    with torch.no_grad():
        encoder.weight.copy_(torch.cat([gain, zeros]))
        encoder.bias.copy_(torch.cat([shift - gain @ truth.bias, log_variance]))
        decoder.weight.copy_(truth.weight)
        decoder.bias.copy_(truth.bias)
    return model.eval()


def _last(network: nn.Module) -> nn.Linear:
    assert isinstance(network, MLP)
    last = network.layers[-1]
    assert isinstance(last, nn.Linear)
    return last


def orthogonal_pca(values: int, latents: int, sigma: float) -> ProbabilisticPCA:
    """A model whose columns are orthogonal, of lengths 1, 2, 3, ...: float64, always the same."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(values, latents + 1, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(numbers[:, :latents]).Q
    return ProbabilisticPCA(directions * torch.arange(1.0, latents + 1.0).double(), numbers[:, latents], sigma)


def _measure(runs: Mapping[str, Run], say: Say) -> dict[str, Quantity]:
    with TemporaryDirectory() as folder:
        return {**bounds(Path(folder), say), **_annealed(Path(folder), say)}


def bounds(folder: Path, say: Say) -> dict[str, Quantity]:
    """The bounds and the evidence; ledgers are written below `folder`."""
    truth, model, split = _given()
    say(f"{_EXAMPLES} examples of a linear-Gaussian model, {_VALUES} values, {_LATENTS} latents")
    kept: list[Ledger] = []
    found = evidence_estimates(model, split, Plan(), draws=_DRAWS, keep=_keeping(folder, kept))
    columns = kept[0].read()
    x = split.dense
    exact = truth.posterior(x)
    gap = kl_divergence(MultivariateNormal(exact.loc + _SHIFT, _WIDEN * exact.covariance_matrix), exact)
    return {
        **{name: Quantity(found[name], columns[name]) for name in (f"iwae_{k}" for k in _DRAWS)},
        "evidence": _exact(truth.evidence(x), "log p(x), exact"),
        "elbo": _exact(truth.evidence(x) - gap, "log p(x) - KL(q(z|x) || p(z|x)), exact"),
    }


def _annealed(folder: Path, say: Say) -> dict[str, Quantity]:
    truth, model, split = _given()
    few, plan = split.part(torch.arange(_FEW)), Plan()
    kept: list[Ledger] = []
    keep = _keeping(folder, kept)
    say(f"Annealing {_FEW} of them")
    up = ais_estimates(model, few, plan, keep=keep, chains=_CHAINS, steps=_STEPS, leapfrog=_LEAPFROG)["ais"]
    say("Annealing data drawn from the model, from below and from above")
    both = bidirectional_estimates(model, few, plan, keep=keep, chains=_CHAINS, steps=_STEPS, leapfrog=_LEAPFROG)
    drawn = simulated(model, None, plan.seed, torch.arange(_FEW))[0]
    columns = {**kept[0].read(), **kept[1].read()}
    return {
        "ais": Quantity(up, columns["ais"]),
        "lower": Quantity(both["bdmc_lower"], columns["lower"]),
        "upper": Quantity(both["bdmc_upper"], columns["upper"]),
        "evidence of few": _exact(truth.evidence(few.dense), "log p(x), exact"),
        "evidence of drawn": _exact(truth.evidence(drawn), "log p(x), exact"),
    }


def _given() -> tuple[ProbabilisticPCA, VAE, Split]:
    truth = orthogonal_pca(_VALUES, _LATENTS, _SIGMA)
    return truth, linear_gaussian(truth, _SHIFT, _WIDEN), Split(truth.sample(_EXAMPLES, seed=1), ())


def _keeping(folder: Path, made: list[Ledger]) -> Callable[[str, Mapping[str, Any]], Ledger]:
    def keep(name: str, settings: Mapping[str, Any]) -> Ledger:
        made.append(Ledger(folder, name, settings))
        return made[-1]

    return keep


def _exact(values: Tensor, words: str) -> Quantity:
    return Quantity(mean(values.detach(), "nats", words), values.detach())


LINEAR_GAUSSIAN = Protocol(
    name="linear_gaussian",
    title="The linear-Gaussian VAE: bounds and annealed importance sampling against the exact evidence",
    published="log p(x) in closed form",
    source="[Tipping and Bishop, 1999](https://doi.org/10.1111/1467-9868.00196), equations 2 to 6",
    quick=Variant(
        arms=(),
        measure=_measure,
        checks=(
            Check("evidence, exact", "evidence", Shown()),
            Check("ELBO less its exact value", "iwae_1", Within(_BETWEEN), less="elbo"),
            Check("bound with K = 50 less that with K = 1", "iwae_50", Above(0.0), less="iwae_1"),
            Check("bound with K = 5000 less that with K = 50", "iwae_5000", Above(0.0), less="iwae_50"),
            Check("bound with K = 5000 less the evidence", "iwae_5000", Within(_BETWEEN), less="evidence"),
            Check("annealing less the evidence", "ais", Within(_BETWEEN), less="evidence of few"),
            Check(
                "evidence of drawn data less annealing from below", "evidence of drawn", Within(_BETWEEN), less="lower"
            ),
            Check(
                "annealing from above less evidence of drawn data", "upper", Within(_BETWEEN), less="evidence of drawn"
            ),
        ),
        time="about 2 minutes",
        claim="everything, as all of it is known exactly",
    ),
)
