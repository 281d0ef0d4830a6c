"""Where a run is shown as well: TensorBoard, Weights & Biases, MLflow. `metrics.jsonl` stays the truth."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from vaekit.errors import ConfigError
from vaekit.training.history import Row
from vaekit.training.loop import Callback, Progress


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of the run.

    Attributes:
        path: The run folder.
        config: The resolved configuration.
        step: Steps done already; above 0 for a run that goes on.
    """

    path: Path
    config: Mapping[str, Any]
    step: int = 0

    @property
    def name(self) -> str:
        """What people call the run: its name, and when it began."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def identifier(self) -> str:
        """The same for a run that goes on, and another for any other run."""
        return hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:16]


class Tracker(ABC):
    """A place outside the run folder where a run can be watched.

    Attributes:
        package: What has to be installed.
    """

    package: str

    def available(self) -> None:
        """Raise unless the tracker can work here; asked before anything is trained.

        Raises:
            ConfigError: Naming what to install.
        """
        try:
            self._library()
        except ImportError as error:
            raise ConfigError(
                f"tracking={type(self).__name__.lower()} needs the package {self.package} ({error}): pip install 'vaekit[track]'."
            ) from error

    @abstractmethod
    def _library(self) -> Any:
        """The imported package."""

    @abstractmethod
    def begin(self, run: Tracked) -> None:
        """Open the run there, or go on with it."""

    @abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers after so many steps, by name: ``train/loss``, ``train/kl_loss``, ``val/loss``."""

    @abstractmethod
    def pictures(self, files: Mapping[str, Path], step: int) -> None:
        """Pictures (PNG) after so many steps, by name."""

    @abstractmethod
    def end(self, finished: bool) -> None:
        """Close; `finished` unless the training was stopped."""


class Untracked(Tracker):
    """Nowhere but the run folder."""

    package = ""

    def _library(self) -> Any:
        return None

    def begin(self, run: Tracked) -> None:
        """Nothing."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Nothing."""

    def pictures(self, files: Mapping[str, Path], step: int) -> None:
        """Nothing."""

    def end(self, finished: bool) -> None:
        """Nothing."""


class TensorBoard(Tracker):
    """Event files in the run folder's `tensorboard`: ``tensorboard --logdir runs`` shows all runs beside each other."""

    package = "tensorboard"

    def _library(self) -> Any:
        return import_module("torch.utils.tensorboard")

    def begin(self, run: Tracked) -> None:
        """Open the event file; what an earlier part of the run wrote after the step it goes on from is hidden."""
        again = {"purge_step": run.step + 1} if run.step else {}
        self._writer = self._library().SummaryWriter(str(run.path / "tensorboard"), **again)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One chart for each name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def pictures(self, files: Mapping[str, Path], step: int) -> None:
        """On the tab of images."""
        import numpy as np
        from PIL import Image

        for name, file in files.items():
            with Image.open(file) as image:
                self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def end(self, finished: bool) -> None:
        """Close the file."""
        self._writer.close()


class WandB(Tracker):
    """Weights & Biases.

    Arguments:
        project: Of the run there.
        entity: Team or user; None for the one that is logged in.
        mode: online, or offline: everything stays in the run folder's `wandb` until ``wandb sync`` sends it.
    """

    package = "wandb"

    def __init__(
        self, project: str = "vaekit", entity: str | None = None, mode: Literal["online", "offline"] = "online"
    ) -> None:
        self.project, self.entity, self.mode = project, entity, mode

    def _library(self) -> Any:
        return import_module("wandb")

    def begin(self, run: Tracked) -> None:
        """Open the run, under the same number when it goes on."""
        self._wandb = self._library()
        self._run = self._wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            dir=str(run.path),
            name=run.name,
            id=run.identifier,
            resume="allow",
            config=dict(run.config),
            settings=self._wandb.Settings(console="off", silent=True),
        )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """A row of its history."""
        self._run.log(dict(values), step=step)

    def pictures(self, files: Mapping[str, Path], step: int) -> None:
        """In its media panels."""
        self._run.log({name: self._wandb.Image(str(file)) for name, file in files.items()}, step=step)

    def end(self, finished: bool) -> None:
        """Send what is left."""
        self._run.finish(exit_code=0 if finished else 1)


class MLflow(Tracker):
    """MLflow.

    Arguments:
        experiment: Under which the run is filed.
        uri: Of the tracking server or its folder; None for what the environment says, or `mlruns` below the working folder.
    """

    package = "mlflow"

    _TAG = "vaekit.run"

    def __init__(self, experiment: str = "vaekit", uri: str | None = None) -> None:
        self.experiment, self.uri = experiment, uri

    def _library(self) -> Any:
        return import_module("mlflow")

    def begin(self, run: Tracked) -> None:
        """Open the run, or the one with its tag when it goes on."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").resolve().as_uri()
        if uri.startswith(("file:", "/", ".")):  # a plain folder is kept out of service unless asked for
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = self._library().MlflowClient(tracking_uri=uri)
        known = self._client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else self._client.create_experiment(self.experiment)
        earlier = self._client.search_runs([experiment], f"tags.`{self._TAG}` = '{run.identifier}'", max_results=1)
        if earlier:
            self._run = earlier[0].info.run_id
            self._client.update_run(self._run, "RUNNING")
            return
        opened = self._client.create_run(experiment, run_name=run.name, tags={self._TAG: run.identifier})
        self._run = opened.info.run_id
        for name, value in _flat(run.config).items():
            self._client.log_param(self._run, name, str(value)[:500])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Metrics of the run."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def pictures(self, files: Mapping[str, Path], step: int) -> None:
        """Artifacts, in a folder of figures."""
        for file in files.values():
            self._client.log_artifact(self._run, str(file), "figures")

    def end(self, finished: bool) -> None:
        """Mark the run as finished, or as killed."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


class Tracking(Callback):
    """Hands a training's rows and pictures to a tracker. Where that fails the training goes on, and says so once.

    Arguments:
        tracker: To hand to.
        run: The run.
        warn: Told once when the tracker fails.
    """

    def __init__(self, tracker: Tracker, run: Tracked, warn: Callable[[str], None]) -> None:
        self.tracker, self.warn = tracker, warn
        self._lost = False
        self._safely(lambda: tracker.begin(run))

    def epoch(self, progress: Progress, row: Row) -> None:
        """The numbers of the row that belong to a part of the data."""
        values = {name: value for name, value in row.items() if "/" in name}
        self._safely(lambda: self.tracker.scalars(values, progress.step))

    def finish(self, metrics: Mapping[str, float], figures: Path, step: int) -> None:
        """The numbers on the test split, the pictures, and the end."""
        files = {f"figures/{file.stem}": file for file in sorted(figures.glob("*.png"))}
        self._safely(lambda: self.tracker.scalars({f"test/{name}": value for name, value in metrics.items()}, step))
        self._safely(lambda: self.tracker.pictures(files, step))
        self._safely(lambda: self.tracker.end(finished=True))

    def stop(self) -> None:
        """The end of a training that was stopped."""
        self._safely(lambda: self.tracker.end(finished=False))

    def _safely(self, act: Callable[[], None]) -> None:
        if self._lost:
            return
        try:
            act()
        except Exception as error:  # whatever a service or its client may raise: a run is worth more than its display
            self._lost = True
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            self.warn(
                f"Tracking with {type(self.tracker).__name__} has failed and is left aside: {said}. metrics.jsonl has all numbers."
            )


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
