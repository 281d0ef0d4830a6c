"""Terms that minimise another number than the one they measure: a target, a floor, a constraint."""

# K samples, B batch, L latent dimensions

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaekit.models.trace import Trace
from vaekit.objectives.base import Role, Term
from vaekit.objectives.kl import KL
from vaekit.schedules import Schedule, annealed

# lambda is held to what float32 can multiply with: a constraint that cannot be met would send it to infinity
_LARGEST_LOG_MULTIPLIER = math.log(1e6)


class Capacity(Term):
    r"""Hold a term at a moving target, :math:`|t - C|` for its mean t over the batch; its weight is the paper's gamma.

    Arguments:
        term: What is held, such as `KL`.
        target: C, nats: a number or a schedule.

    References:
        | Understanding disentangling in beta-VAE (Burgess et al., 2018), section 5
        | https://arxiv.org/abs/1804.03599
    """

    def __init__(self, term: Term, target: float | Schedule) -> None:
        super().__init__()
        self.term, self.target = term, annealed(target)
        self.role = term.role

    def forward(self, trace: Trace) -> Tensor:
        """Nats away from the target, shape ()."""
        distance: Tensor = self.term(trace).mean() - self.target()
        return distance.abs()

    def nats(self, trace: Trace) -> Tensor:
        """Of the term."""
        return self.term.nats(trace)

    def elements(self, trace: Trace) -> int:
        """Of the term."""
        return self.term.elements(trace)


class FreeBits(Term):
    r"""The KL with a floor under each group of latent dimensions, :math:`\sum_j \max(\lambda, E_x[\mathrm{KL}_j])`.

    A group below :math:`\lambda` costs the same whatever it carries, so there is no reward for closing it. The mean is over the
    batch, as in the paper: one example may carry less. Where the KL of single dimensions is not known, as with flows, each
    dimension counts an equal share of the whole.

    Arguments:
        nats: :math:`\lambda`, for each group.
        dimensions: In one group, consecutive ones of a latent: 1, or the height times width of a feature map, or all.

    Raises:
        ValueError: If `nats` is below 0 or `dimensions` below 1; when called, if a latent does not fall into whole groups.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), equation 15
        | https://arxiv.org/abs/1606.04934
    """

    role = Role.RATE

    def __init__(self, nats: float = 0.5, dimensions: int = 1) -> None:
        super().__init__()
        if nats < 0.0 or dimensions < 1:
            raise ValueError(
                f"nats is {nats} and dimensions is {dimensions}, expected 0 or more nats for groups of 1 dimension or more."
            )
        self.floor, self.dimensions = nats, dimensions
        self.term = KL()

    def forward(self, trace: Trace) -> Tensor:
        """Nats, shape ()."""
        groups = [self._grouped(latent.kl_per_dimension()) for latent in trace.latents]
        return torch.cat(groups).clamp_min(self.floor).sum()

    def nats(self, trace: Trace) -> Tensor:
        """The KL without the floor, shape (B,)."""
        return self.term.nats(trace)

    def elements(self, trace: Trace) -> int:
        """Latent dimensions."""
        return self.term.elements(trace)

    def _grouped(self, kl: Tensor) -> Tensor:
        """Mean KL of each group, for the KL of each dimension, (K, B, L)."""
        if kl.shape[-1] % self.dimensions:
            raise ValueError(
                f"A latent of {kl.shape[-1]} dimensions does not fall into groups of {self.dimensions}: write "
                "objective.terms.kl.dimensions=1, or another divisor."
            )
        return kl.mean((0, 1)).reshape(-1, self.dimensions).sum(1)


class Constrained(Term):
    r"""Demand that a term come down to a tolerance, and weigh it as much as that takes (GECO).

    Minimised is :math:`\lambda C` with :math:`C = t - \text{tolerance}` for the mean t of the term over the batch. Its value is
    that of the moving average of C, its gradient that of C of the present batch. After each training step

    .. math:: \lambda \leftarrow \lambda \exp(\text{rate} \cdot \bar C / d), \qquad
              \bar C \leftarrow \alpha \bar C + (1 - \alpha) C

    so that the weight rises while the constraint is violated and falls while there is slack. The paper leaves the rate of the
    multiplier open; dividing by the number d of values makes one rate fit all image sizes. The multiplier and the average are
    buffers: they are in the checkpoint, and evaluation does not move them.

    Arguments:
        term: What is constrained, such as `Reconstruction`; what it is weighed against is the other terms of the objective.
        tolerance: Nats per example that the term may have.
        rate: Of the multiplier, for one nat of violation per value.
        momentum: :math:`\alpha` of the moving average.

    Raises:
        ValueError: If `rate` is not above 0 or `momentum` not in [0, 1).

    References:
        | Taming VAEs (Rezende and Viola, 2018), section 2.2 and algorithm 1
        | https://arxiv.org/abs/1810.00597
    """

    average: Tensor
    multiplier: Tensor
    started: Tensor

    def __init__(self, term: Term, tolerance: float, rate: float = 0.1, momentum: float = 0.99) -> None:
        super().__init__()
        if not rate > 0.0 or not 0.0 <= momentum < 1.0:
            raise ValueError(
                f"rate is {rate} and momentum is {momentum}, expected a rate above 0 and 0 <= momentum < 1."
            )
        self.term, self.tolerance, self.rate, self.momentum = term, tolerance, rate, momentum
        self.role = term.role
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("multiplier", torch.ones(()))
        self.register_buffer("started", torch.zeros(()))

    def forward(self, trace: Trace) -> Tensor:
        """The violation times the multiplier, shape (); in training, both move."""
        violation: Tensor = self.term(trace).mean() - self.tolerance
        if not self.training:
            return self.multiplier * violation
        # the step changes the buffer in place, while the graph still needs the value of before
        multiplier = self.multiplier.clone()
        with torch.no_grad():
            shift = self._step(violation.detach(), self.elements(trace)) - violation
        return multiplier * (violation + shift)

    def nats(self, trace: Trace) -> Tensor:
        """Of the term."""
        return self.term.nats(trace)

    def elements(self, trace: Trace) -> int:
        """Of the term."""
        return self.term.elements(trace)

    def _step(self, violation: Tensor, elements: int) -> Tensor:
        """Take a violation into the average, move the multiplier by it, and return the average."""
        average = self.momentum * self.average + (1.0 - self.momentum) * violation
        self.average.copy_(torch.where(self.started > 0, average, violation))
        self.started.fill_(1.0)
        log_multiplier = self.multiplier.log() + self.rate * self.average / elements
        self.multiplier.copy_(log_multiplier.clamp(-_LARGEST_LOG_MULTIPLIER, _LARGEST_LOG_MULTIPLIER).exp())
        return self.average.clone()
