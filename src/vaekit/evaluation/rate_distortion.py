"""Rate, distortion, the ELBO and the importance-weighted bound, each a mean over examples with its error."""

# K samples, B batch, N examples

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.distributions.pyramid import Pyramid
from vaekit.evaluation.passes import Plan, batches, measuring, traces
from vaekit.evaluation.units import Estimate, mean
from vaekit.math.importance import importance_bound
from vaekit.models.vae import VAE


@dataclass(frozen=True)
class BoundTerms:
    """Per example, nats, each of shape (N,), float64 on the CPU.

    Attributes:
        distortion: -E log p(x|z), a mean over K draws.
        rate: KL(q(z|x) || p(z)), analytic where torch knows it; nan for a model whose ELBO bounds nothing.
        importance: The importance-weighted bound with K draws; likewise.
        finest: The distortion of the image alone, for a model of an image at several resolutions; None for all others.
        bounds: Other bounds, by name, that were asked for.
    """

    distortion: Tensor
    rate: Tensor
    importance: Tensor
    finest: Tensor | None = None
    bounds: Mapping[str, Tensor] = field(default_factory=dict)


def bound_terms(
    model: VAE, split: Split, plan: Plan, others: Mapping[str, Callable[[Tensor], Tensor]] | None = None
) -> BoundTerms:
    """Measure the terms of the bound on every example of a split.

    Every example draws its own noise from the seed, so the result does not depend on `plan.batch_size`.

    Arguments:
        model: On the device of the split.
        split: The examples.
        plan: How.
        others: More bounds by name, each from log importance weights (K, B) to nats, (B,).
    """
    distortions, rates, bounds, images = [], [], [], []
    asked: dict[str, list[Tensor]] = {name: [] for name in others or {}}
    with measuring(model):
        for batch in batches(split, plan):
            log_px, kl, log_w, finest = [], [], [], []
            for trace in traces(model, batch, plan):
                log_px.append(trace.log_px.double())
                kl.append(trace.kl().double() if model.bounded else torch.full_like(log_px[-1], math.nan))
                log_w.append(trace.log_w.double() if model.bounded else kl[-1])
                if isinstance(trace.px, Pyramid):
                    finest.append(trace.px.finest_log_prob(trace.x).double())
            distortions.append(-torch.cat(log_px).mean(0).cpu())
            rates.append(torch.cat(kl).mean(0).cpu())
            bounds.append(importance_bound(torch.cat(log_w)).cpu())
            for name, bound in (others or {}).items():
                asked[name].append(bound(torch.cat(log_w)).cpu())
            if finest:
                images.append(-torch.cat(finest).mean(0).cpu())
    more = {name: torch.cat(parts) for name, parts in asked.items()}
    terms = BoundTerms(torch.cat(distortions), torch.cat(rates), torch.cat(bounds), bounds=more)
    return replace(terms, finest=torch.cat(images)) if images else terms


def bound_estimates(terms: BoundTerms, samples: int) -> dict[str, Estimate]:
    """The numbers that a VAE is known by.

    .. math:: \\text{ELBO} = -(\\text{reconstruction} + \\text{KL})

    Reconstruction is the negative expected log-likelihood: lower is better for it and for the KL, higher for the bounds.

    A model whose ELBO bounds nothing has its reconstruction only.

    Arguments:
        terms: Of the examples.
        samples: Draws that they were made with, K.

    References:
        | Fixing a Broken ELBO (Alemi et al., 2018), section 2, for rate and distortion: https://arxiv.org/abs/1711.00464
        | Importance Weighted Autoencoders (Burda et al., 2016), equation 8: https://arxiv.org/abs/1509.00519
    """
    if bool(terms.rate.isnan().any()):
        words = "-log p(x|z) at the code; the ELBO of a model without a density q(z|x) bounds nothing"
        return {"reconstruction": mean(terms.distortion, "nats", words)}
    draws = f"{samples} draw{'s' if samples > 1 else ''} from q(z|x) for each example"
    image = {}
    if terms.finest is not None:
        words = "bound on log p(x) of the image alone; elbo is that of its views at all resolutions together"
        image = {"elbo_image": mean(-(terms.finest + terms.rate), "nats", f"{words}, {draws}")}
    return {
        "elbo": mean(-(terms.distortion + terms.rate), "nats", f"beta = 1, {draws}"),
        "reconstruction": mean(terms.distortion, "nats", f"-E log p(x|z), {draws}"),
        "kl": mean(terms.rate, "nats", "KL(q(z|x) || p(z))"),
        f"iwae_{samples}": mean(terms.importance, "nats", f"importance-weighted bound on log p(x), K = {samples}"),
        **image,
    }
