"""Rate, distortion, the ELBO and the importance-weighted bound, each a mean over examples with its error."""

# K samples, B batch, N examples

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.evaluation.passes import Plan, batches, measuring, traces
from vaekit.evaluation.units import Estimate, mean
from vaekit.math.importance import importance_bound
from vaekit.models.vae import VAE


@dataclass(frozen=True)
class BoundTerms:
    """Per example, nats, each of shape (N,), float64 on the CPU.

    Attributes:
        distortion: -E log p(x|z), a mean over K draws.
        rate: KL(q(z|x) || p(z)), analytic where torch knows it.
        importance: The importance-weighted bound with K draws.
    """

    distortion: Tensor
    rate: Tensor
    importance: Tensor


def bound_terms(model: VAE, split: Split, plan: Plan) -> BoundTerms:
    """Measure the terms of the bound on every example of a split.

    Every example draws its own noise from the seed, so the result does not depend on `plan.batch_size`.
    """
    distortions, rates, bounds = [], [], []
    with measuring(model):
        for batch in batches(split, plan):
            log_px, kl, log_w = [], [], []
            for trace in traces(model, batch, plan):
                log_px.append(trace.log_px.double())
                kl.append(trace.kl().double())
                log_w.append(trace.log_w.double())
            distortions.append(-torch.cat(log_px).mean(0).cpu())
            rates.append(torch.cat(kl).mean(0).cpu())
            bounds.append(importance_bound(torch.cat(log_w)).cpu())
    return BoundTerms(torch.cat(distortions), torch.cat(rates), torch.cat(bounds))


def bound_estimates(terms: BoundTerms, samples: int) -> dict[str, Estimate]:
    """The numbers that a VAE is known by.

    .. math:: \\text{ELBO} = -(\\text{reconstruction} + \\text{KL})

    Reconstruction is the negative expected log-likelihood: lower is better for it and for the KL, higher for the bounds.

    Arguments:
        terms: Of the examples.
        samples: Draws that they were made with, K.

    References:
        | Fixing a Broken ELBO (Alemi et al., 2018), section 2, for rate and distortion: https://arxiv.org/abs/1711.00464
        | Importance Weighted Autoencoders (Burda et al., 2016), equation 8: https://arxiv.org/abs/1509.00519
    """
    draws = f"{samples} draw{'s' if samples > 1 else ''} from q(z|x) for each example"
    return {
        "elbo": mean(-(terms.distortion + terms.rate), "nats", f"beta = 1, {draws}"),
        "reconstruction": mean(terms.distortion, "nats", f"-E log p(x|z), {draws}"),
        "kl": mean(terms.rate, "nats", "KL(q(z|x) || p(z))"),
        f"iwae_{samples}": mean(terms.importance, "nats", f"importance-weighted bound on log p(x), K = {samples}"),
    }
