"""How much signal there is in the noise of a gradient, by the number of draws K, for encoder and decoder."""

# n draws of a gradient, P parameters, G groups, K samples, B batch

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.data.batch import Batch, Split
from vaekit.distributions.noise import PerExample, use
from vaekit.errors import ConfigError, closest
from vaekit.evaluation.each import Ledger, Tell
from vaekit.evaluation.passes import Plan, examples, measuring
from vaekit.evaluation.units import Estimate
from vaekit.math.jackknife import jackknife_error, left_out
from vaekit.models.trace import Trace
from vaekit.models.vae import VAE
from vaekit.objectives import KL, DReG, ImportanceBound, MonteCarloKL, PathKL, Reconstruction, Term

# minus the bound whose gradient is measured, as the sum of these terms
ESTIMATORS: dict[str, tuple[Callable[[], Term], ...]] = {
    "elbo": (Reconstruction, KL),
    "mc": (Reconstruction, MonteCarloKL),
    "stl": (Reconstruction, PathKL),
    "iwae": (ImportanceBound,),
    "dreg": (DReG,),
}
WORDS = {
    "elbo": "ELBO, its KL in closed form",
    "mc": "ELBO, its KL from draws",
    "stl": "ELBO, path derivative",
    "iwae": "importance-weighted bound",
    "dreg": "importance-weighted bound, doubly reparameterised",
}
USUAL = ("elbo", "stl", "iwae", "dreg")
SIDES = ("encoder", "decoder")
MOST_SAMPLES = 10_000

# draws of these gradients are independent of those of all other measurements, and those of one K of those of another
_STREAM, _BY_SAMPLES = 96 << 20, 1 << 7
# parameters of a side that are followed: their gradients are kept for all draws, so many numbers of them in all
_FOLLOWED, _KEPT = 20_000, 4_000_000
_GROUPS = 20
# decoded values at a time
_VALUES = 1 << 22
# a ratio of fewer standard errors than this says nothing about a slope
_CLEAR = 3.0


@dataclass(frozen=True)
class Signal:
    """What an estimator's gradient tells one side of a model.

    Attributes:
        estimator: A name of `ESTIMATORS`.
        side: encoder or decoder.
        samples: K.
        snr: The signal-to-noise ratio of a parameter, a mean over parameters.
        dsnr: The directional one.
        rms: The root of its mean square over parameters, of which what noise alone shows has been taken off; 0 where nothing is
            left.
    """

    estimator: str
    side: str
    samples: int
    snr: Estimate
    dsnr: Estimate
    rms: Estimate


def gradient_signals(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    ks: Sequence[int] = (1, 4, 16, 64),
    estimators: Sequence[str] = USUAL,
    draws: int = 200,
    count: int = 8,
    keep: Callable[[str, Mapping[str, Any]], Ledger] | None = None,
    tell: Tell | None = None,
) -> list[Signal]:
    r"""Measure the signal-to-noise ratio of gradients of the mean loss of a batch, over independent draws of its latents.

    .. math::
        \mathrm{SNR} = \frac1P \sum_p \frac{|E[\Delta_p]|}{\sigma[\Delta_p]}, \qquad
        \mathrm{DSNR} = E\left[\frac{\|\Delta^\parallel\|}{\|\Delta^\perp\|}\right]

    where the gradient :math:`\Delta` is split into its part along the true gradient and the rest. E and sigma are taken over n
    draws of the gradient; for the direction of the true gradient, draw i has the mean of the other n - 1. Noise alone would show an
    SNR of :math:`\sqrt{2 / (\pi n)}`: what is near it is not known. The square of a ratio can be freed of that,
    :math:`\frac{n - 3}{n - 1} (\bar\Delta_p / s_p)^2 - \frac1n` is unbiased for normal gradients, and so is its mean over
    parameters, whose root is `rms`. Parameters whose gradient is always 0 are left out. Errors are those of a jackknife over 20
    groups of draws: they are of the draws, and not of other batches.

    The model is in evaluation mode, so nothing but the latents is random. All estimators see the same draws, different K different
    ones. Of a side with more than 20,000 parameters, so many of them, chosen at random by the seed, are followed; fewer where there
    are more than 200 draws, so that memory does not grow with them.

    Arguments:
        model: With a density q(z|x), and draws that have gradients.
        split: Its first `count` examples are the batch.
        plan: Its seed is that of the draws.
        ks: The K.
        estimators: Names of `ESTIMATORS`.
        draws: n, of the gradient.
        count: Examples of the batch, B.
        keep: From a name and settings to the ledger that makes this resumable, one K at a time.
        tell: Called with how many draws are done, of how many.

    Raises:
        ConfigError: If the model has no such gradients, or a setting is out of range.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), section 3 for both ratios
        | https://arxiv.org/abs/1802.04537
    """
    ks, batch = _checked(model, split, plan, ks, estimators, draws, count)
    most = max(1, min(_FOLLOWED, _KEPT // draws))
    sides = {name: _Followed(part, plan.seed, most) for name, part in parameters_of(model).items()}
    found: list[Signal] = []
    for position, k in enumerate(ks):
        settings = {"samples": k, "estimators": list(estimators), "draws": draws, "examples": len(batch.x)}
        ledger = None if keep is None else keep("gradients", settings)
        columns = {} if ledger is None else ledger.read()
        if not columns:
            done = _Telling(tell, position * draws, len(ks) * draws)
            drawn = _gradients(model, batch, plan, k, estimators, draws, sides, done)
            columns = {name: _measured(gradients, plan.seed) for name, gradients in drawn.items()}
            if ledger is not None:
                ledger.write(columns)
        said = f"of {draws:,} gradients of the mean loss of {len(batch.x):,} examples, K = {k:,}"
        for name in estimators:
            for side, followed in sides.items():
                numbers = columns[f"{name}/{side}"][0].tolist()
                words = f"{said}: {WORDS[name]}; {followed.words} of the {side}"
                snr_words = f"|mean| / standard deviation {words}; noise alone would show {floor(draws):.2g}"
                along = f"length along the mean gradient / length across it, {words}"
                square = f"root mean square over parameters, without what noise alone would show, {words}"
                ratios = [
                    Estimate(numbers[2 * place], numbers[2 * place + 1], "1", draws, text)
                    for place, text in enumerate((snr_words, along, square))
                ]
                found.append(Signal(name, side, k, *ratios))
    return found


def slopes(signals: Sequence[Signal]) -> dict[tuple[str, str], Estimate]:
    r"""The power of K by which the signal-to-noise ratio of each estimator and side grows, :math:`\mathrm{SNR} \propto K^s`.

    A straight line through the logarithms of `rms`, weighed by their errors; where the points lie farther from it than these allow,
    the error of s is as much larger. In theory s is -1/2 for the encoder under the importance-weighted bound and +1/2 with the
    doubly reparameterised gradient, and +1/2 for the decoder and for everything about the ELBO. That is for large K: K = 1 is left
    out where two others are there, and so are ratios of less than three standard errors.

    Arguments:
        signals: Of one measurement.

    Returns:
        By estimator and side; none for those with fewer than two points.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018), theorem 1
        | https://arxiv.org/abs/1802.04537
    """
    found = {}
    for key in dict.fromkeys((one.estimator, one.side) for one in signals):
        own = [one for one in signals if (one.estimator, one.side) == key and _clear(one.rms)]
        later = [one for one in own if one.samples > 1]
        points = later if len(later) > 1 else own
        if len(points) > 1:
            found[key] = _line(points)
    return found


def gradient_estimates(
    model: VAE,
    split: Split,
    plan: Plan,
    *,
    keep: Callable[[str, Mapping[str, Any]], Ledger] | None = None,
    tell: Tell | None = None,
    **settings: Any,
) -> dict[str, Estimate]:
    """The numbers of `gradient_signals`, and the slopes, by name: `snr_iwae_encoder_64`, `dsnr_...`, `snr_slope_iwae_encoder`."""
    signals = gradient_signals(model, split, plan, keep=keep, tell=tell, **settings)
    found = {f"snr_{one.estimator}_{one.side}_{one.samples}": one.snr for one in signals}
    found |= {f"dsnr_{one.estimator}_{one.side}_{one.samples}": one.dsnr for one in signals}
    return found | {f"snr_slope_{name}_{side}": slope for (name, side), slope in slopes(signals).items()}


def floor(draws: int) -> float:
    """The signal-to-noise ratio that n draws of noise without a signal show on average."""
    return math.sqrt(2.0 / (math.pi * draws))


def possible(model: VAE, split: Split, plan: Plan, estimators: Sequence[str]) -> dict[str, str]:
    """Why some of these estimators are not to be had of this model: the reason by name, empty where all are."""
    if not model.bounded:
        raise ConfigError(
            "This model encodes to points, without a density q(z|x): there is no bound to differentiate. Train one with "
            "posterior=normal."
        )
    if not len(split):
        raise ConfigError("There are no examples in this split.")
    batch = examples(split, torch.arange(1, device=split.stored.device), plan)
    reasons = {}
    with measuring(model), torch.enable_grad():
        trace = model(batch.x, 2, batch.context)
        # codes let a gradient through, but none of a random draw
        if not all(latent.q.has_rsample and latent.draw.value.requires_grad for latent in trace.latents):
            raise ConfigError(
                "The draws of this model's latents are choices, which have no gradient: there is no signal to measure. Train one "
                "with posterior=normal."
            )
        for name in estimators:
            try:
                for make in ESTIMATORS[name]:
                    make().check(trace)
            except ValueError as error:
                reasons[name] = str(error)
    return reasons


def parameters_of(model: VAE) -> dict[str, list[nn.Parameter]]:
    """The parameters of each side: the decoder's are those of p(x, z), the encoder's all others."""
    generative: list[nn.Module] = [model.decoder, model.likelihood]
    for level in model.hierarchy.open():
        generative += [level.prior, level.merge, level.inform]
    own = {id(parameter) for part in generative for parameter in part.parameters()}
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return {
        "encoder": [parameter for parameter in learned if id(parameter) not in own],
        "decoder": [parameter for parameter in learned if id(parameter) in own],
    }


class _Followed:
    """The parameters of a side, of which so many are followed.

    Arguments:
        parameters: All of them.
        seed: Of the choice.
        most: How many are followed where there are more.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], seed: int, most: int) -> None:
        self.parameters = list(parameters)
        self.size = sum(parameter.numel() for parameter in parameters)
        chosen = torch.randperm(self.size, generator=torch.Generator().manual_seed(seed))[:most]
        self.chosen = chosen.sort().values

    def pick(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Theirs, float64 on the CPU, shape (P,)."""
        parts = [
            torch.zeros(parameter.numel()) if gradient is None else gradient.detach().flatten().cpu()
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
        ]
        return (torch.cat(parts) if parts else torch.zeros(0)).double()[self.chosen]

    @property
    def words(self) -> str:
        """How many, in words."""
        if len(self.chosen) < self.size:
            return f"{len(self.chosen):,} parameters chosen from {self.size:,}"
        return f"{self.size:,} parameters"


class _Telling:
    """Says how far a measurement is, whose first draws are done."""

    def __init__(self, tell: Tell | None, done: int, of: int) -> None:
        self.tell, self.done, self.of = tell, done, of

    def __call__(self, more: int) -> None:
        if self.tell is not None:
            self.tell(self.done + more, self.of)


def _checked(
    model: VAE, split: Split, plan: Plan, ks: Sequence[int], estimators: Sequence[str], draws: int, count: int
) -> tuple[list[int], Batch]:
    for name in estimators:
        if name not in ESTIMATORS:
            raise ConfigError(f"There is no estimator {name!r}{closest(name, ESTIMATORS)}")
    wrong = [k for k in ks if not 1 <= k <= MOST_SAMPLES]
    if wrong or not ks or not estimators:
        said = f"K = {wrong[0]}" if wrong else "nothing to measure"
        raise ConfigError(
            f"{said}: expected estimators such as elbo,iwae and K from 1 to {MOST_SAMPLES:,} such as 1,8,64."
        )
    if draws < _GROUPS or count < 1:
        raise ConfigError(f"{draws} draws of {count} examples: expected {_GROUPS} draws or more, of 1 example or more.")
    for name, reason in possible(model, split, plan, estimators).items():
        raise ConfigError(f"{name}: {reason}")
    index = torch.arange(min(count, len(split)), device=split.stored.device)
    return sorted(set(ks)), examples(split, index, plan)


def _gradients(
    model: VAE,
    batch: Batch,
    plan: Plan,
    k: int,
    estimators: Sequence[str],
    draws: int,
    sides: Mapping[str, _Followed],
    tell: Callable[[int], None],
) -> dict[str, Tensor]:
    """The followed gradients of every draw, (n, P), by estimator and side."""
    terms = {name: [make() for make in ESTIMATORS[name]] for name in estimators}
    found: dict[str, list[Tensor]] = {f"{name}/{side}": [] for name in estimators for side in sides}
    learned = [parameter for followed in sides.values() for parameter in followed.parameters]
    with measuring(model), torch.enable_grad():
        for number in range(draws):
            sums: dict[str, Tensor] = {}
            for part in _parts(batch, k):
                with use(PerExample(plan.seed, part.index, first_sample=number * k, stream=_STREAM + k * _BY_SAMPLES)):
                    trace = model(part.x, k, part.context)
                for name in estimators:
                    loss = _loss(terms[name], trace) / len(batch.x)
                    gradients = torch.autograd.grad(loss, learned, retain_graph=True, allow_unused=True)
                    start = 0
                    for side, followed in sides.items():
                        end = start + len(followed.parameters)
                        picked, key = followed.pick(gradients[start:end]), f"{name}/{side}"
                        sums[key] = sums[key] + picked if key in sums else picked
                        start = end
            for key, gradient in sums.items():
                found[key].append(gradient)
            tell(number + 1)
    return {key: torch.stack(each) for key, each in found.items()}


def _parts(batch: Batch, k: int) -> list[Batch]:
    """The batch in pieces that fit: its gradient is the sum of theirs, as no example sees another one."""
    size = max(1, _VALUES // (k * batch.x[0].numel()))
    pieces = torch.split(torch.arange(len(batch.x), device=batch.x.device), size)
    return [
        replace(
            batch,
            x=batch.x[piece],
            labels=None if batch.labels is None else batch.labels[piece],
            index=batch.index[piece],
            conditions=None if batch.conditions is None else batch.conditions[piece],
        )
        for piece in pieces
    ]


def _loss(terms: Sequence[Term], trace: Trace) -> Tensor:
    return torch.stack([term(trace).sum() for term in terms]).sum()


def _measured(gradients: Tensor, seed: int) -> Tensor:
    """SNR, DSNR and the root mean square of the SNR, each with its error, shape (1, 6), of gradients (n, P)."""
    kept = left_out(len(gradients), _GROUPS, seed)
    gram = gradients @ gradients.T
    dsnr = torch.tensor([_dsnr(gram[rows][:, rows]) for rows in kept])
    groups = [gradients[_others(rows, len(gradients))] for rows in kept]
    moments = (
        torch.tensor([float(len(group)) for group in groups], dtype=torch.float64)[:, None],
        torch.stack([group.mean(0) for group in groups]),
        torch.stack([(group - group.mean(0)).square().sum(0) for group in groups]),
    )
    everyone = torch.arange(_GROUPS)
    without = torch.tensor([_ratios(*(part[everyone != group] for part in moments)) for group in range(_GROUPS)])
    snr, rms = _ratios(*moments)
    errors = [jackknife_error(values) for values in (without[:, 0], dsnr, without[:, 1])]
    return torch.tensor([[snr, errors[0], _dsnr(gram), errors[1], rms, errors[2]]], dtype=torch.float64)


def _others(rows: Tensor, n: int) -> Tensor:
    """Which of n are not among `rows`."""
    left = torch.ones(n, dtype=torch.bool)
    left[rows] = False
    return left


def _ratios(sizes: Tensor, means: Tensor, squares: Tensor) -> tuple[float, float]:
    """SNR and its root mean square, of groups of draws: their sizes (G, 1), of each parameter mean and squared deviations (G, P).

    One pass over the draws serves all divisions of the jackknife.
    """
    n = sizes.sum()
    mean = (sizes * means).sum(0) / n
    variance = (squares + sizes * (means - mean).square()).sum(0) / (n - 1.0)
    alive = (mean != 0.0) | (variance > 0.0)
    ratio = mean[alive].abs() / variance[alive].sqrt()
    square = (n - 3.0) / (n - 1.0) * float(ratio.square().mean()) - 1.0 / n
    return float(ratio.mean()), float(square.clamp_min(0.0).sqrt())


def _dsnr(gram: Tensor) -> float:
    """From the inner products of the gradients with each other, (n, n)."""
    squares, rows = gram.diagonal(), gram.sum(1)
    others = (gram.sum() - 2.0 * rows + squares).clamp_min(0.0).sqrt()  # length of the sum of all others
    along = (rows - squares).abs() / others
    across = (squares - along.square()).clamp_min(0.0).sqrt()
    return float((along / across).mean())


def _clear(rms: Estimate) -> bool:
    return math.isfinite(rms.value) and rms.value > _CLEAR * rms.standard_error


def _line(points: Sequence[Signal]) -> Estimate:
    x = torch.tensor([one.samples for one in points], dtype=torch.float64).log()
    y = torch.tensor([one.rms.value for one in points], dtype=torch.float64).log()
    # an error that is 0 by chance would rule all others
    errors = torch.tensor([max(one.rms.standard_error / one.rms.value, 1e-9) for one in points], dtype=torch.float64)
    weights = errors.square().reciprocal()
    centre = (weights * x).sum() / weights.sum()
    spread = (weights * (x - centre).square()).sum()
    slope = (weights * (x - centre) * y).sum() / spread
    rest = y - (weights * y).sum() / weights.sum() - slope * (x - centre)
    excess = float((weights * rest.square()).sum()) / max(len(points) - 2, 1)
    error = math.sqrt(max(1.0, excess) / float(spread))
    said = ", ".join(f"{one.samples:,}" for one in points)
    return Estimate(
        float(slope), error, "1", points[0].rms.n, f"power of K of the signal-to-noise ratio, from K = {said}"
    )
