"""The KL divergence of the posterior from the prior, in closed form or from the draws."""

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.models.trace import Trace
from vaekit.objectives.base import Role, Term


class _Divergence(Term):
    """What both estimators share: they sum over all latent dimensions."""

    role = Role.RATE

    def elements(self, trace: Trace) -> int:
        """Latent dimensions."""
        return sum(latent.q.event_shape.numel() for latent in trace.latents)


class KL(_Divergence):
    r""":math:`\mathrm{KL}(q(z|x) \,\|\, p(z))`: the rate. Analytic where torch knows it, else as `MonteCarloKL`.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), equation 7 and appendix B
        | https://arxiv.org/abs/1312.6114
    """

    def forward(self, trace: Trace) -> Tensor:
        """Nats, shape (B,)."""
        return trace.kl().mean(0)


class MonteCarloKL(_Divergence):
    r"""The same divergence from the draws, :math:`\frac1K \sum_k \log q(z_k|x) - \log p(z_k)`: unbiased, for any pair.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014), equation 6
        | https://arxiv.org/abs/1312.6114
    """

    def forward(self, trace: Trace) -> Tensor:
        """Nats, shape (B,)."""
        return torch.stack([latent.log_q - latent.log_p for latent in trace.latents]).sum(0).mean(0)
