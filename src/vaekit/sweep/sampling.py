"""Which settings the n-th trial of a sweep tries."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence, Set

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from vaekit.errors import ConfigError
from vaekit.sweep.axes import Axis, Choices

Settings = Mapping[str, str]
# settings as JSON that have been taken, and a way to the study with what has been told
Propose = Callable[[int, Set[str], Callable[[], optuna.Study]], Settings | None]

SAMPLERS = ("grid", "random", "tpe")
# a grid of more runs than this is warned of
LARGE = 256
_LARGEST = 100_000
_TRIES = 20


def as_text(settings: Settings) -> str:
    """Settings as JSON, the same for the same ones."""
    return json.dumps(dict(settings), sort_keys=True)


def values(axis: Axis) -> tuple[str, ...] | None:
    """All that an axis can be; None if there is no end of it."""
    if isinstance(axis, Choices):
        return axis.values
    return tuple(map(str, range(int(axis.low), int(axis.high) + 1))) if axis.whole else None


def size(axes: Sequence[Axis]) -> int | None:
    """How many combinations there are; None if there is no end of them."""
    lists = [values(axis) for axis in axes]
    return math.prod(len(one) for one in lists if one is not None) if None not in lists else None


def count(sampler: str, axes: Sequence[Axis], trials: int | None) -> int:
    """How many trials the sweep has.

    Raises:
        ConfigError: If the sampler cannot know, or cannot do it.
    """
    everything = size(axes)
    if trials is not None and trials < 1:
        raise ConfigError(f"--trials {trials}: expected 1 or more.")
    if sampler == "grid" and everything is None:
        endless = next(str(axis) for axis in axes if values(axis) is None)
        raise ConfigError(f"{endless} has no end of values, and a grid tries all: write --sampler random --trials 20.")
    if sampler != "grid" and trials is None:
        raise ConfigError(f"--sampler {sampler} has no end of its own: write --trials N, for example --trials 20.")
    number = min(one for one in (everything, trials) if one is not None)
    if number > _LARGEST:
        raise ConfigError(f"{number:,} trials are more than a sweep can hold ({_LARGEST:,}); write --trials N.")
    return number


def proposals(sampler: str, axes: Sequence[Axis], seed: int) -> Propose:
    """From the number of a trial to its settings; None where every combination has been taken.

    A grid goes through all combinations in order, the last axis fastest. Random draws are a function of the seed and the trial's
    number, so that they do not depend on how many processes there are, but for numbers that have been drawn before and are drawn
    again; of lists alone, each combination is drawn once. TPE (Optuna's) learns from the trials that have ended, and knows those
    that run.
    """
    if sampler == "grid":
        return lambda point, taken, study: _combination(axes, point)
    everything = size(axes)
    few = everything is not None and everything <= _LARGEST
    if sampler == "random" and few and all(isinstance(axis, Choices) for axis in axes):
        order = np.random.default_rng(seed).permutation(everything or 0)
        return lambda point, taken, study: _combination(axes, int(order[point])) if point < len(order) else None
    kind = TPESampler if sampler == "tpe" else RandomSampler

    def drawn(point: int, taken: Set[str], study: Callable[[], optuna.Study]) -> Settings | None:
        for tries in range(_TRIES):
            settings = _drawn(axes, kind(seed=_seed(seed, point, tries)), study)
            if as_text(settings) not in taken:
                return settings
        return _left(axes, taken, _seed(seed, point)) if few else None

    return drawn


def _left(axes: Sequence[Axis], taken: Set[str], seed: int) -> Settings | None:
    """One of the combinations that have not been taken: nearly all of a small space have."""
    lists = [values(axis) or () for axis in axes]
    every = ({axis.key: one for axis, one in zip(axes, chosen, strict=True)} for chosen in itertools.product(*lists))
    free = [settings for settings in every if as_text(settings) not in taken]
    return free[seed % len(free)] if free else None


def distributions(axes: Sequence[Axis]) -> dict[str, BaseDistribution]:
    """The axes in Optuna's words."""
    return {axis.key: _distribution(axis) for axis in axes}


def parameters(axes: Sequence[Axis], settings: Settings) -> dict[str, str | float]:
    """Settings in Optuna's words."""
    return {axis.key: settings[axis.key] if isinstance(axis, Choices) else float(settings[axis.key]) for axis in axes}


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, Choices):
        return CategoricalDistribution(axis.values)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _combination(axes: Sequence[Axis], index: int) -> Settings | None:
    lists = [values(axis) or () for axis in axes]
    chosen = next(itertools.islice(itertools.product(*lists), index, None), None)
    return None if chosen is None else {axis.key: one for axis, one in zip(axes, chosen, strict=True)}


def _drawn(axes: Sequence[Axis], sampler: BaseSampler, study: Callable[[], optuna.Study]) -> Settings:
    opened, draft = study(), create_trial(state=TrialState.RUNNING)
    settings = {}
    for axis in axes:
        value = sampler.sample_independent(opened, draft, axis.key, _distribution(axis))
        settings[axis.key] = value if isinstance(axis, Choices) else axis.text(value)
    return settings


def _seed(*numbers: int) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(numbers).encode()).digest()[:4], "big")
