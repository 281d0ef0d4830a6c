"""A learned mixture of normals as the prior."""

# K samples, B batch, M components, *z event of a latent

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.conditionals.normal import LOG_VARIANCE_RANGE
from vaekit.distributions.draw import reparameterised
from vaekit.distributions.mixture import Mixture as MixtureDistribution


class Mixture(Conditional):
    r"""A mixture of M diagonal normals, :math:`p(z) = \sum_m w_m \, N(\mu_m, \mathrm{diag}(\sigma_m^2))`, learned with the model.

    It begins as even weights on standard normals whose means are drawn from N(0, I).

    Arguments:
        event_shape: Shape of one latent.
        components: M.

    Raises:
        ValueError: If `components` is below 1.

    References:
        | VAE with a VampPrior (Tomczak and Welling, 2018), section 5, the "MoG" prior of its experiments
        | https://arxiv.org/abs/1705.07120
        | Deep Unsupervised Clustering with Gaussian Mixture VAEs (Dilokthanakul et al., 2016), https://arxiv.org/abs/1611.02648
    """

    def __init__(self, event_shape: Sequence[int], components: int = 10) -> None:
        super().__init__(event_shape)
        if components < 1:
            raise ValueError(f"components is {components}, expected 1 or more.")
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, *self.event_shape))
        self.log_variance = nn.Parameter(torch.zeros(components, *self.event_shape))

    @property
    def context_shape(self) -> torch.Size:
        """Nothing is needed: (0,)."""
        return torch.Size([0])

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B) of the context, event `event_shape`."""
        scale = (0.5 * self.log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()

        def normal(loc: Tensor, scale: Tensor) -> Distribution:
            return Independent(Normal(loc, scale, validate_args=False), len(self.event_shape), validate_args=False)

        def drawn(index: Tensor) -> Tensor:
            return reparameterised(normal(self.loc[index], scale[index]))

        components = normal(self.loc[None], scale[None])
        return MixtureDistribution(components, self.logits.log_softmax(0), drawn, context.shape[:2])
