"""Categorical latents, relaxed while training."""

# K samples, B batch, V variables, M categories

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.distributions.relaxed import GumbelSoftmax
from vaekit.schedules import Schedule, annealed


class RelaxedCategorical(Conditional):
    r"""V categorical variables of M categories each, as unit vectors, with the context as logits.

    While training a draw is relaxed onto the simplex, so that it has a gradient. In evaluation mode it is discrete, and so are all
    numbers about the model. The KL is in both that of the categorical variables themselves, :math:`\sum_m q_m \log (q_m / p_m)`.

    Arguments:
        event_shape: (V, M).
        temperature: Of the relaxation, above 0; a number or a schedule. High ones make smooth draws that say little, low ones
            gradients of high variance. The paper lowers it from 1 to 0.5.

    References:
        | Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017), section 2
        | https://arxiv.org/abs/1611.01144
    """

    def __init__(self, event_shape: Sequence[int], temperature: float | Schedule = 0.5) -> None:
        super().__init__(event_shape)
        check_categories(event_shape)
        self.temperature = annealed(temperature)
        schedule = self.temperature.schedule
        for step in (0, schedule.end):
            if not schedule(step) > 0.0:
                raise ValueError(
                    f"temperature is {schedule(step):g} at step {step}, expected a number above 0, for example 0.5."
                )

    @property
    def context_shape(self) -> torch.Size:
        """A logit for each category of each variable."""
        return self.event_shape

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event (V, M), for logits of shape (K, B, V, M)."""
        variables: OneHotCategorical
        if self.training:
            variables = GumbelSoftmax(self.temperature(), context)
        else:
            variables = OneHotCategorical(logits=context, validate_args=False)
        return Independent(variables, 1, validate_args=False)


def check_categories(event_shape: Sequence[int]) -> None:
    """Raise unless `event_shape` is (variables, categories).

    Raises:
        ValueError: If it has another number of dimensions.
    """
    if len(event_shape) != 2:
        raise ValueError(f"event_shape is {list(event_shape)}, expected [variables, categories], for example [20, 10].")
