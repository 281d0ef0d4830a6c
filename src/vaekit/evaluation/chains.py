"""Chains of annealed importance sampling: the densities on their way, and the Hamiltonian transitions between these."""

# C chains, B batch, L dimensions of all latents side by side, T temperatures

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.distributions.draw import Draw, draw
from vaekit.distributions.noise import PerExample, use
from vaekit.errors import ConfigError
from vaekit.math.hamiltonian import propose
from vaekit.models.vae import VAE
from vaekit.networks.residual import whole_gradient

# where the noise of each part of it begins; its transitions draw after all draws of the latents
TUNING, FORWARD, SIMULATED, REVERSE = (number << 20 for number in (64, 65, 66, 67))
_TRANSITIONS = 1 << 12
# chains of an example in the run that finds the step sizes
TUNERS = 4
# transitions at the first temperature of that run, at least so many in all, and how fast step sizes follow the acceptance
_WARM_UP, _SHORT, _RATE = 50, 100, 0.3
# the optimum of Hamiltonian Monte Carlo in many dimensions (Neal, 2011, section 5.4.4), and what the papers take
ACCEPTANCE = 0.65
# values of p(x|z) at a time: what memory bears
_VALUES = 1 << 22


@dataclass(frozen=True)
class Annealing:
    """How chains go from a density that can be drawn from to p(x, z).

    Arguments:
        chains: For each example, C.
        steps: Temperatures after the first, T; 1 is plain importance sampling.
        leapfrog: Steps of each trajectory.
        start: From p(z), which asks nothing of the encoder, or from q(z|x), which has far less of a way to go.
    """

    chains: int = 16
    steps: int = 500
    leapfrog: int = 10
    start: Literal["prior", "posterior"] = "posterior"

    def __post_init__(self) -> None:
        for name in ("chains", "steps", "leapfrog"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected 1 or more.")
        if self.steps > (1 << 20) - _TRANSITIONS - _WARM_UP:
            raise ConfigError(f"steps is {self.steps}, expected a million or fewer.")
        if self.start not in PATHS:
            raise ConfigError(f"start is {self.start!r}, expected one of {', '.join(PATHS)}.")

    @property
    def words(self) -> str:
        """For the estimator of a number."""
        return (
            f"{self.chains} chains from {PATHS[self.start].name} over {self.steps} temperatures, Hamiltonian transitions of "
            f"{self.leapfrog} leapfrog steps"
        )


def schedule(steps: int, steepness: float = 4.0) -> list[float]:
    r"""T + 1 temperatures from 0 to 1, close together at both ends, where the target changes fastest.

    .. math:: \beta_t = \frac{\tilde\beta_t - \tilde\beta_0}{\tilde\beta_T - \tilde\beta_0}, \qquad
        \tilde\beta_t = \mathrm{sigmoid}\left(\delta \left(\tfrac{2t}{T} - 1\right)\right)

    Arguments:
        steps: T.
        steepness: :math:`\delta`.

    References:
        | Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse, Ghahramani and Adams, 2015), section 6
        | https://arxiv.org/abs/1511.02543
    """
    raw = [1.0 / (1.0 + math.exp(-steepness * (2.0 * t / steps - 1.0))) for t in range(steps + 1)]
    return [(value - raw[0]) / (raw[-1] - raw[0]) for value in raw]


@dataclass(frozen=True)
class Point:
    """Where chains stand, and what both ends of their path say there.

    Attributes:
        z: (C, B, L).
        values: Of the two log-densities that make up the path, (2, C, B).
        gradients: Theirs, (2, C, B, L).
        weights: Of the two, at the present temperature.
    """

    z: Tensor
    values: Tensor
    gradients: Tensor
    weights: tuple[float, float]

    @property
    def potential(self) -> Tensor:
        """Negative log-density at the present temperature, (C, B)."""
        return -(self.weights[0] * self.values[0] + self.weights[1] * self.values[1])

    @property
    def gradient(self) -> Tensor:
        """Of the potential, (C, B, L)."""
        return -(self.weights[0] * self.gradients[0] + self.weights[1] * self.gradients[1])

    def where(self, accepted: Tensor, other: Point) -> Point:
        """This point for chains that are `accepted`, (C, B), and the other for the rest."""
        return Point(
            torch.where(accepted[..., None], self.z, other.z),
            torch.where(accepted, self.values, other.values),
            torch.where(accepted[..., None], self.gradients, other.gradients),
            self.weights,
        )


class Path(ABC):
    """The densities between a start and p(x, z), all of them weighted sums of two log-densities.

    Arguments:
        model: In evaluation mode; none of its parameters asks for a gradient.
        x: (B, *x).
        context: What these are conditioned on.
    """

    name: ClassVar[str]

    def __init__(self, model: VAE, x: Tensor, context: Tensor | None) -> None:
        self.model, self.x, self.context = model, x, context

    @property
    @abstractmethod
    def scale(self) -> Tensor:
        """Of a step in each dimension of each example, broadcasts with (B, L)."""

    @abstractmethod
    def start(self) -> Tensor:
        """A draw from the first density, (1, B, L), with vaekit's noise."""

    @abstractmethod
    def weights(self, temperature: float) -> tuple[float, float]:
        """Of the two log-densities."""

    @abstractmethod
    def densities(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The two log-densities of z, (C, B, L): each (C, B)."""

    def at(self, z: Tensor, temperature: float) -> Point:
        """What there is to know at z."""
        with torch.enable_grad(), whole_gradient():
            z = z.detach().requires_grad_()
            values = self.densities(z)
            gradients = [
                torch.autograd.grad(value.sum(), z, retain_graph=first, allow_unused=True, materialize_grads=True)[0]
                for value, first in zip(values, (True, False), strict=True)
            ]
        weights = self.weights(temperature)
        return Point(z.detach(), torch.stack([value.detach() for value in values]), torch.stack(gradients), weights)


class FromPrior(Path):
    """p(z) p(x|z)^b. Nothing is asked of the encoder."""

    name = "the prior"

    @property
    def scale(self) -> Tensor:
        """1."""
        return self.x.new_ones(())

    def start(self) -> Tensor:
        """A draw from the prior."""
        return prior_draw(self.model, len(self.x))

    def weights(self, temperature: float) -> tuple[float, float]:
        """Of the prior and of the likelihood."""
        return 1.0, temperature

    def densities(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Of the prior and of the likelihood."""
        log_p, px = self.model.prior_and_likelihood(z, self.context)
        return log_p, px.log_prob(self.x)


class FromPosterior(Path):
    """q(z|x)^(1-b) p(x, z)^b. Steps are measured in standard deviations of q."""

    name = "q(z|x)"

    def __init__(self, model: VAE, x: Tensor, context: Tensor | None) -> None:
        super().__init__(model, x, context)
        self._features = model.features(x, 1, context)
        self._scale = model.encode_scale(x, context)

    @property
    def scale(self) -> Tensor:
        """Standard deviations of q, (B, L)."""
        return self._scale

    def start(self) -> Tensor:
        """A draw from q."""
        latents, _ = self.model.hierarchy.infer(self._features, self.model)
        return torch.cat([latent.draw.value.flatten(2) for latent in latents], -1)

    def weights(self, temperature: float) -> tuple[float, float]:
        """Of q and of the joint density."""
        return 1.0 - temperature, temperature

    def densities(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Of q and of the joint density."""
        features = self._features.expand(len(z), *self._features.shape[1:])
        trace = self.model.trace_at(self.x, z, self.context, features)
        log_q = torch.stack([latent.log_q for latent in trace.latents]).sum(0)
        return log_q, trace.log_w + log_q


PATHS: dict[str, type[Path]] = {"prior": FromPrior, "posterior": FromPosterior}


class Sampler:
    """The chains of a batch. Each has noise of its own, so they can be run a few at a time.

    Arguments:
        model: In evaluation mode, float64; none of its parameters asks for a gradient.
        x: (B, *x), float64.
        context: What these are conditioned on.
        annealing: How.
        seed: Of all noise.
        index: Positions of the examples in their split, (B,).
    """

    def __init__(
        self, model: VAE, x: Tensor, context: Tensor | None, annealing: Annealing, seed: int, index: Tensor
    ) -> None:
        self.annealing, self.seed, self.index = annealing, seed, index
        self.path = PATHS[annealing.start](model, x, context)
        self.temperatures = schedule(annealing.steps)
        self.at_once = max(1, _VALUES // x.numel())

    def tuned(self) -> Tensor:
        """Step sizes for each temperature between the ends, (T - 1, B), from a run with noise of its own.

        The acceptance is aimed at in the mean over the chains of each example alone.
        """
        chains = min(TUNERS, self.at_once)
        noise = self._noise(TUNING, 0)
        log_size = self.path.scale.new_full((len(self.index),), math.log(0.5))
        sizes = []
        point = self._started(TUNING, range(chains))
        inside = self.temperatures[1:-1]
        repeats = -(-_SHORT // self.annealing.steps)
        for number, temperature in enumerate(inside):
            for _ in range(_WARM_UP if number == 0 else repeats):
                point, probability = self._moved(point, temperature, log_size.exp(), noise)
                log_size = log_size + _RATE * (probability.mean(0) - ACCEPTANCE)
            sizes.append(log_size.exp())
        return torch.stack(sizes) if sizes else log_size.new_zeros((0, len(self.index)))

    def forward(self, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Log-weights of chains from the start to p(x, z), (C, B), and their mean acceptance, (B,)."""
        return self._weighed(FORWARD, self.temperatures, sizes, None)

    def reverse(self, z: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Log-weights of chains from draws z of the posterior, (1, B, L), to the start, (C, B), and their mean acceptance, (B,)."""
        return self._weighed(REVERSE, self.temperatures[::-1], sizes.flip(0), z)

    def _weighed(
        self, stream: int, temperatures: Sequence[float], sizes: Tensor, z: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        log_w, accepted = [], []
        for first in range(0, self.annealing.chains, self.at_once):
            chains = range(first, min(first + self.at_once, self.annealing.chains))
            if z is None:
                point = self._started(stream, chains)
            else:
                point = self.path.at(z.expand(len(chains), *z.shape[1:]), temperatures[0])
            weighed, probability = self._annealed(point, temperatures, sizes, self._noise(stream, first))
            log_w.append(weighed)
            accepted.append(probability)
        return torch.cat(log_w), torch.cat(accepted).mean(0)

    def _annealed(
        self, point: Point, temperatures: Sequence[float], sizes: Tensor, noise: PerExample
    ) -> tuple[Tensor, Tensor]:
        """Log-weights, and mean probabilities of acceptance, both (C, B), of chains through all temperatures."""
        log_w = -point.potential.new_zeros(point.potential.shape)
        accepted = torch.zeros_like(log_w)
        for number, temperature in enumerate(temperatures[1:]):
            there = replace(point, weights=self.path.weights(temperature))
            log_w = log_w + _change(point, there)
            if number < len(sizes):
                point, probability = self._moved(there, temperature, sizes[number], noise)
                accepted = accepted + probability / len(sizes)
        return log_w, accepted if len(sizes) else torch.full_like(log_w, math.nan)

    def _moved(self, point: Point, temperature: float, size: Tensor, noise: PerExample) -> tuple[Point, Tensor]:
        """A transition that leaves the density at this temperature invariant, and its probability of acceptance, (C, B)."""
        dimensions = point.z.shape[-1]
        u = noise.uniform(torch.Size([*point.z.shape[:2], dimensions + 2])).to(point.z)
        momentum = torch.special.ndtri(u[..., :dimensions])
        # drawn anew, as a trajectory of fixed length can be a whole period of a nearly normal target
        step = size * (0.8 + 0.4 * u[..., dimensions])
        here = replace(point, weights=self.path.weights(temperature))
        proposal = propose(
            lambda z: self.path.at(z, temperature),
            here,
            momentum,
            step[..., None] * self.path.scale,
            self.annealing.leapfrog,
        )
        accepted = u[..., dimensions + 1].log() < proposal.log_probability
        return proposal.position.where(accepted, here), proposal.log_probability.exp()

    def _started(self, stream: int, chains: range) -> Point:
        starts = []
        for chain in chains:
            with use(PerExample(self.seed, self.index, first_sample=chain, stream=stream)):
                starts.append(self.path.start())
        return self.path.at(torch.cat(starts), 0.0)

    def _noise(self, stream: int, first: int) -> PerExample:
        return PerExample(self.seed, self.index, first_sample=first, stream=stream + _TRANSITIONS)


def _change(before: Point, after: Point) -> Tensor:
    """log of the density after over that before, at the same place. -inf stays, and is no nan where a weight is 0."""
    change = torch.zeros_like(before.values[0])
    for value, old, new in zip(before.values, before.weights, after.weights, strict=True):
        if new != old:
            change = change + (new - old) * value
    return change


def prior_draw(model: VAE, count: int) -> Tensor:
    """Draws of all latents from the prior, side by side in ancestral order, (1, B, L)."""
    values: list[Tensor] = []

    def recorded(p: Distribution) -> Draw:
        drawn = draw(p)
        values.append(drawn.value.flatten(2))
        return drawn

    model.hierarchy.generate(model.blank(count), model, recorded)
    return torch.cat(values, -1)
