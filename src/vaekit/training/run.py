"""The run folder: plain files that every command reads and only a training writes."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from vaekit._version import __version__
from vaekit.errors import RunError
from vaekit.files import as_json, held, is_folder_name, remove_drafts, write_atomically
from vaekit.training.history import Row
from vaekit.training.tensors import TensorFile, packed

_LARGEST_CONFIG, _DEEPEST_CONFIG = 1 << 16, 32
_SECTIONS = (
    "data", "network", "posterior", "prior", "likelihood", "objective", "optimizer", "training", "evaluation", "architecture",
)  # fmt: skip
_SETTINGS = ("name", "seed", "device")


class RunFolder:
    """One run on disk.

    Arguments:
        path: An existing run folder; `create` makes a new one.

    Raises:
        RunError: If `path` is no run folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not (self.path / "config.yaml").is_file():
            raise RunError(f"{self.path} is not a run folder: it has no config.yaml.{_near(self.path)}")

    @classmethod
    def create(cls, output_dir: Path, name: str, config: Mapping[str, Any]) -> RunFolder:
        """A new folder ``output_dir/name/date-time`` with its configuration.

        Raises:
            RunError: If it cannot be written; names path and cause.
        """
        stamp = datetime.now(UTC).astimezone().strftime("%Y-%m-%d_%H-%M-%S")
        parent = output_dir / name
        if not is_folder_name(name):
            raise RunError(f"The run's name {name!r} is no name of a folder below {output_dir}.")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            path = _fresh(parent, stamp)
            plain = json.loads(json.dumps(config))  # nodes that are one object would become YAML aliases
            write_atomically(path / "config.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode())
        except OSError as error:
            raise RunError(f"Cannot write a run folder below {parent}: {error.strerror or error}.") from error
        return cls(path)

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        """Where the pictures are; made when first asked for."""
        folder = self.path / "figures"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def frames(self) -> Path:
        """Where the pictures of the animation are."""
        return self.path / "frames"

    @property
    def spare(self) -> Path:
        """Where this process may keep the best weights while it trains; `clean` removes what a kill left there."""
        return self.path / f".best.safetensors.{os.getpid()}-0.draft"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within this context no other process can train in this folder.

        Raises:
            RunError: If one does.
        """
        with held(self.path / "config.yaml") as got:
            if not got:
                raise RunError(f"Another process is training in {self.path}; wait for it, or stop it first.")
            yield

    def config(self) -> dict[str, Any]:
        """The resolved configuration.

        Raises:
            RunError: If the file is not plain YAML of a configuration; it is read as data, whoever wrote it.
        """
        return read_config(self.path / "config.yaml")

    def environment(self) -> dict[str, Any]:
        """What the run was made with and when; empty if that was never written."""
        return self._read_json("environment.json")

    def write_environment(self, **entries: Any) -> None:
        """Add entries to `environment.json`."""
        self._write_json("environment.json", {**self.environment(), **entries})

    def write_metrics(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace `metrics.json`."""
        self._write_json("metrics.json", metrics)

    def write_restore(self, state: Mapping[str, Any]) -> None:
        """Write `columns.json`: how what the model puts out becomes what the user gave."""
        self._write_json("columns.json", state)

    def metrics(self) -> dict[str, Any]:
        """What the last evaluation found; empty before it."""
        return self._read_json("metrics.json")

    def write_symptoms(self, symptoms: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace `symptoms.json`: what the diagnosis asks and no evaluation measures."""
        self._write_json("symptoms.json", symptoms)

    def symptoms(self) -> dict[str, Any]:
        """What the diagnosis has measured; empty for runs of before version 0.3."""
        return self._read_json("symptoms.json")

    def append_row(self, row: Row) -> None:
        """Add a row to `metrics.jsonl`."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(as_json(row) + "\n")

    def sync_rows(self) -> None:
        """Wait until the rows are on the disk."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())

    def rows(self, count: int | None = None) -> list[Row]:
        """The first `count` rows of `metrics.jsonl`, or all; a last line that a kill cut off is not one.

        Raises:
            RunError: If there are fewer than `count`.
        """
        file = self.path / "metrics.jsonl"
        lines = file.read_text("utf-8").split("\n")[:-1] if file.exists() else []
        if count is not None and len(lines) < count:
            raise RunError(f"{file} has {len(lines)} rows, but the checkpoint was made after {count}. Train anew.")
        try:
            return [dict(json.loads(line)) for line in lines[:count]]
        except (ValueError, TypeError, RecursionError) as error:
            raise RunError(f"{file} is damaged: {error}.") from error

    def keep_rows(self, rows: list[Row]) -> None:
        """Make `metrics.jsonl` those rows: what was logged after the checkpoint will be logged again."""
        write_atomically(self.path / "metrics.jsonl", "".join(as_json(row) + "\n" for row in rows).encode())

    def log(self, line: str) -> None:
        """Add a line to `train.log`, with the time."""
        now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
        with (self.path / "train.log").open("a", encoding="utf-8") as file:
            file.write(f"{now}  {line}\n")

    def write_model(self, weights: Mapping[str, Tensor]) -> None:
        """Replace `model.safetensors`."""
        write_atomically(self.path / "model.safetensors", packed(weights, {"vaekit": __version__}))

    def model(self) -> Mapping[str, Tensor]:
        """The weights of the finished training, each read when it is asked for.

        Raises:
            RunError: If the training has not finished, or the file is damaged.
        """
        file = self.path / "model.safetensors"
        command = shlex.join(["vaekit", "resume", str(self.path)])
        if not file.exists():
            raise RunError(f"The training in {self.path} has not finished. Go on with: {command}")
        try:
            return TensorFile(file)
        except Exception as error:  # safetensors raises its own class, which is not public
            raise RunError(f"{file} is damaged: {error}. Make it anew of the last checkpoint: {command}") from error

    def model_fingerprint(self) -> str:
        """SHA-256 of `model.safetensors`: what was made from the weights can say from which."""
        with (self.path / "model.safetensors").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def clean(self) -> None:
        """Remove what interrupted writes left behind."""
        remove_drafts(self.path)
        remove_drafts(self.figures)
        if self.frames.exists():
            remove_drafts(self.frames)

    def _read_json(self, name: str) -> dict[str, Any]:
        file = self.path / name
        try:
            return dict(json.loads(file.read_text("utf-8"))) if file.exists() else {}
        except (ValueError, TypeError, RecursionError) as error:
            raise RunError(f"{file} is damaged: {error}.") from error

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        write_atomically(self.path / name, (as_json(content, indent=2) + "\n").encode())


def read_config(file: Path) -> dict[str, Any]:
    """A configuration file as plain data: no tags, no aliases, no interpolations, of bounded size and depth.

    Raises:
        RunError: For anything else.
    """
    try:
        if file.stat().st_size > _LARGEST_CONFIG:
            raise RunError(f"{file} has {file.stat().st_size} bytes, more than any configuration.")
        text = file.read_text("utf-8")
        _refuse_features(text)
        config = yaml.safe_load(text)
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise RunError(f"{file} is not a plain configuration: {' '.join(str(error).split())[:200]}") from error
    lacking = list(_lacking(config))
    if lacking:
        raise RunError(f"{file} is not the configuration of a run: it has no {', '.join(lacking)}.")
    return dict(config)


def _refuse_features(text: str) -> None:
    """No aliases, no tags, no depth: none of them occurs in what vaekit writes, and each has been used for an attack."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None or depth > _DEEPEST_CONFIG:
            raise ValueError(f"it has an alias, a tag, or more than {_DEEPEST_CONFIG} levels")


def _lacking(config: Any) -> Iterator[str]:
    """What a configuration must have and this one has not."""
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        yield "names with values"
        return
    yield from (name for name in _SECTIONS if not isinstance(config.get(name), dict))
    yield from (name for name in _SETTINGS if name not in config)


def _fresh(parent: Path, stamp: str) -> Path:
    for number in range(1, 1000):
        path = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise OSError(f"a thousand runs started in the second {stamp}")


def _near(path: Path) -> str:
    # two levels are name and date; a search through all of a disk would help nobody
    found = [file.parent for depth in ("*", "*/*", "*/*/*") for file in path.glob(f"{depth}/config.yaml")]
    runs = sorted(found, key=lambda run: run.name)
    return f" Did you mean {runs[-1]}?" if runs else " `vaekit train` prints the folder of its run as its last line."
