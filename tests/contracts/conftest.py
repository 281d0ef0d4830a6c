"""The parts under contract. A new part is a new line here; a public part without one fails `test_registers.py`."""

# K samples, B batch, *c context, *e event

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import log_expit
from scipy.stats import laplace, nbinom, norm, poisson
from torch import Tensor
from torch.distributions import Independent
from torch.distributions import Normal as TorchNormal

from vaekit import schedules
from vaekit.conditionals import BoundedNormal, Conditional, Normal
from vaekit.distributions import Draw
from vaekit.likelihoods import (
    Bernoulli,
    BernoulliFromMeans,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    GivenNegativeBinomial,
    GivenZeroInflatedNegativeBinomial,
    Laplace,
    LearnedScaleLaplace,
    LearnedScaleNormal,
    NegativeBinomial,
    OptimalScaleNormal,
    PixelLogistic,
    PixelNormal,
    Poisson,
    ZeroInflatedNegativeBinomial,
)
from vaekit.likelihoods import Normal as NormalLikelihood
from vaekit.models import Latent, Trace
from vaekit.networks import (
    MLP,
    ConvDecoder,
    ConvEncoder,
    Initialised,
    MapDecoder,
    MapEncoder,
    ResidualDecoder,
    ResidualEncoder,
    wide_decoder,
    wide_encoder,
)
from vaekit.objectives import (
    CIWAE,
    KL,
    MIWAE,
    PIWAE,
    Capacity,
    Constrained,
    DReG,
    FreeBits,
    ImportanceBound,
    LargestWeight,
    LatentL1,
    LatentL2,
    MonteCarloKL,
    PathKL,
    Reconstruction,
    RenyiBound,
    Term,
)
from vaekit.priors import Mixture, StandardNormal

SCALES = (1e-3, 0.1, 1.0, 30.0, 1e3)
NOISES = (-8.0, -1.0, 0.0, 0.3, 5.0)
Point = tuple[Conditional, list[Any], float, float]


@dataclass(frozen=True)
class Part:
    """A conditional under contract.

    Attributes:
        make: From an event shape to the part, ready to be evaluated.
        log_density: scipy's, elementwise over the event, from context (*, *c) and x (*, *e); independent of our code.
        points: (part with event (1,), context, x, scipy's log-density) from the far ends of the parameters.
        support: {0, 1}, the levels 0, 1/(M-1), ..., 1, the counts 0, 1, 2, ..., the interval [0, 1], or the real line.
        levels: M.
    """

    make: Callable[[Sequence[int]], Conditional]
    log_density: Callable[[np.ndarray, np.ndarray], np.ndarray]
    points: Callable[[], Iterator[Point]]
    support: Literal["binary", "levels", "counts", "unit", "real"] = "real"
    levels: int = 2

    @property
    def discrete(self) -> bool:
        """It gives probabilities to values."""
        return self.finite or self.support == "counts"

    @property
    def finite(self) -> bool:
        """It gives them to finitely many."""
        return self.support in ("binary", "levels")

    @property
    def atoms(self) -> Tensor:
        """The values of a discrete support; of counts all that have a probability worth the name."""
        return torch.linspace(0.0, 1.0, self.levels) if self.finite else torch.arange(50_000.0)

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Any values of the support."""
        if self.support == "counts":
            return torch.poisson(6.0 * torch.rand(*shape))
        if self.discrete:
            return self.atoms[torch.randint(0, self.levels, tuple(shape))]
        return torch.rand(*shape) if self.support == "unit" else 2.0 * torch.randn(*shape)


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


def bounded_halves(context: np.ndarray, x: np.ndarray) -> np.ndarray:
    event_dims = x.ndim - 2
    loc, log_variance = np.split(context, 2, axis=context.ndim - event_dims)
    return norm.logpdf(x, loc, np.exp(np.clip(log_variance, -1.0, 0.5) / 2))


def bounded_normal_points() -> Iterator[Point]:
    for loc, log_variance, noise in itertools.product((-1e3, 0.0, 50.0), (-1e4, -6.5, -3.0, 2.0, 2.5, 1e4), NOISES):
        x = float(np.float32(loc + noise))
        scale = math.exp(min(max(log_variance, -6.0), 2.0) / 2)
        yield BoundedNormal((1,)), [loc, log_variance], x, norm.logpdf(x, loc, scale)


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


def exact(log_density: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """Elementwise, with 60 digits inside."""

    def rounded(*numbers: float) -> float:
        with mpmath.workdps(60):
            return float(log_density(*map(mpmath.mpf, numbers)))

    return np.vectorize(rounded, otypes=[float])


def several(context: np.ndarray, x: np.ndarray, count: int) -> list[np.ndarray]:
    """The parameters of each value: they follow each other along the first dimension of the event."""
    return np.split(context, count, axis=context.ndim - (x.ndim - 2))


@exact
def continuous_bernoulli(eta: Any, x: Any) -> Any:
    return eta * x - (mpmath.log((mpmath.exp(eta) - 1) / eta) if eta else 0)


def logistic_mass(loc: Any, scale: Any, x: Any, levels: int) -> Any:
    """Of the interval around a level; the outermost reach to infinity."""
    level, half = mpmath.nint(x * (levels - 1)), mpmath.mpf(1) / (2 * (levels - 1))
    # a difference of upper tails above the centre and of lower tails below it: both are small there and keep their digits
    side = 1 if x > loc else -1
    ends = [-mpmath.inf if level == 0 else x - half, mpmath.inf if level == levels - 1 else x + half]
    below, above = (1 / (1 + mpmath.exp(side * (end - loc) / scale)) for end in ends)
    return side * (below - above)


def logistic(levels: int) -> Callable[..., np.ndarray]:
    return exact(lambda loc, scale, x: mpmath.log(logistic_mass(loc, scale, x, levels)))


def logistic_mixture(levels: int, components: int) -> Callable[..., np.ndarray]:
    def log_mass(*numbers: Any) -> Any:
        *parameters, x = numbers
        logits, locs, log_scales = (parameters[i * components : (i + 1) * components] for i in range(3))
        weights = [mpmath.exp(logit) for logit in logits]
        masses = [logistic_mass(loc, mpmath.exp(s), x, levels) for loc, s in zip(locs, log_scales, strict=True)]
        return mpmath.log(mpmath.fdot(weights, masses) / mpmath.fsum(weights))

    return exact(log_mass)


def softmax(levels: int) -> Callable[..., np.ndarray]:
    def log_mass(*numbers: Any) -> Any:
        *logits, x = numbers
        return logits[int(mpmath.nint(x * (levels - 1)))] - mpmath.log(mpmath.fsum(map(mpmath.exp, logits)))

    return exact(log_mass)


def float32s(*numbers: float) -> list[float]:
    return np.float32(numbers).tolist()


def continuous_bernoulli_points() -> Iterator[Point]:
    etas = [*np.linspace(-80.0, 80.0, 33), 0.0, 1e-30, -1e-8, 1e-4, -3e-3, 0.1, -0.49, 0.5, 0.51, 1.0, 300.0, -1e4, 1e8]
    for eta, x in itertools.product(float32s(*etas), float32s(0.0, 1e-6, 0.3, 0.5, 1.0)):
        yield ContinuousBernoulli((1,)), [eta], x, float(continuous_bernoulli(eta, x))


def laplace_points(make: Callable[[Sequence[int], float], Conditional]) -> Callable[[], Iterator[Point]]:
    def points() -> Iterator[Point]:
        for loc, scale, noise in itertools.product((-1.0, 0.0, 50.0), SCALES, NOISES):
            x = float(np.float32(loc + noise * scale))
            yield make((1,), scale), [loc], x, laplace.logpdf(x, loc, scale)

    return points


def pixel_normal_density(context: np.ndarray, x: np.ndarray) -> np.ndarray:
    loc, s = several(context, x, 2)
    return norm.logpdf(x, loc, np.sqrt(1e-6 + np.exp(s)))


def pixel_normal_points() -> Iterator[Point]:
    for loc, s, noise in itertools.product(
        (-1e3, -1.0, 0.0, 50.0), float32s(-1e3, -20.0, -14.0, -3.0, 0.0, 19.0), NOISES
    ):
        scale = math.sqrt(1e-6 + math.exp(max(s, -27.6)))
        x = float(np.float32(loc + noise * scale))
        yield PixelNormal((1,)), [loc, s], x, norm.logpdf(x, loc, scale)
    yield PixelNormal((1,)), [0.0, 1e4], 0.5, norm.logpdf(0.5, 0.0, math.exp(9.9))


def rounded_logistic(shape: Sequence[int], scale: float, levels: int = 5) -> DiscretizedLogistic:
    part = DiscretizedLogistic(shape, levels, scale=2.0 * scale)
    with torch.no_grad():
        part.theta.fill_(math.log(0.5) / DiscretizedLogistic.GAIN)
    return part


def logistic_points() -> Iterator[Point]:
    for levels, scale in itertools.product((2, 17, 256), (1e-3, 0.01, 0.1, 1.0, 1e3, 1e8)):
        values = float32s(0.0, 1 / (levels - 1), (levels // 2) / (levels - 1), 1.0)
        for loc, x in itertools.product(float32s(-80.0, -0.3, 0.0, 0.5, 0.51, 1.0, 40.0), values):
            part = rounded_logistic((1,), scale, levels)
            yield part, [loc], x, float(logistic(levels)(loc, scale, x))


def pixel_logistic(levels: int, low: float, high: float) -> Callable[..., np.ndarray]:
    def log_mass(logit: Any, s: Any, x: Any) -> Any:
        return mpmath.log(logistic_mass(1 / (1 + mpmath.exp(-logit)), mpmath.exp(min(max(s, low), high)), x, levels))

    return exact(log_mass)


def pixel_logistic_points() -> Iterator[Point]:
    density = pixel_logistic(256, -4.5, 0.0)
    for logit, s, x in itertools.product(
        float32s(-80.0, -0.3, 0.0, 4.0, 80.0),
        float32s(-1e4, -5.0, -4.0, -1.0, 0.0, 0.5, 1e4),
        float32s(0.0, 1 / 255, 128 / 255, 1.0),
    ):
        yield PixelLogistic((1,), 256), [logit, s], x, float(density(logit, s, x))


def logistic_mixture_points() -> Iterator[Point]:
    density = logistic_mixture(256, 2)
    for logit, loc, s, x in itertools.product(
        float32s(-80.0, 0.3, 80.0),
        float32s(-3.0, 0.5, 1.0),
        float32s(-6.0, -2.0, 5.0),
        float32s(0.0, 1 / 255, 128 / 255, 1.0),
    ):
        context = [logit, 0.0, loc, 0.25, s, -3.0]
        yield DiscretizedLogisticMixture((1,), 256, components=2), context, x, float(density(*context, x))


def categorical_points() -> Iterator[Point]:
    for logits, k in itertools.product(itertools.product((-80.0, 0.0, 3.0, 80.0), repeat=3), range(3)):
        yield Categorical((1,), 3), list(logits), k / 2, float(softmax(3)(*logits, k / 2))


def even_mixture(shape: Sequence[int]) -> Mixture:
    """Of three standard normals: elementwise what one of them is."""
    prior = Mixture(shape, components=3)
    with torch.no_grad():
        prior.loc.zero_()
    return prior


def mixture_points() -> Iterator[Point]:
    for x in np.float32([*NOISES, 1e-6, 37.0]).tolist():
        yield even_mixture((1,)), [], x, norm.logpdf(x)


def rows(context: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    """The parameters of counts: rows above the event."""
    return list(np.moveaxis(context, context.ndim - (x.ndim - 2) - 1, 0))


def negative_binomial(log_mean: np.ndarray, log_theta: Any, x: np.ndarray) -> np.ndarray:
    theta = np.exp(log_theta)
    return nbinom.logpmf(x, theta, theta / (theta + np.exp(log_mean)))


def zero_inflated(log_mean: np.ndarray, log_theta: Any, logits: np.ndarray, x: np.ndarray) -> np.ndarray:
    nats = negative_binomial(log_mean, log_theta, x) + log_expit(-logits)
    return np.where(x == 0, np.logaddexp(log_expit(logits), nats), nats)


@exact
def exact_poisson(m: Any, x: Any) -> Any:
    return x * m - mpmath.exp(m) - mpmath.loggamma(x + 1)


def negative_binomial_mass(m: Any, t: Any, x: Any) -> Any:
    mu, theta = mpmath.exp(m), mpmath.exp(t)
    chosen = mpmath.loggamma(x + theta) - mpmath.loggamma(theta) - mpmath.loggamma(x + 1)
    return chosen - theta * mpmath.log1p(mu / theta) + x * (m - mpmath.log(theta + mu))


exact_negative_binomial = exact(negative_binomial_mass)


@exact
def exact_zero_inflated(m: Any, t: Any, logit: Any, x: Any) -> Any:
    pi = 1 / (1 + mpmath.exp(-logit))
    kept = mpmath.log(1 - pi) + negative_binomial_mass(m, t, x)
    return mpmath.log(pi + mpmath.exp(kept)) if x == 0 else kept


LOG_MEANS = float32s(-18.42, -4.0, 0.0, 3.5, 18.42)
LOG_THETAS = (-18.0, -2.0, 0.75, 5.0, 18.0, 40.0)
SOME_COUNTS = (0.0, 1.0, 7.0, 1000.0, 1e8)


def dispersed(make: Callable[..., Conditional], log_theta: float) -> Conditional:
    """With this dispersion, exactly."""
    part = make((1,))
    part.log_theta.data.fill_(log_theta)
    return part


def poisson_points() -> Iterator[Point]:
    for m, x in itertools.product(LOG_MEANS, SOME_COUNTS):
        yield Poisson((1,)), [[m]], x, float(exact_poisson(m, x))


def negative_binomial_points() -> Iterator[Point]:
    for m, t, x in itertools.product(LOG_MEANS, LOG_THETAS, SOME_COUNTS):
        yield dispersed(NegativeBinomial, t), [[m]], x, float(exact_negative_binomial(m, t, x))


def given_negative_binomial_points() -> Iterator[Point]:
    for m, t, x in itertools.product(LOG_MEANS, LOG_THETAS, SOME_COUNTS):
        yield GivenNegativeBinomial((1,)), [[m], [t]], x, float(exact_negative_binomial(m, t, x))


def zero_inflated_points() -> Iterator[Point]:
    for m, t, logit, x in itertools.product(LOG_MEANS[::2], LOG_THETAS[::2], (-80.0, -1.5, 3.0, 80.0), SOME_COUNTS):
        expected = float(exact_zero_inflated(m, t, logit, x))
        yield dispersed(ZeroInflatedNegativeBinomial, t), [[m], [logit]], x, expected


def given_zero_inflated_points() -> Iterator[Point]:
    for m, t, logit, x in itertools.product(LOG_MEANS[::2], LOG_THETAS[::2], (-80.0, -1.5, 3.0, 80.0), SOME_COUNTS):
        expected = float(exact_zero_inflated(m, t, logit, x))
        yield GivenZeroInflatedNegativeBinomial((1,)), [[m], [logit], [t]], x, expected


CONDITIONALS = {
    "conditionals.Normal": Part(Normal, halves, normal_points),
    "conditionals.BoundedNormal": Part(
        lambda shape: BoundedNormal(shape, low=-1.0, high=0.5), bounded_halves, bounded_normal_points
    ),
}
PRIORS = {
    "priors.StandardNormal": Part(StandardNormal, lambda c, x: norm.logpdf(x), standard_points),
    "priors.Mixture": Part(even_mixture, lambda c, x: norm.logpdf(x), mixture_points),
}
LIKELIHOODS = {
    "likelihoods.Bernoulli": Part(
        Bernoulli, lambda c, x: log_expit(np.where(x == 1, c, -c)), bernoulli_points, "binary"
    ),
    "likelihoods.BernoulliFromMeans": Part(
        BernoulliFromMeans, lambda c, x: log_expit(np.where(x == 1, c, -c)), bernoulli_points, "binary"
    ),
    "likelihoods.Normal": shared(given),
    "likelihoods.LearnedScaleNormal": shared(learned),
    "likelihoods.OptimalScaleNormal": shared(optimal),
    "likelihoods.PixelNormal": Part(PixelNormal, pixel_normal_density, pixel_normal_points),
    "likelihoods.Laplace": Part(
        lambda shape: Laplace(shape, scale=0.7), lambda c, x: laplace.logpdf(x, c, 0.7), laplace_points(Laplace)
    ),
    "likelihoods.LearnedScaleLaplace": Part(
        lambda shape: LearnedScaleLaplace(shape, scale=0.7),
        lambda c, x: laplace.logpdf(x, c, 0.7),
        laplace_points(LearnedScaleLaplace),
    ),
    "likelihoods.ContinuousBernoulli": Part(
        ContinuousBernoulli, continuous_bernoulli, continuous_bernoulli_points, "unit"
    ),
    "likelihoods.DiscretizedLogistic": Part(
        lambda shape: rounded_logistic(shape, 0.3),
        lambda c, x: logistic(5)(c, 0.3, x),
        logistic_points,
        "levels",
        levels=5,
    ),
    "likelihoods.DiscretizedLogistic of two levels": Part(
        lambda shape: rounded_logistic(shape, 0.3, 2), lambda c, x: logistic(2)(c, 0.3, x), logistic_points, "levels"
    ),
    "likelihoods.DiscretizedLogisticMixture": Part(
        lambda shape: DiscretizedLogisticMixture(shape, 4, components=3),
        lambda c, x: logistic_mixture(4, 3)(*several(c, x, 9), x),
        logistic_mixture_points,
        "levels",
        levels=4,
    ),
    "likelihoods.PixelLogistic": Part(
        lambda shape: PixelLogistic(shape, 4, low=-1.0, high=0.5),
        lambda c, x: pixel_logistic(4, -1.0, 0.5)(*several(c, x, 2), x),
        pixel_logistic_points,
        "levels",
        levels=4,
    ),
    "likelihoods.Poisson": Part(Poisson, lambda c, x: poisson.logpmf(x, np.exp(*rows(c, x))), poisson_points, "counts"),
    "likelihoods.NegativeBinomial": Part(
        lambda shape: NegativeBinomial(shape, theta=0.7),
        lambda c, x: negative_binomial(*rows(c, x), math.log(0.7), x),
        negative_binomial_points,
        "counts",
    ),
    "likelihoods.GivenNegativeBinomial": Part(
        GivenNegativeBinomial,
        lambda c, x: negative_binomial(*rows(c, x), x),
        given_negative_binomial_points,
        "counts",
    ),
    "likelihoods.ZeroInflatedNegativeBinomial": Part(
        lambda shape: ZeroInflatedNegativeBinomial(shape, theta=0.7),
        lambda c, x: zero_inflated(rows(c, x)[0], math.log(0.7), rows(c, x)[1], x),
        zero_inflated_points,
        "counts",
    ),
    "likelihoods.GivenZeroInflatedNegativeBinomial": Part(
        GivenZeroInflatedNegativeBinomial,
        lambda c, x: zero_inflated(rows(c, x)[0], rows(c, x)[2], rows(c, x)[1], x),
        given_zero_inflated_points,
        "counts",
    ),
    "likelihoods.Categorical": Part(
        lambda shape: Categorical(shape, 3),
        lambda c, x: softmax(3)(*several(c, x, 3), x),
        categorical_points,
        "levels",
        levels=3,
    ),
}


@dataclass(frozen=True)
class NetworkPart:
    """A network under contract: how it is made, small, and which of its two shapes must be an image.

    With `halved` the other shape is a map: an image of the same sides, halved so many times.
    """

    make: Callable[[Sequence[int], Sequence[int]], torch.nn.Module]
    image_in: bool = False
    image_out: bool = False
    halved: int | None = None

    def shapes(self, image: tuple[int, ...], other: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Input and output shape for one image and one shape that may be anything."""
        if self.halved is not None:
            other = (math.prod(other), *(-(-side // 2**self.halved) for side in image[1:]))
        return (other, image) if self.image_out else (image, other)


def seasoned(network: torch.nn.Module) -> torch.nn.Module:
    """In evaluation, with running averages that are not those of a fresh network."""
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2.0)
            assert name.endswith(("running_mean", "running_var"))
    return network.eval()


NETWORKS = {
    "networks.MLP": NetworkPart(lambda i, o: MLP(i, o, hidden_dims=(6, 5), activation="silu")),
    "networks.MLP without hidden layers": NetworkPart(lambda i, o: MLP(i, o, hidden_dims=())),
    "networks.MLP with batch norm": NetworkPart(
        lambda i, o: seasoned(MLP(i, o, hidden_dims=(6, 5), activation="tanh", norm="batch", dropout=0.4))
    ),
    "networks.MLP with layer norm": NetworkPart(
        lambda i, o: MLP(i, o, hidden_dims=(6, 5), activation="gelu", norm="layer")
    ),
    "networks.MLP with swiglu": NetworkPart(lambda i, o: MLP(i, o, hidden_dims=(6, 5), activation="swiglu")),
    "networks.MLP with glu": NetworkPart(lambda i, o: MLP(i, o, hidden_dims=(6, 5), activation="glu")),
    "networks.Initialised": NetworkPart(
        lambda i, o: Initialised(i, o, lambda in_shape, out_shape: MLP(in_shape, out_shape, (6, 5), "tanh"), "he")
    ),
    "networks.wide_encoder": NetworkPart(lambda i, o: wide_encoder(i, o, (7, 5), "gelu")),
    "networks.wide_decoder": NetworkPart(
        lambda i, o: seasoned(wide_decoder(i, o, (7, 5), "tanh", use_batch_norm=True))
    ),
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
    "networks.ConvEncoder with batch norm": NetworkPart(
        lambda i, o: seasoned(ConvEncoder(i, o, channels=(3,), hidden_dim=4, activation="silu", norm="batch")),
        image_in=True,
    ),
    "networks.ConvDecoder with layer norm": NetworkPart(
        lambda i, o: ConvDecoder(i, o, channels=(3,), hidden_dim=4, activation="silu", norm="layer"), image_out=True
    ),
    "networks.ResidualEncoder": NetworkPart(
        lambda i, o: ResidualEncoder(i, o, channels=(3, 4), hidden_dim=6, activation="silu"), image_in=True
    ),
    "networks.ResidualEncoder of two blocks": NetworkPart(
        lambda i, o: seasoned(ResidualEncoder(i, o, (3, 4), blocks=2, hidden_dim=6, activation="elu", norm="batch")),
        image_in=True,
    ),
    "networks.ResidualDecoder": NetworkPart(
        lambda i, o: ResidualDecoder(i, o, channels=(4, 3), hidden_dim=6, activation="silu"), image_out=True
    ),
    "networks.ResidualDecoder of two blocks": NetworkPart(
        lambda i, o: ResidualDecoder(i, o, (4, 3), blocks=2, hidden_dim=6, activation="elu", norm="layer"),
        image_out=True,
    ),
    "networks.MapEncoder": NetworkPart(
        lambda i, o: MapEncoder(i, o, hidden_channels=3, activation="silu"), image_in=True, halved=2
    ),
    "networks.MapEncoder without halvings": NetworkPart(
        lambda i, o: MapEncoder(i, o, hidden_channels=3, residual_blocks=0, activation="elu"), image_in=True, halved=0
    ),
    "networks.MapDecoder": NetworkPart(
        lambda i, o: MapDecoder(i, o, hidden_channels=3, activation="silu"), image_out=True, halved=2
    ),
    "networks.MapDecoder without halvings": NetworkPart(
        lambda i, o: MapDecoder(i, o, hidden_channels=3, residual_blocks=0, activation="elu"), image_out=True, halved=0
    ),
}


@dataclass(frozen=True)
class TermPart:
    """A term under contract.

    Attributes:
        make: The term.
        by_hand: Its nats for x = 1, p(x|z) = N(0.4, 0.5^2), q = N(2, 0.1^2), p = N(0, 1), z = 2 + 0.1 * 3.
        elements: What it sums over, from the values of an example and the latent dimensions.
        alone: It gives a number for each example, which sees no other one; a number for the batch otherwise.
        averaged: It is a mean over the K samples.
        empirical: It knows the batch only as a distribution: a batch that stands there twice is the same batch.
        extensive: Independent copies of data and latents add up.
        surrogate: Its gradient has the mean of that of the bound, and is not that of the number of these draws.
    """

    make: Callable[[], Term]
    by_hand: float
    elements: Callable[[int, int], int]
    alone: bool = True
    averaged: bool = True
    empirical: bool = True
    extensive: bool = True
    surrogate: bool = False


def bound(make: Callable[[], Term], surrogate: bool = False) -> TermPart:
    return TermPart(make, _RECONSTRUCTION + _LOG_RATIO, values, averaged=False, extensive=False, surrogate=surrogate)


def values(D: int, L: int) -> int:
    return D


def dimensions(D: int, L: int) -> int:
    return L


_RECONSTRUCTION = 0.6**2 / (2 * 0.25) + math.log(0.5) + 0.5 * math.log(2 * math.pi)
_KL = 0.5 * (4.0 + 0.01 - 1.0) - math.log(0.1)
_LOG_RATIO = -0.5 * 9.0 - math.log(0.1) + 0.5 * 2.3**2

TERMS = {
    "objectives.KL": TermPart(KL, _KL, dimensions),
    "objectives.MonteCarloKL": TermPart(MonteCarloKL, _LOG_RATIO, dimensions),
    "objectives.Reconstruction": TermPart(Reconstruction, _RECONSTRUCTION, values),
    "objectives.ImportanceBound": TermPart(
        ImportanceBound, _RECONSTRUCTION + _LOG_RATIO, values, averaged=False, extensive=False
    ),
    "objectives.PathKL": TermPart(PathKL, _LOG_RATIO, dimensions, surrogate=True),
    "objectives.DReG": bound(DReG, surrogate=True),
    "objectives.MIWAE": bound(lambda: MIWAE(1)),
    "objectives.CIWAE": bound(lambda: CIWAE(0.3)),
    "objectives.PIWAE": bound(lambda: PIWAE(1), surrogate=True),
    "objectives.RenyiBound": bound(lambda: RenyiBound(0.5)),
    "objectives.RenyiBound above 1": bound(lambda: RenyiBound(2.0)),
    "objectives.LargestWeight": bound(LargestWeight),
    "objectives.LatentL2": TermPart(LatentL2, 0.5 * 2.3**2, dimensions),
    "objectives.LatentL1": TermPart(LatentL1, 2.3, dimensions),
    "objectives.FreeBits": TermPart(lambda: FreeBits(0.7), _KL, dimensions, alone=False),
    "objectives.FreeBits under the floor": TermPart(lambda: FreeBits(9.0), 9.0, dimensions, alone=False),
    "objectives.Capacity above": TermPart(
        lambda: Capacity(KL(), 6.0), 6.0 - _KL, dimensions, alone=False, extensive=False
    ),
    "objectives.Capacity below": TermPart(
        lambda: Capacity(KL(), 1.0), _KL - 1.0, dimensions, alone=False, extensive=False
    ),
    "objectives.Constrained": TermPart(
        lambda: Constrained(Reconstruction(), 0.25).eval(), _RECONSTRUCTION - 0.25, values, alone=False, extensive=False
    ),
}

# terms of the decoder rather than of the trace's numbers: tests/objectives/test_penalties.py has what is true of them
DECODER_TERMS = {"objectives.DecoderGradient": None, "objectives.DecoderWeights": None}
# a point has no density: tests/conditionals/test_delta.py has what is true of it
POINTS = {"conditionals.Delta": None}
# over codes and categories: tests/distributions/test_quantized.py and test_relaxed.py, tests/conditionals/test_quantized.py and
# tests/objectives/test_codebook.py; asking the model, or fitted after it: tests/priors/. They have what is true of them
DISCRETE = dict.fromkeys(
    [
        "conditionals.Quantized", "conditionals.RelaxedCategorical", "priors.UniformCategorical", "priors.UniformCodes",
        "objectives.Penalty",
    ]
)  # fmt: skip
AFTERWARDS = dict.fromkeys(
    ["priors.Vamp", "priors.FittedAutoregressive", "priors.FittedFlow", "priors.FittedMixture", "priors.FittedNormal"]
)
# networks of squares that open by the step or want a context, and a density over several resolutions: tests/networks/
# test_growing.py and test_condition.py, and tests/models/test_residual.py, have what is true of them
GROWING = dict.fromkeys(
    ("networks.Conditioned", "networks.GrowingDecoder", "networks.GrowingEncoder", "likelihoods.Pyramid")
)
# networks of counts want a context, or no negative numbers: tests/networks/test_counts.py has what is true of them
COUNTED = dict.fromkeys(
    (
        *("networks.BatchDispersion", "networks.Compositional"),
        *("networks.LatentCompositional", "networks.LogCounts"),
    )
)

SCHEDULES = {
    "schedules.Constant": lambda: schedules.Constant(0.3),
    "schedules.Linear": lambda: schedules.Linear(start=0.1, stop=1.0, steps=7),
    "schedules.Linear falling": lambda: schedules.Linear(start=2.0, stop=-1.0, steps=1000),
    "schedules.Cosine": lambda: schedules.Cosine(start=0.1, stop=1.0, steps=8),
    "schedules.Cosine falling": lambda: schedules.Cosine(start=2.0, stop=-1.0, steps=1000),
    "schedules.Cyclical": lambda: schedules.Cyclical(start=0.1, stop=1.0, steps=40),
    "schedules.Cyclical uneven": lambda: schedules.Cyclical(start=1.0, stop=0.3, steps=37, cycles=3, rising=0.3),
    "schedules.Cyclical saw": lambda: schedules.Cyclical(start=0.0, stop=1.0, steps=1000, cycles=7, rising=1.0),
    "schedules.Exponential": lambda: schedules.Exponential(start=1.0, stop=0.5, steps=7),
    "schedules.Exponential rising": lambda: schedules.Exponential(start=1e-6, stop=3.0, steps=1000),
    "schedules.Piecewise": lambda: schedules.Piecewise(knots=[(3, 0.25), (5, 1.0), (9, 0.5)]),
    "schedules.Piecewise with a flat end": lambda: schedules.Piecewise(
        knots=[(0, 0.2), (6, 1.0), (800, 1.0), (1000, 1.0)]
    ),
    "schedules.Staircase": lambda: schedules.Staircase(knots=[(0, 1.0), (4, 0.5), (9, 0.1)]),
    "schedules.Staircase late": lambda: schedules.Staircase(knots=[(3, 0.25), (1000, 1.0), (2000, 1.0)]),
    "schedules.InEpochs": lambda: schedules.InEpochs(schedules.Linear(start=0.1, stop=1.0, steps=3), steps_per_epoch=7),
    "schedules.InEpochs of a cosine": lambda: schedules.InEpochs(
        schedules.Cosine(start=0.1, stop=1.0, steps=10), steps_per_epoch=100
    ),
}


# its events are rows of tables alone: tests/likelihoods/test_columns.py
TABULAR = dict.fromkeys(("likelihoods.Columns",))


@pytest.fixture(scope="session")
def registers() -> dict[str, Any]:
    """All parts under contract, by public name and an optional remark."""
    elsewhere = DECODER_TERMS | POINTS | GROWING | DISCRETE | AFTERWARDS | COUNTED | TABULAR
    return CONDITIONALS | PRIORS | LIKELIHOODS | NETWORKS | TERMS | SCHEDULES | elsewhere


def _parametrised(parts: dict[str, Any]) -> Any:
    @pytest.fixture(params=parts.values(), ids=parts.keys(), scope="module")
    def fixture(request: pytest.FixtureRequest) -> Any:
        return request.param

    return fixture


part = _parametrised(CONDITIONALS | PRIORS | LIKELIHOODS)
likelihood = _parametrised(LIKELIHOODS)
network = _parametrised(NETWORKS)
term = _parametrised(TERMS)
lone_term = _parametrised({name: entry for name, entry in TERMS.items() if entry.alone})
plain_term = _parametrised({name: entry for name, entry in TERMS.items() if not entry.surrogate})
averaged_term = _parametrised({name: entry for name, entry in TERMS.items() if entry.averaged})
empirical_term = _parametrised({name: entry for name, entry in TERMS.items() if entry.empirical})
extensive_term = _parametrised({name: entry for name, entry in TERMS.items() if entry.extensive})
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
