"""The front door: train, resume, evaluate and load runs from Python. The commands are thin layers over these."""

from __future__ import annotations

import platform
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from vaekit._version import __version__
from vaekit.build import arguments, build, build_model, complete
from vaekit.compose import compose, data_node, resolve
from vaekit.data import Dataset
from vaekit.errors import ConfigError, RunError, TrainingError, closest
from vaekit.evaluation import active_units, bits_per_dimension, bound_estimates, bound_terms, diagnose
from vaekit.evaluation.doctor import Finding
from vaekit.evaluation.passes import Plan as EvaluationPlan
from vaekit.evaluation.passes import encodings
from vaekit.evaluation.units import Estimate
from vaekit.gallery import draw_gallery
from vaekit.models.vae import VAE
from vaekit.objectives import MeanReduction
from vaekit.recipe import beta_of, make_session, open_data, validate
from vaekit.report import write_page
from vaekit.training import Plan, fit
from vaekit.training.callbacks import Checkpoints, Interrupted, Rows, Validation
from vaekit.training.checkpoint import clean, latest, latest_step, save
from vaekit.training.device import select, threads
from vaekit.training.history import Row
from vaekit.training.loop import Callback
from vaekit.training.progress import PlainLines
from vaekit.training.run import RunFolder
from vaekit.training.session import Session

CPU = torch.device("cpu")
Say = Callable[[str], None]
ShowProgress = Callable[[Say], Callback]


def _quiet(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        path: The run folder.
        device: Where the model computes.
    """

    path: Path
    device: torch.device = CPU

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
        return model.to(self.device).eval()

    @cached_property
    def dataset(self) -> Dataset:
        """The data that the model was trained on, on the device."""
        return open_data(self.config["data"]).to(self.device)

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
            return {name: Estimate(**entry) for name, entry in self.folder.metrics().items()}
        except TypeError as error:
            raise RunError(
                f"{self.path / 'metrics.json'} is damaged: {error}. Measure anew: vaekit evaluate RUN"
            ) from error

    @property
    def command(self) -> str:
        """How the training was started."""
        return str(self.folder.environment().get("command", "vaekit train"))

    @property
    def findings(self) -> list[Finding]:
        """The diagnosis of the last evaluation."""
        return findings(self, self.metrics)


def train(
    *overrides: str,
    config_dir: Path | str | None = None,
    say: Say = _quiet,
    progress: ShowProgress | None = None,
    command: str | None = None,
) -> Run:
    """Train a model, measure it on the test split, and draw its pictures.

    Arguments:
        overrides: As on the command line: ``train("data=mnist", "latent_dim=10")``.
        config_dir: A folder with your own groups of parts.
        say: Told what a reader should know, a line at a time; quiet by default.
        progress: Makes the callback that shows where the training stands.
        command: How the run is described to a reader who wants to repeat it.

    Returns:
        The run.

    Raises:
        ConfigError: For a mistake in the overrides; nothing has been written.
        DataNotFoundError: If the data are neither here nor to be had.
        TrainingError: If the loss is no longer finite.
    """
    composed = compose(overrides, None if config_dir is None else Path(config_dir))
    device = select(composed.device)
    dataset = open_data(data_node(composed)).to(device)
    config = complete(resolve(composed, dataset.event_shape))
    session = make_session(config, dataset, device)
    folder = RunFolder.create(Path(config["output_dir"]), str(config["name"]), config)
    folder.write_environment(
        command=command or " ".join(["vaekit train", *overrides]),
        started=_now(),
        **_environment(device, session.threads),
    )
    return _go_on(folder, config, dataset, session, say, progress)


def resume(path: Path | str, *, say: Say = _quiet, progress: ShowProgress | None = None) -> Run:
    """Go on with a training exactly where its last checkpoint left it; finish what was left undone after the last step.

    On a CPU the result is bit for bit that of the training without the interruption.

    Raises:
        RunError: If `path` is no run folder, or the data have changed.
        CheckpointError: If there are checkpoints and none verifies.
    """
    folder = RunFolder(path)
    config = folder.config()
    device = select(str(config["device"]))
    dataset = open_data(config["data"]).to(device)
    session = make_session(config, dataset, device)
    clean(folder.checkpoints)
    folder.clean()
    checkpoint = latest(folder.checkpoints, say)
    if checkpoint is None:
        say("No checkpoint yet: starting from the first step.")
        session.threads = int(folder.environment().get("threads", session.threads))
        folder.keep_rows([])
    else:
        session.restore(checkpoint, folder.rows)
        folder.keep_rows(session.history.rows)
        say(f"Going on after step {checkpoint.step:,}.")
    return _go_on(folder, config, dataset, session, say, progress)


def load(path: Path | str, device: str = "cpu") -> VAE:
    """The trained model of a run, in evaluation mode: ``encode``, ``reconstruct``, ``sample`` and ``model(x)`` are ready.

    Raises:
        RunError: If `path` is no run folder, or its training has not finished.
    """
    return Run(Path(path), select(device)).model


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
    if run.dataset.binary:  # bits are of discrete data; those of a density would hang on the unit of the values
        metrics["elbo_bits_per_dim"] = bits_per_dimension(metrics["elbo"], run.model.event_shape.numel())
    metrics["active_units"] = active_units(encodings(run.model, data, plan)[0])
    return metrics


def open_run(path: Path | str, device: str = "auto") -> Run:
    """A finished run, to be measured or used on the device called `device`.

    Raises:
        RunError: If `path` is no run folder.
    """
    run = Run(Path(path), select(device))
    _ = run.folder  # a wrong path is said now
    return run


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
    """Make these the numbers of the run, and write its report anew. What only a training knows, such as beta, stays."""
    kept = {name: entry for name, entry in run.folder.metrics().items() if name == "effective_beta"}
    fresh = {name: estimate.as_dict() for name, estimate in metrics.items()}
    run.folder.write_metrics({**fresh, **kept})
    write_page(run.path)


def findings(run: Run, metrics: Mapping[str, Estimate]) -> list[Finding]:
    """The diagnosis that these numbers give."""
    rows = run.history
    return diagnose(metrics, run.config, run.command, int(rows[-1]["step"]) if rows else None)


def _go_on(
    folder: RunFolder,
    config: dict[str, Any],
    dataset: Dataset,
    session: Session,
    say: Say,
    progress: ShowProgress | None,
) -> Run:
    """Train to the end, then measure, draw and write; each step can be repeated, so a kill in between costs only time."""

    def tell(line: str) -> None:
        folder.log(line)
        say(line)

    shown: list[Callback] = [PlainLines(folder.log), *([] if progress is None else [progress(say)])]
    _introduce(tell, folder, config, dataset, session)
    run = Run(folder.path, session.generators.device)
    run.__dict__["dataset"] = dataset  # already open: fills the cached property
    try:
        with threads(session.threads):
            _finish(run, session, shown)
    except KeyboardInterrupt as stop:
        number = next((int(argument) for argument in stop.args if isinstance(argument, int)), signal.SIGINT)
        tell(f"Stopped by signal {number} after step {latest_step(folder.checkpoints):,}.")
        raise Interrupted(number, folder.path) from None
    except TrainingError as error:
        folder.log(str(error))
        raise
    return run


def _finish(run: Run, session: Session, shown: list[Callback]) -> None:
    began = time.monotonic()
    folder = run.folder
    _train(folder, run.config, run.dataset, session, shown)
    folder.write_model(session.best.weights)
    _measure(run, session)
    draw_gallery(folder.figures, run.model, run.dataset, run.plan, session.history.rows)
    seconds = float(folder.environment().get("seconds", 0.0)) + time.monotonic() - began
    folder.write_environment(seconds=round(seconds, 1), finished=_now(), best_epoch=session.best.epoch)
    write_page(folder.path)


def _train(
    folder: RunFolder, config: Mapping[str, Any], dataset: Dataset, session: Session, shown: list[Callback]
) -> None:
    plan: Plan = build(config["training"], where="training")
    evaluation: EvaluationPlan = build(config["evaluation"], where="evaluation")

    def put_down(step: int) -> None:
        folder.sync_rows()  # a checkpoint counts on the rows before it
        save(folder.checkpoints, session.capture(step), plan.keep_checkpoints)

    callbacks: list[Callback] = [
        Validation(session, lambda: validate(session, dataset, evaluation)),
        Rows(folder.append_row),
        *shown,
        Checkpoints(put_down, plan.checkpoint_seconds),
    ]
    per_epoch = session.stream.steps_per_epoch
    with session.generators.borrowed():
        fit(
            session.model,
            session.objective,
            session.players,
            session.stream,
            steps=plan.epochs * per_epoch,
            steps_per_epoch=per_epoch,
            samples=plan.samples,
            start=session.step,
            history=session.history,
            callbacks=callbacks,
        )


def _measure(run: Run, session: Session) -> None:
    metrics = evaluate(run)
    beta = beta_of(session)
    if beta is not None:
        words = "weight of a nat of KL over that of a nat of reconstruction"
        metrics["effective_beta"] = Estimate(beta, 0.0, "1", len(run.dataset.test), words)
    run.folder.write_metrics({name: estimate.as_dict() for name, estimate in metrics.items()})


def _introduce(tell: Say, folder: RunFolder, config: Mapping[str, Any], dataset: Dataset, session: Session) -> None:
    parameters = sum(parameter.numel() for parameter in session.model.parameters())
    tell(f"Run: {folder.path}")
    tell(f"Data: {dataset.description}")
    tell(f"Model: {config['name']}, {parameters:,} parameters, on {session.generators.device}, seed {config['seed']}")
    beta = beta_of(session)
    if isinstance(session.objective.reduction, MeanReduction) and beta is not None:
        tell(f"Effective beta: {beta:.4g}, because reduction=mean divides each term by its own number of elements.")
    if session.history.constant:
        tell(
            f"The logged train/loss leaves out the likelihood's constant, {session.history.constant:.2f} nats; every ELBO and "
            "every validation and test number has it (training.include_const=true logs it too)."
        )


def _environment(device: torch.device, thread_count: int) -> dict[str, Any]:
    return {
        "vaekit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": thread_count,
    }


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


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
