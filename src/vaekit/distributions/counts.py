"""Distributions of counts, whose zeros, nearly all of a cell's genes, cost next to nothing to score."""

# *b batch, *x event of the data, D values of an event, N events of a batch

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import softplus

from vaekit.distributions.draw import reparameterised
from vaekit.distributions.noise import uniform
from vaekit.math.counts import LINEAR, negative_binomial_nats, poisson_nats, zero_inflated_nats

# beyond it the negative binomial is Poisson to the last digit of float64 for means up to 1e8, and float32 still holds theta
_LOG_THETA_RANGE = (-60.0, 60.0)


class Counts(Distribution):
    """Independent counts, scored as one event.

    Attributes:
        log_mean: Logarithms of means, or of what zeros are then added to, shape (*b, *x).
        event_dims: How many trailing dimensions are the event.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.nonnegative_integer

    def __init__(self, log_mean: Tensor, event_dims: int) -> None:
        self.log_mean, self.event_dims = log_mean, event_dims
        dims = log_mean.dim() - event_dims
        super().__init__(log_mean.shape[:dims], log_mean.shape[dims:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """(*b, *x)."""
        return self.log_mean.exp()

    @abstractmethod
    def expand(self, batch_shape: Any, _instance: None = None) -> Counts:
        """The same distribution in a larger batch."""

    @abstractmethod
    def sampler(self) -> Callable[[int, torch.Generator], Tensor]:
        """What draws the values of one event of the batch, by its number: float64 on the CPU, (D,)."""

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, (*sample_shape, *b, *x), through vaekit's noise."""
        return reparameterised(self.expand(self._extended_shape(torch.Size(sample_shape))[: -self.event_dims or None]))

    def _flat(self, value: Tensor) -> tuple[torch.Size, Tensor, Tensor]:
        """The shape that value and parameters share, then log-means and values as (N, D)."""
        shape = torch.broadcast_shapes(value.shape, self.log_mean.shape)  # type: ignore[no-untyped-call]
        size = self.event_shape.numel()
        log_mean = self.log_mean.expand(shape).reshape(-1, size)
        return torch.Size(shape), log_mean, value.to(log_mean.dtype).expand(shape).reshape(-1, size)

    def _rows(self, parameter: Tensor) -> Tensor:
        """A parameter of every event, (N, D), in float64 on the CPU."""
        return parameter.cpu().double().expand(self.log_mean.shape).reshape(-1, self.event_shape.numel())

    def _batch(self, shape: torch.Size) -> torch.Size:
        return shape[: len(shape) - self.event_dims]

    def _of_events(self, batch_shape: Any, parameter: Tensor) -> Tensor:
        """A parameter in a larger batch; one that all examples share stays as it is."""
        shared = parameter.shape == self.event_shape
        return parameter if shared else parameter.expand(*batch_shape, *self.event_shape)


class Poisson(Counts):
    r""":math:`\log p(x) = x \log \mu - \mu - \log x!`.

    Arguments:
        log_mean: :math:`\log \mu`, shape (*b, *x).
        event_dims: How many trailing dimensions are the event.
    """

    def __init__(self, log_mean: Tensor, event_dims: int = 0) -> None:
        super().__init__(log_mean, event_dims)

    @property
    def variance(self) -> Tensor:
        """The mean, (*b, *x)."""
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, for values that broadcast with (*b, *x): shape of the batch."""
        shape, log_mean, x = self._flat(value)
        return poisson_nats(log_mean, x).reshape(self._batch(shape))

    def expand(self, batch_shape: Any, _instance: None = None) -> Poisson:
        """The same distribution in a larger batch."""
        return Poisson(self.log_mean.expand(*batch_shape, *self.event_shape), self.event_dims)

    def sampler(self) -> Callable[[int, torch.Generator], Tensor]:
        """torch's own."""
        rate = self._rows(self.log_mean).exp()
        return lambda event, generator: torch.poisson(rate[event], generator=generator)


class NegativeBinomial(Counts):
    r"""The Poisson distribution whose rate is gamma distributed: mean :math:`\mu`, variance :math:`\mu + \mu^2 / \theta`.

    .. math:: p(x) = \frac{\Gamma(x + \theta)}{\Gamma(\theta) \, x!}
        \left( \frac{\theta}{\theta + \mu} \right)^\theta \left( \frac{\mu}{\theta + \mu} \right)^x

    As :math:`\theta` grows it becomes Poisson; as it falls, most values are 0 and a few are large.

    Arguments:
        log_mean: :math:`\log \mu`, shape (*b, *x).
        log_theta: :math:`\log \theta`, shape (*x) where all examples share it, or (*b, *x). Held to [-60, 60].
        event_dims: How many trailing dimensions are the event.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), Methods, equation 4: their generative
          process, with the rate integrated out, https://doi.org/10.1038/s41592-018-0229-2
    """

    def __init__(self, log_mean: Tensor, log_theta: Tensor, event_dims: int = 0) -> None:
        super().__init__(log_mean, event_dims)
        self.log_theta = log_theta.clamp(*_LOG_THETA_RANGE)

    @property
    def variance(self) -> Tensor:
        r""":math:`\mu (1 + \mu / \theta)`, (*b, *x)."""
        return self.mean * (1.0 + (self.log_mean - self.log_theta).exp())

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, for values that broadcast with (*b, *x): shape of the batch."""
        shape, log_mean, x = self._flat(value)
        return negative_binomial_nats(log_mean, self._flat_theta(shape), x).reshape(self._batch(shape))

    def expand(self, batch_shape: Any, _instance: None = None) -> NegativeBinomial:
        """The same distribution in a larger batch."""
        log_mean = self.log_mean.expand(*batch_shape, *self.event_shape)
        return NegativeBinomial(log_mean, self._of_events(batch_shape, self.log_theta), self.event_dims)

    def sampler(self) -> Callable[[int, torch.Generator], Tensor]:
        """A rate from its gamma distribution, and a Poisson number of that rate."""
        log_theta = self._rows(self.log_theta)
        theta, scale = log_theta.exp(), (self._rows(self.log_mean) - log_theta).exp()

        def drawn(event: int, generator: torch.Generator) -> Tensor:
            rate = torch._standard_gamma(theta[event], generator=generator) * scale[event]
            return torch.poisson(rate, generator=generator)

        return drawn

    def _flat_theta(self, shape: torch.Size) -> Tensor:
        """(D,) where all events share it, (N, D) otherwise."""
        size = self.event_shape.numel()
        if self.log_theta.shape == self.event_shape:
            return self.log_theta.reshape(size)
        return self.log_theta.expand(shape).reshape(-1, size)


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    r"""Zero with probability :math:`\pi`, a negative binomial count otherwise.

    .. math:: p(0) = \pi + (1 - \pi) \, p_{NB}(0), \qquad p(x) = (1 - \pi) \, p_{NB}(x) \text{ for } x > 0,
        \qquad \pi = \mathrm{sigmoid}(l)

    Arguments:
        log_mean: :math:`\log \mu` of the negative binomial, shape (*b, *x).
        log_theta: :math:`\log \theta`, shape (*x) where all examples share it, or (*b, *x). Held to [-60, 60].
        dropout_logits: l, shape (*b, *x).
        event_dims: How many trailing dimensions are the event.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), Methods, equations 4 to 6
        | https://doi.org/10.1038/s41592-018-0229-2
    """

    def __init__(self, log_mean: Tensor, log_theta: Tensor, dropout_logits: Tensor, event_dims: int = 0) -> None:
        super().__init__(log_mean, log_theta, event_dims)
        self.dropout_logits = dropout_logits

    @property
    def mean(self) -> Tensor:
        r""":math:`(1 - \pi) \mu`, (*b, *x)."""
        return (self.log_mean - softplus(self.dropout_logits, threshold=LINEAR)).exp()

    @property
    def variance(self) -> Tensor:
        r""":math:`(1 - \pi) \mu (1 + \mu / \theta + \pi \mu)`, (*b, *x)."""
        mu = self.log_mean.exp()
        return self.mean * (1.0 + (self.log_mean - self.log_theta).exp() + self.dropout_logits.sigmoid() * mu)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, for values that broadcast with (*b, *x): shape of the batch."""
        shape, log_mean, x = self._flat(value)
        logits = self.dropout_logits.expand(shape).reshape(log_mean.shape)
        return zero_inflated_nats(log_mean, self._flat_theta(shape), logits, x).reshape(self._batch(shape))

    def expand(self, batch_shape: Any, _instance: None = None) -> ZeroInflatedNegativeBinomial:
        """The same distribution in a larger batch."""
        log_mean, logits = (
            given.expand(*batch_shape, *self.event_shape) for given in (self.log_mean, self.dropout_logits)
        )
        log_theta = self._of_events(batch_shape, self.log_theta)
        return ZeroInflatedNegativeBinomial(log_mean, log_theta, logits, self.event_dims)

    def sampler(self) -> Callable[[int, torch.Generator], Tensor]:
        """A count of the negative binomial, kept with probability 1 - pi."""
        counted, keep = super().sampler(), self._rows(-self.dropout_logits).sigmoid()

        def drawn(event: int, generator: torch.Generator) -> Tensor:
            count = counted(event, generator)
            return count * (torch.rand(count.shape, dtype=torch.float64, generator=generator) < keep[event])

        return drawn


@reparameterised.register
def _(q: Counts) -> Tensor:
    """Without gradients. The samplers of gamma and Poisson variables reject, and use up how many numbers they like: each event
    has a generator of its own, which starts from one number of vaekit's noise."""
    with torch.no_grad():
        seeds = uniform(q.batch_shape, dtype=torch.float64, device=torch.device("cpu")).flatten() * 2.0**32
        drawn, generator = q.sampler(), torch.Generator()
        values = [
            drawn(event, generator.manual_seed(int(seed))).to(q.log_mean) for event, seed in enumerate(seeds.tolist())
        ]
        return torch.stack(values).view(q.log_mean.shape) if values else torch.zeros_like(q.log_mean)
