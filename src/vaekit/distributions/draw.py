"""A draw from a distribution: its value, its log-density, and what a non-standard draw costs."""

# K samples, B batch, *z event of a latent

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, singledispatch

from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from vaekit.distributions.noise import standard_normal, uniform


@dataclass(frozen=True)
class Draw:
    """One draw of a latent.

    Attributes:
        value: Shape (K, B, *z).
        density: Gives the log-density of the value. Called at most once, and only when a term asks for it: an analytic
            KL never does. A flow whose draw already knows its density returns it from here at no cost.
        penalties: Terms of the draw itself, each (K, B); empty for most distributions.
    """

    value: Tensor
    density: Callable[[], Tensor]
    penalties: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def log_prob(self) -> Tensor:
        """Log-density of the value under the distribution that it was drawn from, nats, shape (K, B)."""
        return self.density()


@singledispatch
def draw(q: Distribution) -> Draw:
    """Draw from `q`, with gradients to its parameters where the distribution has them.

    Any `torch.distributions.Distribution` will do. Register a class here only if it draws differently from `rsample`.

    Arguments:
        q: Batch shape (K, B), event shape (*z).
    """
    value = reparameterised(q)
    return Draw(value, lambda: q.log_prob(value))


def centre(q: Distribution) -> Draw:
    """The mean of `q` in place of a random draw: deterministic, and what encoding and reconstruction use."""
    value = q.mean
    return Draw(value, lambda: q.log_prob(value))


@singledispatch
def reparameterised(q: Distribution) -> Tensor:
    """A random value of `q`, as a differentiable function of its parameters where it has one."""
    return q.rsample() if q.has_rsample else q.sample()


@reparameterised.register
def _(q: Independent) -> Tensor:  # type: ignore[type-arg]
    return reparameterised(q.base_dist)


@reparameterised.register
def _(q: Normal) -> Tensor:
    # through vaekit's noise rather than rsample, so that evaluation can give each example its own
    noise = standard_normal(q.loc.shape, dtype=q.loc.dtype, device=q.loc.device)
    return q.loc + q.scale * noise


@reparameterised.register
def _(q: Bernoulli) -> Tensor:
    probs = q.probs
    return (uniform(probs.shape, dtype=probs.dtype, device=probs.device) < probs).to(probs.dtype)
