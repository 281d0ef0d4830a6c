"""What a draw itself costs: the commitment and codebook terms of quantised latents."""

# K samples, B batch

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.models.trace import Trace
from vaekit.objectives.base import Term


class Penalty(Term):
    r"""A penalty that the draws of a posterior bring along, by its name.

    For a quantised posterior, of one example and independent of the size of the batch,

    .. math::
        \text{commitment} = \frac1P \sum_p \|z_e^p - \mathrm{sg}[e^p]\|^2 \qquad
        \text{codebook} = \frac1P \sum_p \|\mathrm{sg}[z_e^p] - e^p\|^2

    over P positions. They are squared distances rather than nats: their weights in the paper are 0.25 and 1.

    Arguments:
        name: Which.

    Raises:
        ValueError: When called, if no draw of the trace has a penalty of this name.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017), equation 3 and the end of section 3.2
        | https://arxiv.org/abs/1711.00937
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, trace: Trace) -> Tensor:
        """Shape (B,), a mean over the samples, summed over the latents."""
        found = [each.draw.penalties[self.name] for each in trace.latents if self.name in each.draw.penalties]
        if not found:
            names = ", ".join(sorted({name for latent in trace.latents for name in latent.draw.penalties})) or "none"
            raise ValueError(
                f"No latent has the penalty {self.name!r}; there are {names}. Penalties come with a posterior that has them, "
                "such as posterior=quantized."
            )
        return torch.stack(found).sum(0).mean(0)
