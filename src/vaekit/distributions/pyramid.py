"""A distribution over an image at several resolutions at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.draw import reparameterised

Resize = Callable[[Tensor, int], Tensor]


class Pyramid(Distribution):
    r"""Independent parts, each over the image at its own resolution: :math:`\sum_s \log p_s(\mathrm{pool}_{r_s}(x))`.

    It stands in the place of a distribution over images: it scores an image by downsampling it, and shows its finest part.

    Arguments:
        parts: From the coarsest to the finest, events (C, r, r), one batch shape.
        event_shape: Of the images, (C, R, R).
        shrink: (image, resolution) -> smaller image.
        enlarge: (image, resolution) -> larger image.
    """

    def __init__(
        self, parts: Sequence[Distribution], event_shape: Sequence[int], shrink: Resize, enlarge: Resize
    ) -> None:
        super().__init__(parts[0].batch_shape, torch.Size(event_shape), validate_args=False)
        self.parts, self._shrink, self._enlarge = tuple(parts), shrink, enlarge

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of all resolutions together, shape of the batch."""
        return torch.stack([part.log_prob(self._shrink(value, part.event_shape[-1])) for part in self.parts]).sum(0)

    def finest_log_prob(self, value: Tensor) -> Tensor:
        """Nats of the finest part alone."""
        return self.finest.log_prob(self._shrink(value, self.finest.event_shape[-1]))

    @property
    def finest(self) -> Distribution:
        """The part with the highest resolution."""
        return self.parts[-1]

    @property
    def mean(self) -> Tensor:
        """The mean of the finest part, enlarged to the size of the images."""
        return self._enlarge(self.finest.mean, self.event_shape[-1])

    def drawn(self) -> Tensor:
        """A draw of the finest part, enlarged."""
        return self._enlarge(reparameterised(self.finest), self.event_shape[-1])


@reparameterised.register
def _(q: Pyramid) -> Tensor:
    return q.drawn()
