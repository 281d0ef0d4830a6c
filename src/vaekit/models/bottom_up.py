"""Latents that are inferred from the data up and generated from the top down."""

# K samples, B batch, *c features, *s state

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Consulted
from vaekit.distributions.draw import draw
from vaekit.models.hierarchy import Drawing, Hierarchy, check_names, rebuilt
from vaekit.models.level import Level
from vaekit.models.trace import Latent


class BottomUp(Hierarchy):
    r"""Each level's posterior sees the draw of the level below it, each level's prior the state that the levels above have left.

    With :math:`h_1` next to the data and :math:`h_L` on top,

    .. math:: q(h|x) = q(h_1|x) \prod_{l=2}^L q(h_l|h_{l-1}), \qquad p(h) = p(h_L) \prod_{l=1}^{L-1} p(h_l|h_{l+1}, ..., h_L).

    The prior of a level below the top is conditioned on values that were drawn *after* that level's own and hang on it. So
    :math:`E_q[\log q(h_l|h_{l-1}) - \log p(h_l|h_{>l})]` is not the mean of the KL of the two distributions, whose closed form
    would take :math:`h_l` for independent of what is above it. Such latents are `entangled`: their KL is the log-ratio at the draw.

    Arguments:
        levels: From the top down. `join` of a level gets the features and the draw of the level below it (of width 0 for the
            lowest); `inform` and `merge` get the state, as in a `TopDown` hierarchy.

    References:
        | Importance Weighted Autoencoders (Burda, Grosse and Salakhutdinov, 2016), equations 1 and 2
        | https://arxiv.org/abs/1509.00519
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        check_names(levels)
        self.levels = nn.ModuleList(levels)

    def infer(self, features: Tensor, model: Consulted, drawing: Drawing = draw) -> tuple[tuple[Latent, ...], Tensor]:
        """From the data up, each draw feeding the posterior above it; then the priors, from the top down."""
        found = []
        below = _blank(features)
        for level in reversed(self.open()):
            q = level.posterior(level.join(features, below), model)
            found.append((q, drawing(q)))
            below = found[-1][1].value
        latents: list[Latent] = []
        state = _blank(features)
        for level, (q, drawn) in zip(self.open(), reversed(found), strict=True):
            p = level.prior(level.inform(state), model)
            chained = len(latents) + 1 < len(found) and level.sees_state
            latents.append(Latent(level.name, q, p, drawn, entangled=bool(latents), chained=chained))
            state = level.merge(state, drawn.value)
        return tuple(latents), state

    def generate(self, blank: Tensor, model: Consulted, drawing: Drawing = draw) -> Tensor:
        """From the top down, each level from its prior."""
        state = blank
        for level in self.open():
            state = level.merge(state, drawing(level.prior(level.inform(state), model)).value)
        return state

    def rebuild(self, z: Tensor) -> Tensor:
        """Each level takes its share, the top one first."""
        return rebuilt(self.open(), z)

    def open(self) -> list[Level]:
        """All levels, from the top down."""
        return [level for level in self.levels if isinstance(level, Level)]

    def asked(self) -> list[Level]:
        """From the data up."""
        return self.open()[::-1]

    def posterior(self, features: Tensor, model: Consulted) -> Distribution:
        """q of the lowest latent given features (K, B, *c): the only one that has a density given the data alone."""
        lowest = self.open()[-1]
        q: Distribution = lowest.posterior(lowest.join(features, _blank(features)), model)
        return q


class BelowOnly(nn.Module):
    """Join: the posterior sees what a network makes of the draw of the level below it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, below: Tensor) -> Tensor:
        """(K, B, *z of the level below) to (K, B, *c)."""
        context: Tensor = self.network(below)
        return context


def _blank(features: Tensor) -> Tensor:
    return torch.zeros((*features.shape[:2], 0), dtype=features.dtype, device=features.device)
