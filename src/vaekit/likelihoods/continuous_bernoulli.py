"""The continuous Bernoulli likelihood."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaekit.conditionals.base import Consulted
from vaekit.distributions.continuous_bernoulli import ContinuousBernoulli as Elementwise
from vaekit.likelihoods.base import DataRange, Likelihood
from vaekit.likelihoods.support import check_unit_interval


class ContinuousBernoulli(Likelihood):
    r"""Independent values in [0, 1] with the context as logits: what Bernoulli is for binary values, but a density.

    .. math:: \log p(x|z) = \sum_d x_d \log \lambda_d + (1 - x_d) \log(1 - \lambda_d) + \log C(\lambda_d),
        \qquad \lambda = \mathrm{sigmoid}(\text{context})

    Arguments:
        event_shape: Shape of one example.

    References:
        | The continuous Bernoulli: fixing a pervasive error in variational autoencoders (Loaiza-Ganem and Cunningham, 2019)
        | https://arxiv.org/abs/1907.06845
    """

    @property
    def context_shape(self) -> torch.Size:
        """One logit for each value."""
        return self.event_shape

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for logits of shape (K, B, *event_shape)."""
        return Independent(Elementwise(context), len(self.event_shape), validate_args=False)

    def check(self, values: DataRange) -> None:
        """Raise unless all values lie in [0, 1], and not only at its two ends, where a density is worth any number of nats."""
        check_unit_interval(values, "continuous Bernoulli")
        if values.levels == 2:
            raise ValueError(
                "The continuous Bernoulli likelihood expects values within [0, 1], received values that are all 0 or 1: its "
                "density has no bound there. Write likelihood=bernoulli, or data.binarisation=none."
            )
