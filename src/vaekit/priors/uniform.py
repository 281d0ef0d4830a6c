"""Uniform priors over what is discrete: the codes of a codebook, and categories."""

# K samples, B batch, V variables, M categories or codes

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.conditionals.categorical import check_categories
from vaekit.conditionals.codebook import Codebook
from vaekit.distributions.quantized import UniformCodes as UniformCodesDistribution


class UniformCodes(Conditional):
    r"""p(z): each of the M codes as likely as any other, at each position alone. The KL of a VQ-VAE from it is positions x log M.

    Arguments:
        event_shape: (D, *s), of the map of vectors.
        codebook: That of the posterior. It belongs to the posterior: this prior only looks into it.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), section 3.1
        | https://arxiv.org/abs/1711.00937
    """

    def __init__(self, event_shape: Sequence[int], codebook: Codebook) -> None:
        super().__init__(event_shape)
        self._codebook = (codebook,)  # a tuple hides it from the state dict, where the posterior has it

    @property
    def context_shape(self) -> torch.Size:
        """Nothing is needed: (0,)."""
        return torch.Size([0])

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B) of the context, event `event_shape`."""
        vectors = self._codebook[0].vectors.detach()
        return UniformCodesDistribution(vectors, context.shape[:2], self.event_shape[1:])


class UniformCategorical(Conditional):
    """p(z): independent variables, each uniform over its categories, as unit vectors.

    Arguments:
        event_shape: (V, M).

    References:
        | Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017), section 4.2
        | https://arxiv.org/abs/1611.01144
    """

    logits: Tensor

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__(event_shape)
        check_categories(event_shape)
        self.register_buffer("logits", torch.zeros(self.event_shape), persistent=False)

    @property
    def context_shape(self) -> torch.Size:
        """Nothing is needed: (0,)."""
        return torch.Size([0])

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B) of the context, event (V, M)."""
        logits = self.logits.expand(*context.shape[:2], *self.event_shape)
        return Independent(OneHotCategorical(logits=logits, validate_args=False), 1, validate_args=False)
