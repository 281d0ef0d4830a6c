"""The VampPrior: the posterior of learned inputs as the prior of all."""

# K samples, B batch, M pseudo-inputs, *x event of the data, *z event of a latent

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.distributions.draw import reparameterised
from vaekit.distributions.mixture import Mixture, even_log_weights

# a pseudo-input starts this far inside the range of the data, where its sigmoid has a gradient
_INSIDE = 0.05


class Vamp(Conditional):
    r"""The variational mixture of posteriors, :math:`p(z) = \frac1M \sum_m q(z | u_m)`, at learned pseudo-inputs :math:`u_m`.

    The authors hold the pseudo-inputs to [0, 1] by a hard hyperbolic tangent, whose gradient at 0 and 1, where binary data have all
    their values, is zero. Here :math:`u = a + (b - a) \, \mathrm{sigmoid}(v)`, with [a, b] the range of the data, for which they
    begin as training examples drawn at random.

    Arguments:
        event_shape: Shape of one latent.
        data_shape: Shape of one example.
        components: M; the paper takes 500.

    Raises:
        ValueError: If `components` is below 1.

    References:
        | VAE with a VampPrior (Tomczak and Welling, 2018), section 3
        | https://arxiv.org/abs/1705.07120
    """

    low: Tensor
    high: Tensor

    def __init__(self, event_shape: Sequence[int], data_shape: Sequence[int], components: int = 500) -> None:
        super().__init__(event_shape)
        if components < 1:
            raise ValueError(f"components is {components}, expected 1 or more.")
        self.raw = nn.Parameter(torch.randn(components, *data_shape))
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.ones(()))

    @property
    def context_shape(self) -> torch.Size:
        """Nothing is needed: (0,)."""
        return torch.Size([0])

    @property
    def pseudo_inputs(self) -> Tensor:
        """:math:`u`, shape (M, *x)."""
        return self.low + (self.high - self.low) * self.raw.sigmoid()

    @torch.no_grad()
    def begin(self, examples: Tensor) -> None:
        """Start at training examples (N, *x), the first M of them, over and over if there are fewer."""
        self.low.copy_(examples.min())
        self.high.copy_(examples.max().clamp_min(self.low + 1e-6))
        start = examples[torch.arange(len(self.raw), device=examples.device) % len(examples)].to(self.raw)
        share = (start - self.low) / (self.high - self.low)
        self.raw.copy_((_INSIDE + (1.0 - 2.0 * _INSIDE) * share).logit())

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B) of the context, event `event_shape`. The model is asked for its posterior at the pseudo-inputs."""
        inputs = self.pseudo_inputs

        def drawn(index: Tensor) -> Tensor:
            # a posterior of B inputs has batch shape (1, B)
            return torch.cat([reparameterised(model.posterior(inputs[row])) for row in index])

        components = model.posterior(inputs)
        return Mixture(components, even_log_weights(self.raw, len(self.raw)), drawn, context.shape[:2])
