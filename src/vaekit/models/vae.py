"""The variational autoencoder: four parts and nothing else."""

# K samples, B batch, n number of samples, *x event of the data

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.distributions.draw import centre, draw, reparameterised
from vaekit.likelihoods.base import Likelihood
from vaekit.models.hierarchy import Drawing, Hierarchy
from vaekit.models.trace import Latent, Trace


class VAE(nn.Module):
    """A latent variable model p(x|z) p(z) with an amortised posterior q(z|x).

    Arguments:
        encoder: From data (*, *x) to features.
        hierarchy: The latents and their structure.
        decoder: From the hierarchy's final state to the likelihood's context.
        likelihood: p(x | context).

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114
        | Stochastic Backpropagation and Approximate Inference in Deep Generative Models (Rezende et al., 2014),
          https://arxiv.org/abs/1401.4082
    """

    def __init__(self, encoder: nn.Module, hierarchy: Hierarchy, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder, self.hierarchy, self.decoder, self.likelihood = encoder, hierarchy, decoder, likelihood

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one example."""
        return self.likelihood.event_shape

    def forward(self, x: Tensor, samples: int = 1) -> Trace:
        """Trace data of shape (B, *x) with `samples` (K) draws from the posterior of each example.

        Raises:
            ValueError: If `x` is not a batch of examples of `event_shape`.
        """
        latents, state = self._infer(x, samples, draw)
        px = self.likelihood.adapt(self.likelihood(self.decoder(state), self), x)
        return Trace(x, px, latents)

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x) of the first latent for data of shape (B, *x): batch (1, B)."""
        return self._infer(x, 1, centre)[0][0].q

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means of all latents, flattened and side by side: (B, *x) -> (B, total latent size).

        Nothing is drawn: in evaluation mode the same data give the same codes.
        """
        return _side_by_side([latent.q.mean for latent in self._infer(x, 1, centre)[0]])

    def encode_scale(self, x: Tensor) -> Tensor:
        """Posterior standard deviations, in the order of `encode`: (B, *x) -> (B, total latent size)."""
        return _side_by_side([latent.q.stddev for latent in self._infer(x, 1, centre)[0]])

    def decode(self, z: Tensor) -> Distribution:
        """p(x|z) for final states (B, *s), which for a flat model are the latents: batch (B)."""
        px: Distribution = self.likelihood(self.decoder(z), self)
        return px

    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean of p(x|z) at the posterior mean: (B, *x) -> (B, *x). Nothing is drawn."""
        px: Distribution = self.likelihood(self.decoder(self._infer(x, 1, centre)[1]), self)
        return px.mean[0]

    def generate(self, n: int) -> Distribution:
        """p(x|z) for `n` draws of z from the prior: batch (1, n). Its mean is what people look at."""
        weight = next(self.parameters())
        blank = torch.zeros((1, n, 0), dtype=weight.dtype, device=weight.device)
        px: Distribution = self.likelihood(self.decoder(self.hierarchy.generate(blank, self)), self)
        return px

    def sample(self, n: int) -> Tensor:
        """`n` draws of x from the model, with observation noise: (n, *x)."""
        with torch.no_grad():
            return reparameterised(self.generate(n))[0]

    def _infer(self, x: Tensor, samples: int, drawing: Drawing) -> tuple[tuple[Latent, ...], Tensor]:
        if x.shape[1:] != self.event_shape:
            raise ValueError(
                f"This model expects a batch of examples of shape {tuple(self.event_shape)}, that is an array of shape "
                f"{('B', *self.event_shape)}, received {tuple(x.shape)}."
            )
        features = self.encoder(x)
        features = features.expand(samples, *features.shape)
        return self.hierarchy.infer(features, self, drawing)


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return torch.cat([part[0].flatten(1) for part in parts], dim=1)
