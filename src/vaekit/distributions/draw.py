"""A draw from a distribution: its value, its log-density, and what a non-standard draw costs."""

# K samples, B batch, *z event of a latent

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, singledispatch

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)
from torch.nn.functional import one_hot

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


@singledispatch
def centre(q: Distribution) -> Draw:
    """The mean of `q` in place of a random draw, or its mode where a mean is no value: deterministic, for reconstructions."""
    value = q.mean
    return Draw(value, lambda: q.log_prob(value))


@centre.register
def _(q: Independent) -> Draw:  # type: ignore[type-arg]
    value = centre(q.base_dist).value
    return Draw(value, lambda: q.log_prob(value))  # type: ignore[no-untyped-call]


@centre.register
def _(q: OneHotCategorical) -> Draw:
    value = q.mode
    return Draw(value, lambda: q.log_prob(value))  # type: ignore[no-untyped-call]


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


@reparameterised.register
def _(q: Laplace) -> Tensor:
    u = uniform(q.loc.shape, dtype=q.loc.dtype, device=q.loc.device)
    u = u.clamp_min(torch.finfo(u.dtype).eps / 4)  # 0 is among torch's uniform numbers
    noise = torch.where(u < 0.5, (2.0 * u).log(), -(2.0 - 2.0 * u).log())
    return q.loc + q.scale * noise


@reparameterised.register
def _(q: Categorical) -> Tensor:
    return chosen(q.probs)


@reparameterised.register
def _(q: OneHotCategorical) -> Tensor:
    return one_hot(chosen(q.probs), q.probs.shape[-1]).to(q.probs.dtype)


@reparameterised.register
def _(q: OneHotCategoricalStraightThrough) -> Tensor:
    # the gradient of the probabilities in place of that of the draw, which has none
    return one_hot(chosen(q.probs), q.probs.shape[-1]).to(q.probs.dtype) + (q.probs - q.probs.detach())


@reparameterised.register
def _(q: MixtureSameFamily) -> Tensor:
    # without gradients: those of the drawn component alone would miss the change of the choice
    with torch.no_grad():
        component = chosen(q.mixture_distribution.probs.expand(*q.batch_shape, -1))
        values = reparameterised(
            q.component_distribution.expand((*q.batch_shape, q.mixture_distribution.probs.shape[-1]))
        )
        dims = len(q.event_shape)
        index = component.view(*component.shape, *(1,) * (dims + 1)).expand(*component.shape, 1, *q.event_shape)
        return values.gather(values.dim() - dims - 1, index).squeeze(values.dim() - dims - 1)


def chosen(probs: Tensor) -> Tensor:
    """One of M categories by one uniform number each: probabilities (K, B, *e, M) to int64 (K, B, *e)."""
    cumulative = probs.detach().cumsum(-1)
    u = uniform(probs.shape[:-1], dtype=probs.dtype, device=probs.device)
    # divided by the last: it may round to less than 1, and a category of probability 0 at the end would be chosen
    return (u[..., None] >= cumulative[..., :-1] / cumulative[..., -1:]).sum(-1)
