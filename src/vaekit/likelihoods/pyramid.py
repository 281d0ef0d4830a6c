"""The likelihood of the residual progressive VAE: the image at every resolution that is open."""

# S stages, r_s their resolutions, C channels

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.conditionals.base import Consulted
from vaekit.distributions.pyramid import Pyramid as PyramidDistribution
from vaekit.likelihoods.base import DataRange, Likelihood
from vaekit.networks.growing import area_pooled, enlarged, resolutions

LikelihoodFactory = Callable[..., Likelihood]


class Pyramid(Likelihood):
    r"""One likelihood for a coarse view of the image and one for each finer image, given the means of all of them.

    .. math:: \log p(b, x_1, ..., x_S | z) = \log p_0(b | z_0) + \sum_{s=1}^S \log p_s(x_s | z_{\le s}),
        \qquad x_s = \mathrm{pool}_{r_s}(x)

    The context holds the images side by side, flattened, coarsest first: the parameters of the base, then means. As many as it
    holds are scored. The base scores the whole image with parameters that are alike within its blocks, as a growing model
    at its first stage does. The density is one over all these views of the image, given z independent of each other; its
    nats compare with no density of the image alone. Grey values under a Bernoulli base stand for the expected log-probability
    of their binarisation b, which is the cross-entropy.

    Arguments:
        event_shape: (C, R, R).
        base: Called with `event_shape`: the likelihood of the image with the parameters of `start_res`.
        finer: Likewise, for the image at each resolution above; its context must be the mean.
        start_res: Coarsest resolution; R is a power of two times it.
    """

    def __init__(
        self, event_shape: Sequence[int], base: LikelihoodFactory, finer: LikelihoodFactory, start_res: int = 4
    ) -> None:
        super().__init__(event_shape)
        channels = event_shape[0]
        shapes = [(channels, r, r) for r in resolutions(start_res, event_shape[-1])]
        self.parts = nn.ModuleList([base(event_shape=event_shape), *(finer(event_shape=shape) for shape in shapes[1:])])
        self.shapes = shapes
        if any(part.context_shape != part.event_shape for part in self._parts()):
            raise ValueError(
                "A pyramid is made of likelihoods with one parameter for each pixel, such as bernoulli and normal."
            )

    @property
    def context_shape(self) -> torch.Size:
        """All images side by side."""
        return torch.Size([sum(math.prod(shape) for shape in self.shapes)])

    @property
    def parameters_of_note(self) -> Mapping[str, float]:
        """Those of the parts, with their resolution."""
        return {
            f"{name}_{part.event_shape[-1]}x{part.event_shape[-1]}": value
            for part in self._parts()[1:]
            for name, value in part.parameters_of_note.items()
        }

    def forward(self, context: Tensor, model: Consulted) -> Distribution:
        """Batch (K, B), event (C, R, R), for a context (K, B, n) that holds the open resolutions."""
        scored: list[Distribution] = []
        first = 0
        for part, shape in zip(self._parts(), self.shapes, strict=True):
            if first < context.shape[-1]:
                own = context[..., first : first + math.prod(shape)].reshape(*context.shape[:-1], *shape)
                scored.append(part(enlarged(own, part.event_shape[-1]), model))
            first += math.prod(shape)
        return PyramidDistribution(scored, self.event_shape, area_pooled, enlarged)

    def check(self, values: DataRange) -> None:
        """As the parts, of values that are no longer discrete: means of pixels lie between the levels."""
        for part in self._parts():
            part.check(replace(values, levels=None))

    def adapt(self, px: Distribution, x: Tensor) -> Distribution:
        """As the parts, each with the image at its own resolution."""
        if not self.training:
            return px
        assert isinstance(px, PyramidDistribution)
        scored = [
            part.adapt(own, area_pooled(x, part.event_shape[-1]))
            for part, own in zip(self._parts(), px.parts, strict=False)  # as many as are open
        ]
        return PyramidDistribution(scored, self.event_shape, area_pooled, enlarged)

    def _parts(self) -> list[Likelihood]:
        return [part for part in self.parts if isinstance(part, Likelihood)]
