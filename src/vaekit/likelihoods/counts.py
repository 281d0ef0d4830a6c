"""Likelihoods of counts. The first row of the context is the log-mean of each value; further rows are what else varies."""

# K samples, B batch, P rows, *x event of the data

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Consulted
from vaekit.distributions import counts
from vaekit.likelihoods.base import DataRange, Likelihood
from vaekit.likelihoods.scale import positive
from vaekit.likelihoods.support import check_counts


class CountLikelihood(Likelihood):
    """Independent counts whose log-means are the first row of the context, (P, *event_shape).

    `networks.Compositional` makes that row; the likelihood only reads it.

    Attributes:
        rows: P.
        title: What it is called in a message.
    """

    discrete = True
    rows: ClassVar[int] = 1
    title: ClassVar[str]

    @property
    def context_shape(self) -> torch.Size:
        """(P, *event_shape)."""
        return torch.Size([self.rows, *self.event_shape])

    def check(self, values: DataRange) -> None:
        """Raise unless every value is a number of things that were counted."""
        check_counts(values, self.title)

    def beginning(self, mean: Tensor) -> Tensor | None:
        """The logarithm of the mean of the data, and 0 in all further rows.

        What was never counted in the training data begins at half the smallest mean of the others: as if half a count had been.
        """
        seen = mean > 0
        least = 0.5 * mean[seen].min() if bool(seen.any()) else mean.new_tensor(1e-8)
        log_mean = torch.where(seen, mean, least).log()
        return torch.cat([log_mean[None], log_mean.new_zeros(self.rows - 1, *self.event_shape)])

    def _split(self, context: Tensor) -> tuple[Tensor, ...]:
        return context.unbind(-len(self.event_shape) - 1)


class GeneDispersion(CountLikelihood):
    r"""With one :math:`\theta` for each value of an event, learned by gradient, the same for all examples.

    Arguments:
        event_shape: Shape of one example.
        theta: To start from, above 0.
    """

    def __init__(self, event_shape: Sequence[int], theta: float = 1.0) -> None:
        super().__init__(event_shape)
        self.log_theta = nn.Parameter(torch.full(self.event_shape, math.log(positive(theta, "theta", "theta=1"))))

    @property
    def parameters_of_note(self) -> Mapping[str, float]:
        r"""The median :math:`\theta` over the values of an event."""
        return {"median_theta": float(self.log_theta.detach().median().exp())}


class Poisson(CountLikelihood):
    r"""Poisson counts: variance and mean are equal.

    .. math:: \log p(x|z) = \sum_d x_d \log \mu_d - \mu_d - \log x_d!

    Context: (1, *event_shape), :math:`\log \mu`.

    Arguments:
        event_shape: Shape of one example.
    """

    title = "Poisson"

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        (log_mean,) = self._split(context)
        return counts.Poisson(log_mean, len(self.event_shape))


class NegativeBinomial(GeneDispersion):
    r"""Counts of variance :math:`\mu + \mu^2 / \theta`, with one learned :math:`\theta` for each value of an event (each gene).

    Context: (1, *event_shape), :math:`\log \mu`.

    Arguments:
        event_shape: Shape of one example.
        theta: To start from, above 0.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), Methods
        | https://doi.org/10.1038/s41592-018-0229-2
    """

    title = "negative binomial"

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        (log_mean,) = self._split(context)
        return counts.NegativeBinomial(log_mean, self.log_theta, len(self.event_shape))


class GivenNegativeBinomial(CountLikelihood):
    r"""Counts of variance :math:`\mu + \mu^2 / \theta`, with each :math:`\theta` out of the context.

    A decoder makes one for each gene of each cell; `networks.BatchDispersion` one for each gene and experimental batch.
    Context: (2, *event_shape), :math:`\log \mu` and :math:`\log \theta`.

    Arguments:
        event_shape: Shape of one example.
    """

    rows = 2
    title = "negative binomial"

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        log_mean, log_theta = self._split(context)
        return counts.NegativeBinomial(log_mean, log_theta, len(self.event_shape))


class ZeroInflatedNegativeBinomial(GeneDispersion):
    r"""Counts that are 0 with probability :math:`\mathrm{sigmoid}(l)`, and otherwise those of `NegativeBinomial`.

    Context: (2, *event_shape), :math:`\log \mu` and :math:`l`.

    Arguments:
        event_shape: Shape of one example.
        theta: To start from, above 0.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), Methods
        | https://doi.org/10.1038/s41592-018-0229-2
    """

    rows = 2
    title = "zero-inflated negative binomial"

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        log_mean, logits = self._split(context)
        return counts.ZeroInflatedNegativeBinomial(log_mean, self.log_theta, logits, len(self.event_shape))

    def beginning(self, mean: Tensor) -> Tensor | None:
        """As without inflation, with a probability of 2% for a zero more: at 50% half of all means would be wrong."""
        return inflated(super().beginning(mean))


class GivenZeroInflatedNegativeBinomial(CountLikelihood):
    r"""Counts that are 0 with probability :math:`\mathrm{sigmoid}(l)`, and otherwise those of `GivenNegativeBinomial`.

    Context: (3, *event_shape), :math:`\log \mu`, :math:`l` and :math:`\log \theta`.

    Arguments:
        event_shape: Shape of one example.
    """

    rows = 3
    title = "zero-inflated negative binomial"

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event `event_shape`, for a context of shape (K, B, *context_shape)."""
        log_mean, logits, log_theta = self._split(context)
        return counts.ZeroInflatedNegativeBinomial(log_mean, log_theta, logits, len(self.event_shape))

    def beginning(self, mean: Tensor) -> Tensor | None:
        """As without inflation, with a probability of 2% for a zero more."""
        return inflated(super().beginning(mean))


def inflated(context: Tensor | None) -> Tensor | None:
    """A beginning whose second row is the logit of 2%."""
    if context is not None:
        context[1] = -4.0
    return context
