"""Priors fitted to the latents of a finished run, kept in its folder: the second of two stages."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from vaekit import priors
from vaekit._version import __version__
from vaekit.conditionals.base import Conditional
from vaekit.conditionals.categorical import RelaxedCategorical
from vaekit.conditionals.quantized import Quantized
from vaekit.errors import ConfigError, RunError, closest
from vaekit.evaluation.encoded import DRAWS, encoded, only_level, score
from vaekit.evaluation.units import Estimate
from vaekit.files import as_json, write_atomically
from vaekit.gallery import SAMPLES, draw_samples
from vaekit.models.vae import VAE
from vaekit.priors.fitted import Fitted
from vaekit.runs import Run

CONTINUOUS: dict[str, type[Fitted]] = {
    "normal": priors.FittedNormal,
    "mixture": priors.FittedMixture,
    "flow": priors.FittedFlow,
}
DISCRETE = ("autoregressive",)
NAMES = (*CONTINUOUS, *DISCRETE)


@dataclass(frozen=True)
class SecondStage:
    """A fitted prior and what it is worth.

    Attributes:
        prior: Fitted.
        scores: By the prior's metric name, `prior_NAME`, and `prior_own` for that of the model: nats per example of held-out
            latents, higher is better.
        picture: Of samples.
    """

    prior: Fitted
    scores: dict[str, Estimate]
    picture: Path


def fit_second_stage(run: Run, name: str, seed: int = 0, draws: int = DRAWS) -> SecondStage:
    """Fit a prior to the training latents of a run, score it on its test latents, and put it into the run folder.

    Arguments:
        run: A finished training.
        name: normal, mixture, flow or autoregressive.
        seed: Of the latents' noise and of the fit.
        draws: Latents of each example, where its posterior is random.

    Returns:
        The prior and its scores, beside that of the model's own prior if it has one.

    Raises:
        ConfigError: If the name is unknown, or that prior is not for the latents of this model.
    """
    if draws < 1:
        raise ConfigError(f"--draws is {draws}, expected 1 or more.")
    if not 0 <= seed < 2**64:
        raise ConfigError(f"--seed is {seed}, expected a number from 0 to 2**64 - 1.")
    prior, own = _made(run.model, name), only_level(run.model).prior
    plan = type(run.plan)(run.plan.batch_size, 1, seed)
    training, test = (encoded(run.model, run.dataset.split(split), plan, draws) for split in ("train", "test"))
    prior.fit(training.flatten(0, 1), seed)
    words = f"E log p(z) of test latents, fitted to {len(training)} for each of {training.shape[1]:,} training examples"
    scores = {f"prior_{name}": score(prior, test, run.model, words)}
    if not isinstance(own, Fitted) or own.is_fitted:
        scores["prior_own"] = score(own, test, run.model, "E log p(z) of test latents, the model's own prior")
    _write(run, name, prior, scores, seed, draws)
    picture = run.folder.figures / f"samples_{name}.png"
    with instead(run.model, prior):
        draw_samples(picture, run.model, run.dataset, SAMPLES, seed)
    return SecondStage(prior, scores, picture)


def default_name(model: VAE) -> str:
    """The prior that suits the latents of a model."""
    return "autoregressive" if isinstance(only_level(model).posterior, Quantized) else "mixture"


@contextmanager
def with_prior(run: Run, name: str | None) -> Iterator[None]:
    """Within this context the run's model has the fitted prior called `name` in the place of its own; its own for None."""
    if name is None:
        yield
        return
    with instead(run.model, read_second_stage(run, name)):
        yield


def read_second_stage(run: Run, name: str) -> Fitted:
    """The fitted prior that lies in a run folder.

    Raises:
        ConfigError: If the name is unknown, or it was never fitted.
        RunError: If its file is damaged, of another model, or of the same model with other weights.
    """
    file = _folder(run) / f"{_known(name)}.safetensors"
    prior = _made(run.model, name)
    again = shlex.join(["vaekit", "prior", str(run.path), name])
    if not file.is_file():
        raise ConfigError(f"{run.path} has no fitted prior {name!r}; write: {again}")
    try:
        with safe_open(file, "pt") as opened:
            fitted_to = opened.metadata() or {}
        prior.load_state_dict(load_tensors(file.read_bytes()))
    except Exception as error:  # safetensors raises its own class, which is not public
        raise RunError(f"{file} cannot be used: {' '.join(str(error).split())[:200]}. Fit it again: {again}") from error
    if fitted_to.get("model") != run.folder.model_fingerprint():
        raise RunError(f"{file} was fitted to other weights than those of {run.path}. Fit it again: {again}")
    return prior.to(run.device).eval()


@contextmanager
def instead(model: VAE, prior: Conditional) -> Iterator[None]:
    """Within this context the model has `prior` in the place of its own."""
    level = only_level(model)
    own = level.prior
    level.prior = prior
    try:
        yield
    finally:
        level.prior = own


def _made(model: VAE, name: str) -> Fitted:
    """An unfitted prior for the latents of a model, on its device."""
    level = only_level(model)
    quantised = isinstance(level.posterior, Quantized)
    weight = next(model.parameters())
    if isinstance(level.posterior, RelaxedCategorical) and _known(name):
        raise ConfigError(
            "The latents of this model are categories: there is no prior for them to fit afterwards. Train a model with "
            "continuous latents, such as model=mlp, or with codes, model=vqvae."
        )
    if _known(name) in CONTINUOUS and quantised:
        raise ConfigError(
            f"The latents of this model are codes, and {name} is for continuous ones; write autoregressive."
        )
    if name in DISCRETE and not quantised:
        raise ConfigError(
            f"The latents of this model are continuous, and {name} is for codes; write {', '.join(CONTINUOUS)}."
        )
    try:
        if isinstance(level.posterior, Quantized):
            prior: Fitted = priors.FittedAutoregressive(level.event_shape, level.posterior.codebook)
        else:
            prior = CONTINUOUS[name](level.event_shape)
    except RuntimeError as error:
        raise ConfigError(str(error)) from error
    return prior.to(weight)


def _known(name: str) -> str:
    if name not in NAMES:
        raise ConfigError(f"there is no prior {name!r}{closest(name, NAMES)}")
    return name


def _folder(run: Run) -> Path:
    return run.path / "priors"


def _write(run: Run, name: str, prior: Fitted, scores: dict[str, Estimate], seed: int, draws: int) -> None:
    folder = _folder(run)
    folder.mkdir(exist_ok=True)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in prior.state_dict().items()}
    # one entry: safetensors writes several in any order, and equal priors should be equal files
    fitted_to = {"model": run.folder.model_fingerprint()}
    write_atomically(folder / f"{name}.safetensors", save_tensors(tensors, fitted_to))
    about = {
        "vaekit": __version__,
        "kind": f"priors.{type(prior).__name__}",
        "event_shape": list(prior.event_shape),
        "seed": seed,
        "draws": draws,
        "scores": {key: estimate.as_dict() for key, estimate in scores.items()},
    }
    write_atomically(folder / f"{name}.json", (as_json(about, indent=2) + "\n").encode())
    fresh = {key: estimate.as_dict() for key, estimate in scores.items()}
    run.folder.write_metrics({**run.folder.metrics(), **fresh})
