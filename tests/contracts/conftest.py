"""The parts under contract. A new part is a new line here; a public part without one fails `test_registers.py`."""

# K samples, B batch, *c context, *e event

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_expit
from scipy.stats import norm
from torch import Tensor
from torch.distributions import Independent
from torch.distributions import Normal as TorchNormal

from vaekit import schedules
from vaekit.conditionals import Conditional, Normal
from vaekit.distributions import Draw
from vaekit.likelihoods import Bernoulli, LearnedScaleNormal, OptimalScaleNormal
from vaekit.likelihoods import Normal as NormalLikelihood
from vaekit.models import Latent, Trace
from vaekit.networks import MLP, ConvDecoder, ConvEncoder
from vaekit.objectives import KL, MonteCarloKL, Reconstruction
from vaekit.priors import StandardNormal

SCALES = (1e-3, 0.1, 1.0, 30.0, 1e3)
NOISES = (-8.0, -1.0, 0.0, 0.3, 5.0)
Point = tuple[Conditional, list[float], float, float]


@dataclass(frozen=True)
class Part:
    """A conditional under contract.

    Attributes:
        make: From an event shape to the part, ready to be evaluated.
        log_density: scipy's, elementwise over the event, from context (*, *c) and x (*, *e); independent of our code.
        points: (part with event (1,), context, x, scipy's log-density) from the far ends of the parameters.
        binary: Its support is {0, 1}; the real line otherwise.
    """

    make: Callable[[Sequence[int]], Conditional]
    log_density: Callable[[np.ndarray, np.ndarray], np.ndarray]
    points: Callable[[], Iterator[Point]]
    binary: bool = False


def halves(context: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Log-density of a normal whose context is means, then log-variances, along the first dimension of the event."""
    event_dims = x.ndim - 2
    loc, log_variance = np.split(context, 2, axis=context.ndim - event_dims)
    return norm.logpdf(x, loc, np.exp(log_variance / 2))


def normal_points() -> Iterator[Point]:
    for loc, scale, noise in itertools.product((-1e3, -1.0, 0.0, 50.0), SCALES, NOISES):
        loc, log_variance = np.float32([loc, 2 * math.log(scale)]).tolist()
        x = float(np.float32(loc + noise * scale))
        yield Normal((1,)), [loc, log_variance], x, norm.logpdf(x, loc, math.exp(log_variance / 2))


def standard_points() -> Iterator[Point]:
    for x in np.float32([*NOISES, -1e3, 1e-6, 37.0]).tolist():
        yield StandardNormal((1,)), [], x, norm.logpdf(x)


def bernoulli_points() -> Iterator[Point]:
    for logit, x in itertools.product(np.linspace(-80.0, 80.0, 33).tolist(), (0.0, 1.0)):
        yield Bernoulli((1,)), [logit], x, log_expit(logit if x else -logit)


def shared_scale_points(make: Callable[[Sequence[int], float], Conditional]) -> Callable[[], Iterator[Point]]:
    def points() -> Iterator[Point]:
        for loc, scale, noise in itertools.product((-1.0, 0.0, 50.0), SCALES, NOISES):
            x = float(np.float32(loc + noise * scale))
            yield make((1,), scale), [loc], x, norm.logpdf(x, loc, scale)

    return points


def given(shape: Sequence[int], scale: float) -> NormalLikelihood:
    return NormalLikelihood(shape, scale=scale)


def learned(shape: Sequence[int], scale: float) -> LearnedScaleNormal:
    part = LearnedScaleNormal(shape, scale=2.0 * scale)
    with torch.no_grad():
        part.theta.fill_(math.log(0.5) / LearnedScaleNormal.GAIN)
    return part


def optimal(shape: Sequence[int], scale: float) -> OptimalScaleNormal:
    """After one training batch whose root mean square error is `scale`, and then set to evaluation."""
    part = OptimalScaleNormal(shape)
    px = part(torch.zeros(1, 2, *shape), model=None)
    part.adapt(px, torch.stack([torch.full(tuple(shape), scale), torch.full(tuple(shape), -scale)]))
    return part.eval()


def shared(make: Callable[[Sequence[int], float], Conditional]) -> Part:
    return Part(lambda shape: make(shape, 0.7), lambda c, x: norm.logpdf(x, c, 0.7), shared_scale_points(make))


CONDITIONALS = {"conditionals.Normal": Part(Normal, halves, normal_points)}
PRIORS = {"priors.StandardNormal": Part(StandardNormal, lambda c, x: norm.logpdf(x), standard_points)}
LIKELIHOODS = {
    "likelihoods.Bernoulli": Part(
        Bernoulli, lambda c, x: log_expit(np.where(x == 1, c, -c)), bernoulli_points, binary=True
    ),
    "likelihoods.Normal": shared(given),
    "likelihoods.LearnedScaleNormal": shared(learned),
    "likelihoods.OptimalScaleNormal": shared(optimal),
}


@dataclass(frozen=True)
class NetworkPart:
    """A network under contract: how it is made, small, and which of its two shapes must be an image."""

    make: Callable[[Sequence[int], Sequence[int]], torch.nn.Module]
    image_in: bool = False
    image_out: bool = False

    def shapes(self, image: tuple[int, ...], other: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Input and output shape for one image and one shape that may be anything."""
        return (other, image) if self.image_out else (image, other)


NETWORKS = {
    "networks.MLP": NetworkPart(lambda i, o: MLP(i, o, hidden_dims=(6, 5), activation="silu")),
    "networks.MLP without hidden layers": NetworkPart(lambda i, o: MLP(i, o, hidden_dims=())),
    "networks.ConvEncoder": NetworkPart(
        lambda i, o: ConvEncoder(i, o, channels=(3, 4), hidden_dim=6, activation="silu"), image_in=True
    ),
    "networks.ConvEncoder of three levels": NetworkPart(
        lambda i, o: ConvEncoder(i, o, channels=(2, 3, 2), hidden_dim=4, activation="elu"), image_in=True
    ),
    "networks.ConvDecoder": NetworkPart(
        lambda i, o: ConvDecoder(i, o, channels=(4, 3), hidden_dim=6, activation="silu"), image_out=True
    ),
    "networks.ConvDecoder of three levels": NetworkPart(
        lambda i, o: ConvDecoder(i, o, channels=(2, 3, 2), hidden_dim=4, activation="elu"), image_out=True
    ),
}

# from a term to what it must be for a trace of scalars: formulas of the numbers in `NormalNumbers`
TERMS = {"objectives.KL": KL, "objectives.MonteCarloKL": MonteCarloKL, "objectives.Reconstruction": Reconstruction}

SCHEDULES = {
    "schedules.Constant": lambda: schedules.Constant(0.3),
    "schedules.Linear": lambda: schedules.Linear(start=0.1, stop=1.0, steps=7),
    "schedules.Linear falling": lambda: schedules.Linear(start=2.0, stop=-1.0, steps=1000),
    "schedules.Cosine": lambda: schedules.Cosine(start=0.1, stop=1.0, steps=8),
    "schedules.Cosine falling": lambda: schedules.Cosine(start=2.0, stop=-1.0, steps=1000),
}


@pytest.fixture(scope="session")
def registers() -> dict[str, Any]:
    """All parts under contract, by public name and an optional remark."""
    return CONDITIONALS | PRIORS | LIKELIHOODS | NETWORKS | TERMS | SCHEDULES


def _parametrised(parts: dict[str, Any]) -> Any:
    @pytest.fixture(params=parts.values(), ids=parts.keys(), scope="module")
    def fixture(request: pytest.FixtureRequest) -> Any:
        return request.param

    return fixture


part = _parametrised(CONDITIONALS | PRIORS | LIKELIHOODS)
likelihood = _parametrised(LIKELIHOODS)
network = _parametrised(NETWORKS)
term = _parametrised(TERMS)
schedule = _parametrised(SCHEDULES)


def trace_of(x: Tensor, px_loc: Tensor, q_loc: Tensor, q_scale: Tensor, noise: Tensor) -> Trace:
    """A trace of normals written out by hand, without a model: x (B, *x); the others lead with (K, B)."""

    def normal(loc: Tensor, scale: Tensor) -> Independent:
        return Independent(TorchNormal(loc, scale, validate_args=False), loc.dim() - 2, validate_args=False)

    q, p = normal(q_loc, q_scale), normal(torch.zeros_like(q_loc), torch.ones_like(q_loc))
    value = q_loc + q_scale * noise
    latent = Latent("z", q, p, Draw(value, lambda: q.log_prob(value)))
    return Trace(x, normal(px_loc, torch.full_like(px_loc, 0.5)), (latent,))


@pytest.fixture(scope="session")
def make_trace() -> Callable[..., Trace]:
    return trace_of
