"""Penalties on codes and decoders: what takes the place of the noise of a VAE in regularised autoencoders."""

# K samples, B batch, *z event of a latent, *x event of the data

from __future__ import annotations

import torch
from torch import Tensor

from vaekit.distributions.noise import uniform
from vaekit.models.trace import Trace
from vaekit.objectives.base import Role, Term


class LatentL2(Term):
    r"""Half the squared length of the codes, :math:`\frac12 \|z\|^2`.

    References:
        | From Variational to Deterministic Autoencoders (Ghosh et al., 2020), section 3, L_Z of the RAE
        | https://arxiv.org/abs/1903.12436
    """

    role = Role.PENALTY

    def forward(self, trace: Trace) -> Tensor:
        """Shape (B,), a mean over the samples."""
        return torch.stack([0.5 * _summed(latent.draw.value.square()) for latent in trace.latents]).sum(0).mean(0)

    def elements(self, trace: Trace) -> int:
        """Latent dimensions."""
        return _dimensions(trace)


class LatentL1(Term):
    r"""The sum of absolute codes, :math:`\sum_d |z_d|`, under which most of them become small.

    It only makes codes sparse where the decoder cannot undo it by growing: hold its weights too, with `DecoderWeights`.

    References:
        | Efficient sparse coding algorithms (Lee, Battle, Raina and Ng, 2007), section 2
        | https://papers.nips.cc/paper/2979-efficient-sparse-coding-algorithms
    """

    role = Role.PENALTY

    def forward(self, trace: Trace) -> Tensor:
        """Shape (B,), a mean over the samples."""
        return torch.stack([_summed(latent.draw.value.abs()) for latent in trace.latents]).sum(0).mean(0)

    def elements(self, trace: Trace) -> int:
        """Latent dimensions."""
        return _dimensions(trace)


class DecoderWeights(Term):
    r"""The squared length of the decoder's parameters, :math:`\|\theta\|^2`.

    Raises:
        ValueError: When called, if the trace names no decoder.

    References:
        | From Variational to Deterministic Autoencoders (Ghosh et al., 2020), section 3, L_L2: Tikhonov regularisation
        | https://arxiv.org/abs/1903.12436
    """

    role = Role.PENALTY

    def forward(self, trace: Trace) -> Tensor:
        """Shape ()."""
        parameters = [] if trace.decoder is None else list(trace.decoder.parameters())
        if not parameters:
            raise ValueError("DecoderWeights needs a decoder with parameters: take traces from a model, model(x).")
        return torch.stack([parameter.square().sum() for parameter in parameters]).sum()


class DecoderGradient(Term):
    r"""The squared Frobenius norm of the decoder's Jacobian at the codes, :math:`\|\partial E[x|z] / \partial z\|_F^2`.

    It is a penalty on the decoder, so the derivative is with respect to the codes and never to the data. Estimated as
    :math:`\|v^\top J\|^2` with random signs v, which is unbiased, as :math:`E[v v^\top] = I`: one product with the Jacobian,
    whatever the size of the image. Of several latents each counts with all that it changes. The examples of a batch must not
    see each other on their way through the decoder.

    Arguments:
        probes: Draws of v. More lower the noise and raise the cost.

    Raises:
        ValueError: If `probes` is below 1.
        RuntimeError: When called where gradients are switched off, or the codes cannot be differentiated by.

    References:
        | From Variational to Deterministic Autoencoders (Ghosh et al., 2020), section 3, L_GP
        | https://arxiv.org/abs/1903.12436
        | A stochastic estimator of the trace of the influence matrix (Hutchinson, 1990), for the estimate
        | https://doi.org/10.1080/03610919008812866
    """

    role = Role.PENALTY

    def __init__(self, probes: int = 1) -> None:
        super().__init__()
        if probes < 1:
            raise ValueError(f"probes is {probes}, expected 1 or more.")
        self.probes = probes

    def forward(self, trace: Trace) -> Tensor:
        """Shape (B,), a mean over the samples and the probes."""
        mean, codes = trace.px.mean, [latent.draw.value for latent in trace.latents]
        if not (torch.is_grad_enabled() and mean.requires_grad and all(code.requires_grad for code in codes)):
            raise RuntimeError(
                "DecoderGradient differentiates p(x|z) by the codes: call it on a trace that was made with gradients on, of a "
                "posterior whose draws have them, such as conditionals.Normal or conditionals.Delta."
            )
        return torch.stack([self._probe(mean, codes) for _ in range(self.probes)]).mean(0)

    def elements(self, trace: Trace) -> int:
        """Entries of the Jacobian."""
        return trace.px.event_shape.numel() * _dimensions(trace)

    def _probe(self, mean: Tensor, codes: list[Tensor]) -> Tensor:
        signs = uniform(mean.shape, dtype=mean.dtype, device=mean.device).sub(0.5).sign()
        signs = torch.where(signs == 0, torch.ones_like(signs), signs)
        products = torch.autograd.grad(mean, codes, grad_outputs=signs, create_graph=True)
        return torch.stack([_summed(product.square()) for product in products]).sum(0).mean(0)


def _summed(value: Tensor) -> Tensor:
    """Over the event: (K, B, *z) -> (K, B)."""
    return value.flatten(2).sum(2)


def _dimensions(trace: Trace) -> int:
    return sum(latent.q.event_shape.numel() for latent in trace.latents)
