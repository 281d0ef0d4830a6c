"""The interface of likelihoods: p(x | context), and what data they accept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from torch.distributions import Distribution

from vaekit.conditionals.base import Conditional


@dataclass(frozen=True)
class DataRange:
    """What a likelihood must know of the values in the data, as the model sees them.

    Attributes:
        low: Smallest value.
        high: Largest value.
        levels: M where every value is one of 0, 1/(M-1), ..., 1, as those of 8-bit images are with M = 256; None otherwise.
        remedies: What a user can write to change the data, by problem; `scale` for values outside [0, 1].
        counts: Whether every value is a number of things that were counted.
    """

    low: float
    high: float
    levels: int | None = None
    remedies: Mapping[str, str] = field(default_factory=dict)
    counts: bool = False


class Likelihood(Conditional):
    """A conditional that only makes sense as p(x | .).

    Attributes:
        discrete: Whether p(x | .) is a probability of discrete values, and not a density.
    """

    discrete: ClassVar[bool] = False

    @property
    def constant(self) -> float:
        """Nats of -log p(x|z) that depend neither on x, z nor on anything that is trained: the same for every example.

        Part of every ELBO. Training losses in scripts often leave it out, and so does the logged one unless asked for.
        """
        return 0.0

    @abstractmethod
    def check(self, values: DataRange) -> None:
        """Raise unless the values of the data lie in the support.

        Raises:
            ValueError: With the range found, the range expected and what to write instead.
        """

    def beginning(self, mean: Tensor) -> Tensor | None:
        """The context from which a decoder should begin, given the mean of the training data, or None to leave it alone.

        Arguments:
            mean: Shape `event_shape`.
        """
        return None

    @property
    def parameters_of_note(self) -> Mapping[str, float]:
        """Numbers of the likelihood itself that a reader of the results should see, by name."""
        return {}

    def adapt(self, px: Distribution, x: Tensor) -> Distribution:
        """A last look at the data that are scored, for likelihoods with a parameter in closed form; `px` itself for all others."""
        return px
