"""The Bernoulli likelihood."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditionals.base import Consulted
from vaekit.distributions.bernoulli import BernoulliEvent
from vaekit.likelihoods.base import DataRange, Likelihood
from vaekit.likelihoods.support import check_unit_interval


class Bernoulli(Likelihood):
    r"""Independent binary values with the context as logits.

    .. math:: \log p(x|z) = \sum_d x_d \log \pi_d + (1 - x_d) \log(1 - \pi_d), \qquad \pi = \mathrm{sigmoid}(\text{context})

    Computed from the logits: the error is that of rounding a logit, however sure it is. For values strictly between 0 and 1 the
    formula is the usual cross-entropy loss, but no density: such numbers cannot be compared with those of binary data.

    Arguments:
        event_shape: Shape of one example.
    """

    discrete = True

    @property
    def context_shape(self) -> torch.Size:
        """One logit for each value."""
        return self.event_shape

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for logits of shape (K, B, *event_shape)."""
        return BernoulliEvent(context, len(self.event_shape))

    def check(self, values: DataRange) -> None:
        """Raise unless all values lie in [0, 1]."""
        check_unit_interval(values, "Bernoulli")
