"""The variational autoencoder: four parts and nothing else."""

# K samples, B batch, n number of samples, *x event of the data

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional
from vaekit.distributions.draw import centre, draw, reparameterised
from vaekit.likelihoods.base import Likelihood
from vaekit.models.given import Given
from vaekit.models.hierarchy import Drawing, Hierarchy
from vaekit.models.trace import Latent, Trace
from vaekit.networks.base import Network


class VAE(nn.Module):
    """A latent variable model p(x|z) p(z) with an amortised posterior q(z|x).

    Arguments:
        encoder: From data (*, *x), and what they are conditioned on, to features.
        hierarchy: The latents and their structure.
        decoder: From the hierarchy's final state, and what the examples are conditioned on, to the likelihood's context.
        likelihood: p(x | decoded).

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

    @property
    def bounded(self) -> bool:
        """Whether the ELBO of this model is a bound on anything: not for the point estimates of a plain autoencoder."""
        return all(part.bounded for part in self.hierarchy.modules() if isinstance(part, Conditional))

    @property
    def conditional(self) -> bool:
        """Whether the model needs to be told what the examples are conditioned on."""
        return any(isinstance(part, Network) and part.conditional for part in self.modules())

    def forward(self, x: Tensor, samples: int = 1, context: Tensor | None = None) -> Trace:
        """Trace data of shape (B, *x) with `samples` (K) draws from the posterior of each example.

        Arguments:
            x: Shape (B, *x).
            samples: K.
            context: What the examples are conditioned on, one row for each: class numbers (B,), or values (B, F). Models that
                are not conditional leave it aside.

        Raises:
            ValueError: If `x` is not a batch of examples of `event_shape`.
        """
        latents, state = self._infer(x, samples, draw, context)
        px = self.likelihood.adapt(self._likelihood(state, context), x)
        return Trace(x, px, latents, self.decoder)

    def posterior(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """q(z|x) of the first latent for data of shape (B, *x): batch (1, B)."""
        return self.hierarchy.posterior(self.features(x, 1, context), self)

    def infer(
        self, x: Tensor, samples: int = 1, drawing: Drawing = draw, context: Tensor | None = None
    ) -> tuple[Latent, ...]:
        """The latents of data of shape (B, *x), in ancestral order, and nothing decoded.

        `drawing` says how a value is taken from each posterior: at random, its mean, or a value that is given.
        """
        return self._infer(x, samples, drawing, context)[0]

    def features(self, x: Tensor, samples: int = 1, context: Tensor | None = None) -> Tensor:
        """What the encoder makes of data (B, *x), the same for each sample: (K, B, *c).

        Raises:
            ValueError: If `x` is not a batch of examples of `event_shape`.
        """
        if x.shape[1:] != self.event_shape:
            raise ValueError(
                f"This model expects a batch of examples of shape {tuple(self.event_shape)}, that is an array of shape "
                f"{('B', *self.event_shape)}, received {tuple(x.shape)}."
            )
        features = _through(self.encoder, x, context)
        return features.expand(samples, *features.shape)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Posterior means of all latents, flattened and side by side: (B, *x) -> (B, total latent size).

        Nothing is drawn: in evaluation mode the same data give the same codes.
        """
        return _side_by_side([latent.q.mean for latent in self._infer(x, 1, centre, context)[0]])

    def encode_scale(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Posterior standard deviations, in the order of `encode`: (B, *x) -> (B, total latent size)."""
        return _side_by_side([latent.q.stddev for latent in self._infer(x, 1, centre, context)[0]])

    def decode(self, z: Tensor, context: Tensor | None = None) -> Distribution:
        """p(x|z) for given latents as `encode` lays them, (B, total latent size): batch (1, B)."""
        return self._likelihood(self.hierarchy.rebuild(z[None]), context)

    def prior_and_likelihood(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Distribution]:
        """log p(z) of given latents as `encode` lays them, (K, B, L): nats, (K, B); and p(x|z), batch (K, B)."""
        levels = self.hierarchy.open()
        given = Given(z, levels, levels)
        state = self.hierarchy.generate(z.new_zeros((*z.shape[:2], 0)), self, given)
        return given.log_prob, self._likelihood(state, context)

    def log_joint(self, x: Tensor, z: Tensor, context: Tensor | None = None) -> Tensor:
        """log p(x, z) of data (B, *x) and given latents as `encode` lays them, (K, B, L): nats, (K, B). Nothing is encoded."""
        log_p, px = self.prior_and_likelihood(z, context)
        return log_p + px.log_prob(x)

    def trace_at(self, x: Tensor, z: Tensor, context: Tensor | None = None, features: Tensor | None = None) -> Trace:
        """The trace of data (B, *x) at given latents as `encode` lays them, (K, B, L), in place of draws.

        `features`, (K, B, *c), is what `features` gives for these data: for a caller who asks for many latents of the same.
        """
        features = self.features(x, len(z), context) if features is None else features
        given = Given(z, self.hierarchy.open(), self.hierarchy.asked())
        latents, state = self.hierarchy.infer(features, self, given)
        return Trace(x, self.likelihood.adapt(self._likelihood(state, context), x), latents, self.decoder)

    def reconstruct(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean of p(x|z) at the posterior mean: (B, *x) -> (B, *x). Nothing is drawn."""
        return self._likelihood(self._infer(x, 1, centre, context)[1], context).mean[0]

    def generate(self, n: int, context: Tensor | None = None) -> Distribution:
        """p(x|z) for `n` draws of z from the prior: batch (1, n). Its mean is what people look at.

        Arguments:
            n: How many.
            context: What to condition on, one row for each.
        """
        return self._likelihood(self.hierarchy.generate(self.blank(n), self), context)

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        """`n` draws of x from the model, with observation noise: (n, *x)."""
        with torch.no_grad():
            return reparameterised(self.generate(n, context))[0]

    def blank(self, n: int) -> Tensor:
        """The state before any latent is drawn, (1, n, 0)."""
        weight = next(self.parameters())
        return torch.zeros((1, n, 0), dtype=weight.dtype, device=weight.device)

    def _likelihood(self, state: Tensor, context: Tensor | None) -> Distribution:
        px: Distribution = self.likelihood(_through(self.decoder, state, context), self)
        return px

    def _infer(
        self, x: Tensor, samples: int, drawing: Drawing, context: Tensor | None
    ) -> tuple[tuple[Latent, ...], Tensor]:
        return self.hierarchy.infer(self.features(x, samples, context), self, drawing)


def _through(network: nn.Module, x: Tensor, context: Tensor | None) -> Tensor:
    # any module may stand in the place of a network, if the model is not conditional
    out: Tensor = network(x, context) if isinstance(network, Network) else network(x)
    return out


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return torch.cat([part[0].flatten(1) for part in parts], dim=1)
