"""The quantised posterior of a VQ-VAE."""

# K samples, B batch, D dimensions of a vector, *s positions

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.conditionals.codebook import Codebook
from vaekit.distributions.quantized import Quantized as QuantizedDistribution
from vaekit.distributions.quantized import codes_of


class Quantized(Conditional):
    r"""The nearest code at each position of a map of vectors, :math:`q(z = m | x) = 1` for :math:`m = \arg\min_m \|z_e - e_m\|`.

    The draw has the vectors of the codes as its value, with the encoder's output as their gradient, and two penalties for
    `objectives.Penalty`: "commitment", the squared distance of the encoder's output from its code, and "codebook", the same number
    with its gradient on the code. Both are of one example, summed over the dimensions of a vector and averaged over positions.

    Arguments:
        event_shape: (D, *s): (D, h, w) for images, (D,) for one position.
        codebook: Called with `dim`: makes the codes.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), sections 3.1 and 3.2
        | https://arxiv.org/abs/1711.00937
    """

    def __init__(self, event_shape: Sequence[int], codebook: Callable[..., Codebook]) -> None:
        super().__init__(event_shape)
        self.codebook = codebook(dim=self.event_shape[0])

    @property
    def context_shape(self) -> torch.Size:
        """The event shape."""
        return self.event_shape

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *event_shape). In training the codebook learns."""
        encoded = context.detach().movedim(2, -1).reshape(-1, self.event_shape[0])
        if self.training:
            self.codebook.revive(encoded)
        codes = codes_of(context.detach(), self.codebook.vectors.detach())
        q = QuantizedDistribution(context, codes, self.codebook.vectors)
        if self.training:
            self.codebook.observe(encoded, codes.flatten())
        return q
