"""The model of counts whose library size is a latent variable too, in place of the observed sum."""

# K samples, B batch, L latent dimensions, N training examples, *x event of the data

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.conditionals.normal import Normal
from vaekit.distributions.normal import NormalEvent
from vaekit.likelihoods.base import Likelihood
from vaekit.models.factories import NetworkFactory
from vaekit.models.hierarchy import TopDown
from vaekit.models.level import DrawOnly, Level
from vaekit.models.vae import VAE

# counts of cells that were sequenced alike still differ by more than this share
_SMALLEST_SCALE = 0.01


def latent_library(
    encoder: NetworkFactory, decoder: NetworkFactory, posterior: Conditional, prior: Conditional, likelihood: Likelihood
) -> VAE:
    r"""The VAE of counts with two latents: z, and the logarithm l of the size to which the means of a cell add up.

    .. math:: p(z) \, N(l; m, s^2) \, p(x | z, l), \qquad q(z | x) \, q(l | x)

    with m and s the mean and the standard deviation of :math:`\log \sum_d x_d` over training examples. q(l | x) is normal, and its
    mean and log-variance are those of the prior plus what the encoder puts out, so that a fresh encoder begins at the prior.
    The two posteriors share one encoder, where the paper has one each; m and s are of all examples, and not of each batch.

    Arguments:
        encoder: Called with `in_shape` and `out_shape`, that of the posterior's context and two numbers more.
        decoder: Called with `in_shape`, (L + 1,), and `out_shape`: `networks.LatentCompositional`.
        posterior: q(z | features), over a vector.
        prior: p(z).
        likelihood: p(x | decoded), of counts.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), Methods
        | https://doi.org/10.1038/s41592-018-0229-2
    """
    if len(posterior.context_shape) != 1 or len(prior.event_shape) != 1:
        raise ValueError(f"The latent has shape {tuple(prior.event_shape)}, expected a vector: write posterior=normal.")
    width = posterior.context_shape[0]
    levels = [
        Level("z", posterior, prior, join=Features(0, width), merge=DrawOnly()),
        Level("log_library", LibraryPosterior(), LibraryPrior(), join=Features(width, width + 2), merge=Beside()),
    ]
    return VAE(
        encoder=encoder(in_shape=likelihood.event_shape, out_shape=(width + 2,)),
        hierarchy=TopDown(levels),
        decoder=decoder(in_shape=(prior.event_shape[0] + 1,), out_shape=likelihood.context_shape),
        likelihood=likelihood,
    )


class LibraryPrior(Conditional):
    """p(l): normal, with the mean and the standard deviation of the training data."""

    loc: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__((1,))
        self.register_buffer("loc", torch.zeros(1))
        self.register_buffer("scale", torch.ones(1))

    @property
    def context_shape(self) -> torch.Size:
        """Nothing is needed: (0,)."""
        return torch.Size([0])

    def begin(self, examples: Tensor) -> None:
        """Take the mean and the standard deviation of the logarithm of the sums of `examples`, (N, *x)."""
        loc, scale = log_library_moments(examples)
        self.loc.fill_(loc)
        self.scale.fill_(scale)

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B) of the context, event (1,)."""
        return NormalEvent(self.loc, self.scale, torch.Size([*context.shape[:2], 1]), 1)


class LibraryPosterior(Normal):
    """q(l | x): a normal whose context is what its mean and log-variance differ by from those of the prior."""

    start: Tensor

    def __init__(self) -> None:
        super().__init__((1,))
        self.register_buffer("start", torch.zeros(2))

    def begin(self, examples: Tensor) -> None:
        """As the prior."""
        loc, scale = log_library_moments(examples)
        self.start.copy_(torch.stack([loc, 2.0 * scale.log()]))

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event (1,), for a context of shape (K, B, 2)."""
        return super().forward(context + self.start, model)


class Features(nn.Module):
    """Join: the posterior sees some of the features alone."""

    sees_state = False

    def __init__(self, first: int, end: int) -> None:
        super().__init__()
        self.first, self.end = first, end

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        """(K, B, c) to (K, B, end - first)."""
        return features[..., self.first : self.end]


class Beside(nn.Module):
    """Merge: the draw stands beside the state."""

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        """(K, B, L) and (K, B, 1) to (K, B, L + 1)."""
        return torch.cat([state, z], -1)


def log_library_moments(examples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the logarithm of the sum of counts, over examples (N, *x)."""
    logs = (
        examples.flatten(1).sum(1, dtype=torch.float64 if examples.device.type != "mps" else None).clamp_min(1.0).log()
    )
    return logs.mean(), logs.std(correction=0).clamp_min(_SMALLEST_SCALE)
