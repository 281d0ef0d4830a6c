"""The likelihood of tables whose columns are numbers, numbers that may be missing, and categories."""

# K samples, B batch, W values of an example, n numbers, k levels of a category

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Consulted
from vaekit.distributions.columns import ColumnsDistribution, Places
from vaekit.likelihoods.base import DataRange, Likelihood


class Columns(Likelihood):
    r"""Independent columns: normal numbers with a learned scale each, and categories by a softmax over their levels.

    .. math:: \log p(x|z) = \sum_{\mathrm{numbers}} o_d \log N(x_d; \mu_d, \sigma_d^2)
        + \sum_{\mathrm{optional}} \log \mathrm{Bernoulli}(o_d; \mathrm{sigmoid}(a_d))
        + \sum_{\mathrm{categories}} \log \mathrm{softmax}(l_d)_{k(d)}

    A number that may be missing has a probability of being observed, and a density only where it is (o_d = 1).
    :math:`\sigma_d = \sigma_0 + (1 - \sigma_0) e^{20 \theta_d}` with the floor :math:`\sigma_0` = 0.01 of the column's standard
    deviation, below which a column of few distinct values, to which a density may give any number of nats, would outweigh all
    others. It starts at 1; for the factor 20 see `LearnedScaleNormal`.

    The nats of numbers are of their standardised values: numbers of tables compare only at the same columns and scaling.

    Arguments:
        event_shape: (W,).
        columns: How the columns lie in an example, read from the data: 0 for a number, -1 for a number that may be missing (its
            value and whether it is observed), k of 2 or more for a category (a unit vector). None where the data are no table.

    References:
        | Handling Incomplete Heterogeneous Data using VAEs (Nazabal, Olmos, Ghahramani and Valera, 2020), section 2
        | https://arxiv.org/abs/1807.03653
        | Modeling Tabular Data using Conditional GAN (Xu, Skoularidou, Cuesta-Infante and Veeramachaneni, 2019), section 4.4:
        | one scale for each column of numbers
        | https://arxiv.org/abs/1907.00503
    """

    FLOOR, GAIN = 0.01, 20.0
    RAREST = 1e-6  # smallest probability that a decoder begins with

    def __init__(self, event_shape: Sequence[int], columns: Sequence[int] | None) -> None:
        super().__init__(event_shape)
        layout = _layout(columns)
        self.places = Places.of(layout)
        if list(event_shape) != [self.places.width]:
            raise ValueError(
                f"columns {_short(layout)} make {self.places.width} values of an example, but event_shape is {list(event_shape)}."
            )
        self.theta = nn.Parameter(torch.zeros(len(self.places.numbers)))

    @property
    def context_shape(self) -> torch.Size:
        """One number for each value: a mean or a logit."""
        return self.event_shape

    @property
    def scale(self) -> Tensor:
        """Standard deviations of the numbers, (n), above the floor."""
        return self.FLOOR + (1.0 - self.FLOOR) * (self.GAIN * self.theta).exp()

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event (W,), for a context of shape (K, B, W)."""
        if self.places.numbers.device != context.device:
            self.places = self.places.to(context.device)
        return ColumnsDistribution(context, self.scale, self.places)

    def check(self, values: DataRange) -> None:
        """Every row of the table is in the support: which columns it has was said when this was made."""

    def beginning(self, mean: Tensor) -> Tensor:
        """What puts out the means of the numbers, and the frequencies of the levels and of being observed."""
        p = self.places.to(mean.device)
        begun = mean.clone()
        observed = mean[p.observed].clamp(self.RAREST, 1.0 - self.RAREST)
        begun[p.observed] = observed.logit()
        at = p.numbers[p.optional]
        begun[at] = mean[at] / observed
        for block in p.categories:
            begun[block] = mean[block].clamp_min(self.RAREST).log()
        return begun

    @property
    def parameters_of_note(self) -> Mapping[str, float]:
        """The smallest and the largest scale."""
        if not len(self.theta):
            return {}
        scale = self.scale.detach()
        return {"smallest_scale": float(scale.min()), "largest_scale": float(scale.max())}


def _layout(columns: Sequence[int] | None) -> Sequence[int]:
    if columns is None:
        raise ValueError(
            "This likelihood is for tables of numbers and categories (data=table data.path=FILE, or data=adult), and these data "
            "are not one. Write likelihood=normal, or for values in [0, 1] likelihood=bernoulli."
        )
    wrong = [kind for kind in columns if kind not in (0, -1) and kind < 2]
    if wrong or not columns:
        raise ValueError(
            f"columns are {_short(columns)}, expected 0 for a number, -1 for a number that may be missing, or the number of levels "
            "of a category, 2 or more."
        )
    return columns


def _short(columns: Sequence[int]) -> str:
    return f"[{', '.join(map(str, columns[:20]))}{', ...' if len(columns) > 20 else ''}]"
