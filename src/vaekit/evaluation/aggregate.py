"""What the latent dimensions carry over a whole data set: active units and the KL of each dimension."""

# N examples, L latent dimensions

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.evaluation.passes import Plan, batches, measuring, traces
from vaekit.evaluation.units import Estimate
from vaekit.models.vae import VAE

ACTIVE_VARIANCE = 0.01


def active_units(means: Tensor, resamples: int = 200) -> Estimate:
    r"""Latent dimensions whose posterior mean varies with the data, :math:`\mathrm{Var}_x(E_{q(z|x)}[z_d]) > 0.01`.

    Arguments:
        means: Posterior means, shape (N, L).
        resamples: Bootstrap resamples of the examples behind the standard error, drawn with a fixed seed.

    References:
        | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), section 5.1.1
        | https://arxiv.org/abs/1509.00519
    """
    n = len(means)
    means = means.double()
    count = int((means.var(0, correction=0) > ACTIVE_VARIANCE).sum())
    generator = torch.Generator().manual_seed(0)
    counts = torch.stack(
        [torch.bincount(torch.randint(n, (n,), generator=generator), minlength=n) for _ in range(resamples)]
    )
    weights = counts.double() / n
    variances = weights @ means.square() - (weights @ means).square()
    spread = (variances > ACTIVE_VARIANCE).sum(1).double().std(correction=1)
    words = f"posterior means with variance above {ACTIVE_VARIANCE}, of {means.shape[1]} dimensions"
    return Estimate(count, float(spread), "dimensions", n, words)


def kl_per_dimension(model: VAE, split: Split, plan: Plan) -> Tensor:
    """Mean KL of each latent dimension in nats, shape (L,), where posterior and prior are independent over dimensions.

    Other latents, such as flows, give each of their dimensions an equal share of the whole.
    """
    single = Plan(plan.batch_size, 1, plan.seed)
    total, n = torch.zeros(()), 0
    with measuring(model):
        for batch in batches(split, single):
            for trace in traces(model, batch, single):
                by_dimension = torch.cat([latent.kl_per_dimension()[0] for latent in trace.latents], 1)
                total = total + by_dimension.double().sum(0).cpu()
            n += len(batch.x)
    return total / n
