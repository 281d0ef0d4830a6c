"""A run as the commands see it: its folder, its model, its data, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from vaekit.builder import arguments, build, build_model
from vaekit.data import Dataset
from vaekit.errors import ConfigError, RunError, closest
from vaekit.evaluation import active_units, bits_per_dimension, bound_estimates, bound_terms, diagnose
from vaekit.evaluation.codebook import codebook_estimates, codes
from vaekit.evaluation.doctor import Finding
from vaekit.evaluation.generation import generation_estimates
from vaekit.evaluation.labels import held_out_accuracy
from vaekit.evaluation.passes import Plan as EvaluationPlan
from vaekit.evaluation.passes import encodings
from vaekit.evaluation.tables import table_estimates
from vaekit.evaluation.units import Estimate
from vaekit.likelihoods import Bernoulli
from vaekit.models.vae import VAE
from vaekit.recipe import open_data
from vaekit.report import write_page
from vaekit.schedules import advance, last_end
from vaekit.training.device import select
from vaekit.training.history import Row
from vaekit.training.run import RunFolder

CPU = torch.device("cpu")

Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        path: The run folder.
        device: Where the model computes.
        opened: The data, where they are open already: on the device, and in the precision.
        precision: That model and data have.
    """

    path: Path
    device: torch.device = CPU
    opened: Dataset | None = None
    precision: Precision = "float32"

    @cached_property
    def folder(self) -> RunFolder:
        """The folder's files."""
        return RunFolder(self.path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return self.folder.config()

    @cached_property
    def model(self) -> VAE:
        """The model with the weights of the best epoch, in evaluation mode."""
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, and the user's generator is not ours
            model = build_model(self.config)
        _load_weights(model, self.folder.model(), self.path)
        advance(model, last_end(model))  # weights are kept of a model that has reached its final form
        return (model.double() if self.precision == "float64" else model).to(self.device).eval()

    @cached_property
    def dataset(self) -> Dataset:
        """The data that the model was trained on, on the device."""
        return self.opened or self.prepared(open_data(self.config["data"]))

    def prepared(self, dataset: Dataset) -> Dataset:
        """Data on the device and in the precision of this run's model."""
        dataset = dataset.to(self.device)
        return dataset.double() if self.precision == "float64" else dataset

    def on(self, dataset: Dataset) -> Run:
        """The same model with other data, which are `prepared`."""
        other = replace(self, opened=dataset)
        other.__dict__.update({name: self.__dict__[name] for name in ("config", "model") if name in self.__dict__})
        return other

    @cached_property
    def plan(self) -> EvaluationPlan:
        """How numbers are made."""
        plan = build(self.config["evaluation"], where="evaluation")
        assert isinstance(plan, EvaluationPlan)
        return plan

    @property
    def history(self) -> list[Row]:
        """The logged rows, one an epoch."""
        return self.folder.rows()

    @property
    def metrics(self) -> dict[str, Estimate]:
        """The numbers of the last evaluation on the test split."""
        try:
            return {name: Estimate.from_dict(entry) for name, entry in self.folder.metrics().items()}
        except TypeError as error:
            raise RunError(
                f"{self.path / 'metrics.json'} is damaged: {error}. Measure anew: vaekit evaluate RUN"
            ) from error

    @property
    def symptoms(self) -> dict[str, Estimate]:
        """What the diagnosis had measured when the training ended, beyond the numbers of an evaluation."""
        try:
            return {name: Estimate.from_dict(entry) for name, entry in self.folder.symptoms().items()}
        except TypeError as error:
            raise RunError(f"{self.path / 'symptoms.json'} is damaged: {error}. Remove it.") from error

    @property
    def command(self) -> str:
        """How the training was started."""
        return str(self.folder.environment().get("command", "vaekit train"))

    @property
    def findings(self) -> list[Finding]:
        """The diagnosis of the last evaluation."""
        return findings(self, self.metrics)


def load(path: Path | str, device: str = "cpu") -> VAE:
    """The trained model of a run, in evaluation mode: ``encode``, ``reconstruct``, ``sample`` and ``model(x)`` are ready.

    Raises:
        RunError: If `path` is no run folder, or its training has not finished.
    """
    return Run(Path(path), select(device)).model


def open_run(path: Path | str, device: str = "auto", precision: Precision = "float32") -> Run:
    """A finished run, to be measured or used on the device called `device`.

    Raises:
        RunError: If `path` is no run folder.
        ConfigError: If the device has no numbers of that precision.
    """
    run = Run(Path(path), select(device), precision=precision)
    if run.device.type == "mps" and precision == "float64":
        raise ConfigError("device is 'mps', which has no float64: write --device cpu.")
    _ = run.folder  # a wrong path is said now
    return run


def evaluate(run: Run, split: str = "test", plan: EvaluationPlan | None = None) -> dict[str, Estimate]:
    """The numbers of a model on a split of its data, each with its standard error over examples.

    Arguments:
        run: A finished training.
        split: train, validation or test.
        plan: How; the run's own by default.
    """
    plan = run.plan if plan is None else plan
    data = run.dataset.split(split)
    terms = bound_terms(run.model, data, plan)
    metrics = bound_estimates(terms, plan.samples)
    if run.config["data"].get("resolution") is not None:
        metrics = {name: _at_resolution(estimate, run.model.event_shape) for name, estimate in metrics.items()}
    for name, value in run.model.likelihood.parameters_of_note.items():
        metrics[name] = Estimate(value, 0.0, "1", 0, "a parameter of the likelihood")
    if "elbo" in metrics and has_bits(run):
        metrics["bits_per_dim"] = bits_per_dimension(metrics["elbo"], run.model.event_shape.numel())
    means = encodings(run.model, data, plan)[0]
    metrics["active_units"] = active_units(means)
    if len(run.dataset.event_shape) == 1:
        metrics |= held_out_accuracy(run.model, run.dataset, split, plan, means)
    codebook = codes(run.model, data, plan)
    if codebook is not None:
        metrics |= codebook_estimates(*codebook)
    return metrics


def has_bits(run: Run) -> bool:
    """Whether nats are bits: of discrete data under a probability. Those of a density would hang on the unit of the values."""
    likelihood = run.model.likelihood
    return likelihood.discrete and (run.dataset.binary or not isinstance(likelihood, Bernoulli))


def generation(
    run: Run,
    split: str = "test",
    plan: EvaluationPlan | None = None,
    count: int | None = None,
    inception_weights: Path | None = None,
) -> dict[str, Estimate]:
    """Numbers about the images that a model makes up, and about its reconstructions: `evaluation.generation`.

    About the rows that it makes up, where the data are a table: `evaluation.tables`.

    Arguments:
        run: A finished training on images.
        split: Whose images they are compared with.
        plan: How; the run's own by default.
        count: Generated images; by default as many as the split has, at most 10,000.
        inception_weights: The file of the weights that `fid` is defined by; without it there is no `fid`.
    """
    plan = run.plan if plan is None else plan
    if run.dataset.columns is not None:
        return table_estimates(run.model, run.dataset, split, plan, count)
    return generation_estimates(run.model, run.dataset, split, plan, count, inception_weights)


def _at_resolution(estimate: Estimate, event_shape: torch.Size) -> Estimate:
    """The images have been padded or resized: their numbers hold at that size and no other."""
    return replace(estimate, estimator=f"{estimate.estimator}; images at {event_shape[-2]} x {event_shape[-1]} pixels")


def evaluation_plan(run: Run, overrides: Sequence[str] = ()) -> EvaluationPlan:
    """The run's plan for its numbers, with ``evaluation.samples=...``, ``.batch_size=`` or ``.seed=`` changed.

    Raises:
        ConfigError: For any other key.
    """
    node = dict(run.config["evaluation"])
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.removeprefix("evaluation.")
        if not key.startswith("evaluation.") or name not in arguments("evaluation.Plan"):
            valid = [f"evaluation.{name}" for name in arguments("evaluation.Plan")]
            raise ConfigError(f"{override}: an evaluation has no key {key!r}{closest(key, valid)}")
        node[name] = _number(override, value)
    plan: EvaluationPlan = build(node, where="evaluation")
    return plan


def record(run: Run, metrics: Mapping[str, Estimate]) -> None:
    """Make these numbers of the run, beside those of other measurements of the same weights, and write its report anew."""
    fresh = {name: estimate.as_dict() for name, estimate in metrics.items()}
    before = run.folder.metrics()
    # one set of bounds at a time, so that a reader need not ask which is which: the last one that was asked for by its draws,
    # which has an effective sample size beside each bound, or without it that of the last evaluation
    if _has_ladder(before) and not _has_ladder(fresh):
        fresh = {name: entry for name, entry in fresh.items() if not is_bound(name)}
    elif any(map(is_bound, fresh)):
        before = {name: entry for name, entry in before.items() if not is_bound(name)}
    run.folder.write_metrics({**fresh, **{name: entry for name, entry in before.items() if name not in fresh}})
    write_page(run.path)


def is_bound(name: str) -> bool:
    """Whether a number is one of those from K draws of an importance-weighted bound."""
    return name.startswith(("iwae_", "ess_", "bits_per_dim_iwae_"))


def _has_ladder(metrics: Mapping[str, Any]) -> bool:
    return any(name.startswith("ess_") for name in metrics)


def findings(run: Run, metrics: Mapping[str, Estimate]) -> list[Finding]:
    """The diagnosis that these numbers give, with the symptoms that were measured when the training ended."""
    rows = run.history
    return diagnose(metrics, run.config, run.command, int(rows[-1]["step"]) if rows else None, rows, run.symptoms)


def _number(override: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"Cannot read {override!r}: write a number, for example evaluation.samples=100.") from error


def _load_weights(model: VAE, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise RunError(
            f"The weights in {path} do not fit its config.yaml: {str(error).splitlines()[-1].strip()}"
        ) from error
