"""The Gumbel-softmax distribution: one of several categories, relaxed so that a draw has a gradient."""

# K samples, B batch, V variables, M categories

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical

from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import uniform


class GumbelSoftmax(OneHotCategorical):
    r"""A one-hot categorical variable whose draws are relaxed onto the simplex, and so differentiable.

    .. math:: y = \mathrm{softmax}((\log \pi + g) / \tau), \qquad g = -\log(-\log u), \qquad u \sim U(0, 1)

    The largest entry of y is that of an exact draw from :math:`\pi`, at every temperature; as :math:`\tau \to 0` y becomes that
    draw. Everything else is that of the categorical variable itself: its mean, its mode, and its KL divergence, which is the one of
    discrete latents. `log_prob` of a relaxed value is the linear interpolation :math:`\sum_m y_m \log \pi_m` between the
    log-probabilities of the categories, and no density on the simplex.

    Arguments:
        temperature: :math:`\tau` > 0, shape ().
        logits: Shape (*b, M).

    References:
        | Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017), section 2
        | https://arxiv.org/abs/1611.01144
        | The Concrete Distribution (Maddison, Mnih and Teh, 2017), https://arxiv.org/abs/1611.00712
    """

    has_rsample = True

    def __init__(self, temperature: Tensor, logits: Tensor) -> None:
        self.temperature = temperature
        super().__init__(logits=logits, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Relaxed draws, (*sample_shape, *b, M), from torch's generator."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.relaxed(torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008  as torch has it
        """The same without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def relaxed(self, uniform_numbers: Tensor) -> Tensor:
        """The draw that uniform numbers in [0, 1), (*, *b, M), stand for."""
        inside = uniform_numbers.clamp_min(torch.finfo(uniform_numbers.dtype).tiny)
        gumbel = -(-inside.log()).log()
        return ((self.logits + gumbel) / self.temperature).softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, (*b); exact for a unit vector."""
        # logits of torch's categorical are log-probabilities
        return (value * self.logits).sum(-1)

    def expand(self, batch_shape: Any, _instance: None = None) -> GumbelSoftmax:
        """The same variable in a larger batch."""
        return GumbelSoftmax(self.temperature, self.logits.expand(*batch_shape, -1))


@reparameterised.register
def _(q: GumbelSoftmax) -> Tensor:
    return q.relaxed(uniform(q.logits.shape, dtype=q.logits.dtype, device=q.logits.device))
