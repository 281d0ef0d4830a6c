"""The latents of a split as data: what priors are fitted to and scored on after the training."""

# S draws, N examples, B batch, *z event of a latent

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.conditionals.base import Conditional
from vaekit.data.batch import Split
from vaekit.distributions.delta import Delta
from vaekit.distributions.quantized import Quantized
from vaekit.errors import ConfigError
from vaekit.evaluation.passes import Plan, batches, measuring, traces
from vaekit.evaluation.units import Estimate, mean
from vaekit.models.level import Level
from vaekit.models.vae import VAE
from vaekit.priors.fitted import Fitted

# of each example, where its posterior is random: one draw alone would show the prior a narrower aggregate than there is
DRAWS = 4
# latents scored at a time
_ROWS = 4096


def only_level(model: VAE) -> Level:
    """The one level of a flat model.

    Raises:
        ConfigError: If there are several, whose priors depend on each other.
    """
    levels = model.hierarchy.open()
    if len(levels) > 1:
        names = ", ".join(level.name for level in levels)
        raise ConfigError(
            f"This model has several latents ({names}), each with a prior given those above it: a prior for all of them "
            "cannot be fitted afterwards. Train a model with one latent, such as model=mlp or model=vqvae."
        )
    return levels[0]


def encoded(model: VAE, split: Split, plan: Plan, draws: int = DRAWS) -> Tensor:
    """Latents of every example: `draws` of them from q(z|x) where that is random, the code itself where it is certain.

    Arguments:
        model: With one latent.
        split: Whose examples are encoded.
        plan: Batch size and seed; its number of samples counts for nothing.
        draws: S.

    Returns:
        Shape (S, N, *z), with S = 1 for the code of an autoencoder and the quantised vectors of a VQ-VAE; on the CPU.
    """
    only_level(model)
    parts = []
    with measuring(model):
        for batch in batches(split, plan):
            certain = isinstance(model.posterior(batch.x, batch.context), (Delta, Quantized))
            drawn = Plan(plan.batch_size, 1 if certain else draws, plan.seed)
            values = [trace.latents[0].draw.value.cpu() for trace in traces(model, batch, drawn)]
            parts.append(torch.cat(values))
    return torch.cat(parts, 1)


def fit_priors(model: VAE, split: Split, plan: Plan) -> bool:
    """Fit the model's own prior to the latents of the training data, if it is one that is fitted afterwards.

    Arguments:
        model: Trained.
        split: The training data.
        plan: Batch size and seed.

    Returns:
        Whether there was anything to fit.
    """
    if not any(isinstance(part, Fitted) for part in model.hierarchy.modules()):
        return False
    prior = only_level(model).prior
    assert isinstance(prior, Fitted)
    prior.fit(encoded(model, split, plan).flatten(0, 1), plan.seed)
    return True


def score(prior: Conditional, latents: Tensor, model: VAE, words: str = "") -> Estimate:
    """The mean log-density of latents under a prior, nats per example: higher is better.

    A prior that is better by a nat costs the model a nat less of rate. The density of a continuous latent hangs on its unit, so
    only priors over the same latents compare.

    Arguments:
        prior: Its context is empty.
        latents: Shape (S, N, *z); the draws of an example are averaged first, so that the error is over examples.
        model: What the prior may consult.
        words: Said of the estimate.
    """
    weight = next(model.parameters())
    with measuring(model):
        nats = []
        for part in torch.split(latents, max(1, _ROWS // len(latents)), 1):
            blank = torch.zeros((*part.shape[:2], 0), dtype=weight.dtype, device=weight.device)
            nats.append(prior(blank, model).log_prob(part.to(weight)).double().mean(0).cpu())
    return mean(torch.cat(nats), "nats", words)
