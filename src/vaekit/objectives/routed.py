"""One set of weights over the draws for the encoder's gradient, and another for the decoder's."""

# K samples, B batch, *z event of a latent

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.models.trace import Trace


def routed(trace: Trace, log_q: Tensor, encoder: Tensor, decoder: Tensor) -> Tensor:
    r"""A number that is 0 and whose gradient is a weighted sum of those of :math:`\log w_k`, with weights for each side.

    .. math::
        \nabla_\theta = \sum_k d_k \nabla_\theta \log p(x, z_k), \qquad
        \nabla_\phi = \sum_k e_k \left( \frac{\partial \log p(x, z_k)}{\partial z_k} \frac{\partial z_k}{\partial \phi}
        - \nabla_\phi \log q \right)

    The decoder's parameters are those that p(x, z) has, the encoder's those that z and q are made with; where p(z) asks the
    encoder, as the VampPrior does, these count for the decoder there. The gradient of :math:`\sum_k d_k \log p(x, z_k)` would
    reach the encoder through z with the decoder's weights. What that lacks, :math:`(e_k - d_k) \partial \log p / \partial z_k`, is
    computed first and added as a constant times z, so both are exact, for any weights, and other terms of the objective feel
    nothing of it. It costs one more pass back through the decoder, to its input.

    Arguments:
        trace: With latents that are drawn independently given the data.
        log_q: log q of the draws, with the gradient that it is to have, (K, B).
        encoder: e, (K, B); no gradient goes through it.
        decoder: d, likewise.

    Returns:
        Zeros, shape (B,), with the gradient; where gradients are switched off there is none.
    """
    encoder, decoder = encoder.detach(), decoder.detach()
    log_joint = trace.log_px + torch.stack([latent.log_p for latent in trace.latents]).sum(0)
    weighed = decoder * log_joint - encoder * log_q
    values = [latent.draw.value for latent in trace.latents if latent.draw.value.requires_grad]
    if torch.is_grad_enabled() and values:
        lacking = ((encoder - decoder) * log_joint).sum()
        slopes = torch.autograd.grad(lacking, values, retain_graph=True, allow_unused=True)
        for value, slope in zip(values, slopes, strict=True):
            if slope is not None:
                weighed = weighed + (slope * (value - value.detach())).flatten(2).sum(2)
    total = weighed.sum(0)
    return total - total.detach()
