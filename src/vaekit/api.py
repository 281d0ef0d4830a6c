"""The front door: train and resume from Python. The commands are thin layers over these."""

from __future__ import annotations

import platform
import shlex
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vaekit._version import __version__
from vaekit.builder import build
from vaekit.compose import compose, data_node
from vaekit.data import Dataset
from vaekit.errors import ConfigError, TrainingError
from vaekit.evaluation.encoded import fit_priors
from vaekit.evaluation.passes import Plan as EvaluationPlan
from vaekit.evaluation.symptoms import symptoms
from vaekit.evaluation.units import Estimate
from vaekit.gallery import draw_gallery
from vaekit.objectives import MeanReduction
from vaekit.recipe import beta_of, make_session, open_data, resolved, validate
from vaekit.report import write_page
from vaekit.runs import Run, evaluate
from vaekit.schedules import advance, last_end
from vaekit.snapshots import Snapshots, Stages, animate
from vaekit.training import Plan
from vaekit.training.bottleneck import facts_of, line, shares
from vaekit.training.callbacks import Checkpoints, Interrupted, Rows, Validation
from vaekit.training.checkpoint import clean, latest, latest_step, save
from vaekit.training.clock import Clock, clock_for
from vaekit.training.device import select
from vaekit.training.loop import Callback
from vaekit.training.memory import keep_for
from vaekit.training.progress import PlainLines
from vaekit.training.run import RunFolder
from vaekit.training.session import Session
from vaekit.training.several import Training, alone
from vaekit.training.together import Fit
from vaekit.training.tracking import Tracked, Tracker, Tracking
from vaekit.training.watch import Watch

Say = Callable[[str], None]
ShowProgress = Callable[[Say], Callback]
Opened = Callable[[Mapping[str, Any], torch.device], Dataset]


def _quiet(line: str) -> None:
    """Say nothing."""


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
    return alone(training(*overrides, config_dir=config_dir, say=say, progress=progress, command=command))


def resume(path: Path | str, *, say: Say = _quiet, progress: ShowProgress | None = None) -> Run:
    """Go on with a training exactly where its last checkpoint left it; finish what was left undone after the last step.

    On a CPU the result is bit for bit that of the training without the interruption.

    Raises:
        RunError: If `path` is no run folder, or the data have changed.
        CheckpointError: If there are checkpoints and none verifies.
    """
    return alone(resuming(path, say=say, progress=progress))


def _opened(node: Mapping[str, Any], device: torch.device) -> Dataset:
    return open_data(node).to(device)


def training(
    *overrides: str,
    config_dir: Path | str | None = None,
    say: Say = _quiet,
    progress: ShowProgress | None = None,
    command: str | None = None,
    opened: Opened = _opened,
) -> Training[Run]:
    """What `train` does in two parts, before its steps and after them: it gives the steps to whoever makes them.

    Arguments:
        overrides: As of `train`, and so are `config_dir`, `say`, `progress` and `command`.
        opened: From a data node and a device to the data set, which several trainings may share.
    """
    composed = compose(overrides, None if config_dir is None else Path(config_dir))
    device = select(composed.device)
    dataset = opened(data_node(composed), device)
    config = resolved(composed, dataset)
    session = make_session(config, dataset, device)
    _tracker(config).available()
    folder = RunFolder.create(Path(config["output_dir"]), str(config["name"]), config)
    folder.write_environment(
        command=command or shlex.join(["vaekit", "train", *overrides]),
        started=_now(),
        **_environment(device, session.threads),
    )
    if dataset.restore is not None:
        folder.write_restore(dataset.restore.state())
    with folder.alone():
        return (yield from _go_on(folder, config, dataset, session, say, progress))


def resuming(
    path: Path | str, *, say: Say = _quiet, progress: ShowProgress | None = None, opened: Opened = _opened
) -> Training[Run]:
    """What `resume` does in two parts, before its steps and after them: it gives the steps to whoever makes them."""
    folder = RunFolder(path)
    config = folder.config()
    device = select(str(config["device"]))
    dataset = opened(config["data"], device)
    session = make_session(config, dataset, device)
    with folder.alone():
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
        return (yield from _go_on(folder, config, dataset, session, say, progress))


def _go_on(
    folder: RunFolder,
    config: dict[str, Any],
    dataset: Dataset,
    session: Session,
    say: Say,
    progress: ShowProgress | None,
) -> Training[Run]:
    """Train to the end, then measure, draw and write; each step can be repeated, so a kill in between costs only time."""

    def tell(line: str) -> None:
        folder.log(line)
        say(line)

    shown: list[Callback] = [PlainLines(folder.log), *([] if progress is None else [progress(say)])]
    _introduce(tell, folder, config, dataset, session)
    keep_for(sum(parameter.nbytes for parameter in session.model.parameters()))
    run = Run(folder.path, session.generators.device, opened=dataset)
    session.best.keep_in(folder.spare)
    tracking = Tracking(_tracker(config), Tracked(folder.path, config, session.step), tell)
    watch = Watch(tell, session.model, last_end(session.objective))
    try:
        yield from _finish(run, session, [*shown, tracking, watch], tell)
        numbers = {name: estimate.value for name, estimate in run.metrics.items()}
        tracking.finish(numbers, folder.figures, int(session.history.rows[-1]["step"]))
    except KeyboardInterrupt as stop:
        tracking.stop()
        number = next((int(argument) for argument in stop.args if isinstance(argument, int)), signal.SIGINT)
        tell(f"Stopped by signal {number} after step {latest_step(folder.checkpoints):,}.")
        raise Interrupted(number, folder.path) from None
    except TrainingError as error:
        tracking.stop()
        folder.log(str(error))
        raise
    finally:
        folder.spare.unlink(missing_ok=True)
    return run


def _finish(run: Run, session: Session, shown: list[Callback], tell: Say) -> Training[None]:
    began, since, clock = time.monotonic(), session.step, clock_for(session.generators.device)
    folder = run.folder
    yield _steps(folder, run.config, run.dataset, session, shown, clock)
    validated = clock.seconds()["evaluation"]
    session.release()
    folder.write_model(session.best.weights)
    if fit_priors(run.model, run.dataset.train, run.plan):
        folder.write_model(run.model.state_dict())
    with clock.of("evaluation"):
        _measure(run, session)
    with clock.of("pictures"):
        draw_gallery(folder.figures, run.model, run.dataset, run.plan, session.history.rows)
        animate(folder.frames, folder.figures / "training.gif")
    taken, facts = clock.seconds(), facts_of(clock, session, validated)
    bottleneck = line(taken, facts, since)
    tell(bottleneck)
    time_shares = {part: round(share, 4) for part, share in shares(taken).items()}
    folder.write_environment(bottleneck=bottleneck, time_shares=time_shares)
    seconds = float(folder.environment().get("seconds", 0.0)) + time.monotonic() - began
    folder.write_environment(seconds=round(seconds, 1), finished=_now(), best_epoch=session.best.epoch)
    write_page(folder.path)


def _steps(
    folder: RunFolder,
    config: Mapping[str, Any],
    dataset: Dataset,
    session: Session,
    shown: list[Callback],
    clock: Clock,
) -> Fit:
    plan: Plan = build(config["training"], where="training")
    evaluation: EvaluationPlan = build(config["evaluation"], where="evaluation")

    def put_down(step: int) -> None:
        folder.sync_rows()  # a checkpoint counts on the rows before it
        save(folder.checkpoints, session.capture(step), plan.keep_checkpoints)

    callbacks: list[Callback] = [
        Validation(session, lambda: validate(session, dataset, evaluation)),
        Rows(folder.append_row),
        Snapshots(folder.frames, session.model, dataset, evaluation),
        Stages(folder.figures, session.model, dataset, evaluation),
        *shown,
        Checkpoints(put_down, plan.checkpoint_seconds),
    ]
    return Fit(session, plan.epochs * session.stream.steps_per_epoch, callbacks, plan.skip_limit, clock)


def _measure(run: Run, session: Session) -> None:
    metrics = evaluate(run)
    beta = beta_of(session)
    if beta is not None:
        words = "weight of a nat of KL over that of a nat of reconstruction"
        metrics["effective_beta"] = Estimate(beta, 0.0, "1", 0, words)
    weight = run.config.get("kld_weight")
    if weight is not None:
        metrics["kld_weight"] = Estimate(weight, 0.0, "1", 0, "weight of a nat of KL beside the mean squared error")
    run.folder.write_metrics({name: estimate.as_dict() for name, estimate in metrics.items()})
    batch_size = session.stream.batch_size
    told = symptoms(run.model, run.dataset, "test", run.plan, batch_size)
    run.folder.write_symptoms({name: estimate.as_dict() for name, estimate in told.items()})


def _introduce(tell: Say, folder: RunFolder, config: Mapping[str, Any], dataset: Dataset, session: Session) -> None:
    parameters = sum(parameter.numel() for parameter in session.model.parameters())
    tell(f"Run: {folder.path}")
    tell(f"Data: {dataset.description}")
    tell(f"Model: {config['name']}, {parameters:,} parameters, on {session.generators.device}, seed {config['seed']}")
    advance(session.objective, last_end(session.objective))
    beta = beta_of(session)
    if isinstance(session.objective.reduction, MeanReduction) and beta is not None:
        tell(
            f"Effective beta: {beta:.4g} when every schedule has ended, because reduction=mean divides each term by its own "
            "number of elements."
        )
    if config.get("kld_weight") is not None:
        tell(
            f"kld_weight {config['kld_weight']:g} over {config['input_dim']:,} features is beta {config['beta']:.3g} at sigma 1."
        )
    if session.history.constant:
        tell(
            f"The logged train/loss leaves out the likelihood's constant, {session.history.constant:.2f} nats; every ELBO and "
            "every validation and test number has it (training.include_const=true logs it too)."
        )


def _tracker(config: Mapping[str, Any]) -> Tracker:
    tracker = build(config.get("tracking", {"kind": "training.Untracked"}), where="tracking")
    if not isinstance(tracker, Tracker):
        raise ConfigError(f"tracking.kind is {config['tracking']['kind']!r}; write tracking=tensorboard.")
    return tracker


def _environment(device: torch.device, thread_count: int) -> dict[str, Any]:
    return {
        "vaekit": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": thread_count,
    }


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
