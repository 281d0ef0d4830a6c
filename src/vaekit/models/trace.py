"""What passes from a model to everything else: the latents with their q, p and draw, and p(x|z)."""

# K samples, B batch, *x event of the data, *z event of a latent

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, kl_divergence

from vaekit.distributions.draw import Draw


@dataclass(frozen=True)
class Latent:
    """One latent variable of a traced model.

    Attributes:
        name: Unique in the model.
        q: Posterior, batch (K, B), event (*z).
        p: Prior, same shapes.
        draw: A draw from q.
        entangled: Whether p was conditioned on values drawn after this one, as where latents are inferred from the data up: then
            the mean of log q - log p is no KL of these two distributions, and only the log-ratio at the draw has that mean.
        chained: Whether q was conditioned on the values of other latents, also where no gradient passes from them.
    """

    name: str
    q: Distribution
    p: Distribution
    draw: Draw
    entangled: bool = False
    chained: bool = False

    @property
    def log_q(self) -> Tensor:
        """log q(z|x) of the draw, nats, shape (K, B)."""
        return self.draw.log_prob

    @cached_property
    def log_p(self) -> Tensor:
        """log p(z) of the draw, nats, shape (K, B)."""
        return self.p.log_prob(self.draw.value)

    def kl(self) -> Tensor:
        """KL(q || p), nats, shape (K, B): analytic where torch knows it, else the log-ratio at the draw.

        The log-ratio also where the latent is `entangled`.
        """
        return self._kl

    def kl_per_dimension(self) -> Tensor:
        """KL of each latent dimension, nats, shape (K, B, L), where posterior and prior are independent over dimensions.

        Other latents, such as flows, give each of their dimensions an equal share of the whole.
        """
        if isinstance(self.q, Independent) and isinstance(self.p, Independent):
            q, p = self.q.base_dist, self.p.base_dist
            if self.entangled:
                ratio: Tensor = q.log_prob(self.draw.value) - p.log_prob(self.draw.value)
                return ratio.flatten(2)
            try:
                return kl_divergence(q, p).flatten(2)
            except NotImplementedError:  # torch knows no closed form for this pair: the shares below
                pass
        size = self.q.event_shape.numel()
        return (self.kl() / size)[..., None].expand(*self.q.batch_shape, size)

    @cached_property
    def _kl(self) -> Tensor:
        # several terms of an objective may ask
        if self.entangled:
            return self.log_q - self.log_p
        try:
            return kl_divergence(self.q, self.p)
        except NotImplementedError:  # torch knows no closed form for this pair: the estimate at the draw is unbiased
            return self.log_q - self.log_p


@dataclass(frozen=True)
class Trace:
    """One pass of a model over a batch.

    Attributes:
        x: The data, shape (B, *x).
        px: p(x|z), batch (K, B), event (*x).
        latents: In ancestral order; one for a flat model.
        decoder: What made px of the latents, for terms that penalise its weights.
    """

    x: Tensor
    px: Distribution
    latents: tuple[Latent, ...]
    decoder: nn.Module | None = None

    @cached_property
    def log_px(self) -> Tensor:
        """log p(x|z), nats, shape (K, B)."""
        return self.px.log_prob(self.x)

    @cached_property
    def log_w(self) -> Tensor:
        """Log importance weight log p(x, z) - log q(z|x), nats, shape (K, B)."""
        return self.log_px + torch.stack([latent.log_p - latent.log_q for latent in self.latents]).sum(0)

    def kl(self) -> Tensor:
        """KL of all latents together, nats, shape (K, B)."""
        return torch.stack([latent.kl() for latent in self.latents]).sum(0)
