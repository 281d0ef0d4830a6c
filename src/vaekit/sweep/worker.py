"""One process's share of a sweep: take a trial, train it or finish what another began, tell how it ended, until none is left."""

from __future__ import annotations

import errno
import gc
import json
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from vaekit import api
from vaekit.data import Dataset
from vaekit.data.errors import DataNotFoundError
from vaekit.errors import RunError
from vaekit.files import held
from vaekit.recipe import open_data
from vaekit.runs import Run
from vaekit.sweep import results
from vaekit.sweep.claims import Claim
from vaekit.sweep.metric import Metric, kept
from vaekit.sweep.results import FAILED, Result
from vaekit.sweep.sampling import Propose, Settings, as_text
from vaekit.sweep.store import StorageError, Store, place
from vaekit.sweep.watch import Lost, Pruned, Pulse, Watch
from vaekit.training.run import RunFolder
from vaekit.training.several import Training, is_number, several

# between two looks at the storage while other processes have all that is left
_WAIT_SECONDS = 1.0
# what is wrong with this machine and not with the settings: no space, no right to write
_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class Board(Protocol):
    """Where a person sees how the sweep stands."""

    def began(self, trial: int, settings: Settings) -> None:
        """A trial begins, or goes on."""

    def moved(self, trial: int, epoch: int, epochs: int, score: float | None) -> None:
        """An epoch of it has ended."""

    def changed(self, found: Sequence[Result]) -> None:
        """What all processes together have done."""

    def waits(self, others: int) -> None:
        """So many trials are left, all in other processes."""

    def note(self, line: str) -> None:
        """Something that a person should know."""


@dataclass(frozen=True)
class Plan:
    """What a sweep's processes all know.

    Attributes:
        folder: Of the sweep: its runs, its tables.
        count: How many trials.
        propose: From the number of a trial to its settings.
        metric: By which runs are judged.
        overrides: From settings to the overrides of their training.
        varies_data: Whether the settings choose the data.
        config_dir: The user's own groups.
        retry: Whether what had failed before this command is tried once more.
        together: How many trials of one shape a process trains as one.
    """

    folder: Path
    count: int
    propose: Propose
    metric: Metric
    overrides: Callable[[Settings], list[str]]
    varies_data: bool = False
    config_dir: Path | None = None
    retry: bool = False
    together: int = 1


class Worker:
    """Works on a sweep until nothing is left.

    Arguments:
        store: Where the sweep is.
        plan: What it is.
        board: Where it is shown.
    """

    def __init__(self, store: Store, plan: Plan, board: Board) -> None:
        self.store, self.plan, self.board = store, plan, board
        self._again = self._failed() if plan.retry else set()
        self._noted: set[str] = set()

    def work(self) -> list[Result]:
        """Do what is left, with whoever else does; gives every trial, best first.

        Raises:
            Interrupted: After a checkpoint, if a signal has come.
            RunError: If this machine or the storage cannot go on; the trial in hand stays open.
        """
        while True:
            open_trials = self._open()
            claims = self._claimed(open_trials)
            if claims:
                self._do(claims)
                self.board.changed(results.write(self.plan.folder, self.store, self.plan.count))
            elif not (open_trials := self._open()):  # asked again: what was not to be had may have been claimed since
                return results.write(self.plan.folder, self.store, self.plan.count)
            else:
                self.board.waits(len(open_trials))
                self.board.changed(results.results(self.store))
                time.sleep(_WAIT_SECONDS)

    def _claimed(self, open_trials: Sequence[Claim]) -> list[Claim]:
        """As many trials as are trained together; of a grid, those of the shape of the first, wherever in it they are."""
        claims: list[Claim] = []
        try:
            while len(claims) < self.plan.together:
                like = self._shape(json.loads(claims[0].settings)) if claims else None
                claim = self._left_behind(open_trials) or self._fresh(like) or self._retried()
                if claim is None:
                    break
                claims.append(claim)
                open_trials = [
                    other for other in open_trials if (other.point, other.attempt) != (claim.point, claim.attempt)
                ]
        except BaseException:  # the storage, a signal: those that we have are for others to take
            self._let_go(claims)
            raise
        return claims

    def _let_go(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            with suppress(StorageError):
                self.store.patiently(partial(self.store.claims.let_go, claim), 0.0)

    def _shape(self, settings: Settings) -> list[str] | None:
        """What of some settings is more than a number of the training; None if that does not matter."""
        if self.plan.together == 1 or self.store.definition.sampler != "grid":
            return None
        overrides = self.plan.overrides({axis.key: settings[axis.key] for axis in self.store.definition.axes})
        return [text for text in overrides if not is_number(text.partition("=")[0].lstrip("+"))]

    def _open(self) -> list[Claim]:
        """Claimed trials that have not ended, whoever has them."""
        claims = self.store.patiently(self.store.claims.all)  # before the trials: one that ends in between has ended
        ended = {place(trial) for trial in self.store.trials() if trial.state.is_finished()}
        return [claim for claim in claims if (claim.point, claim.attempt) not in ended]

    def _left_behind(self, open_trials: Sequence[Claim]) -> Claim | None:
        claims = self.store.claims
        taken = (self._over(claim) for claim in open_trials if claims.free(claim))
        return next((claim for claim in taken if claim is not None), None)

    def _over(self, claim: Claim) -> Claim | None:
        return self.store.patiently(lambda: self.store.claims.take_over(claim))

    def _fresh(self, like: list[str] | None = None) -> Claim | None:
        passed: set[int] = set()  # of another shape
        while True:
            claims = self.store.patiently(self.store.claims.all)
            points, taken = {claim.point for claim in claims} | passed, {claim.settings for claim in claims}
            point = next((number for number in range(self.plan.count) if number not in points), None)
            settings = None if point is None else self.plan.propose(point, taken, self.store.sampled)
            if point is None or settings is None:
                return None
            if like is not None and self._shape(settings) != like:
                passed.add(point)
                continue
            claim = self._take(point, 0, as_text(settings))
            if claim is not None:
                return claim

    def _retried(self) -> Claim | None:
        for point, attempt, settings in sorted(self._again):
            self._again.discard((point, attempt, settings))
            claim = self._take(point, attempt + 1, settings)
            if claim is not None:
                return claim
        return None

    def _take(self, point: int, attempt: int, settings: str) -> Claim | None:
        return self.store.patiently(lambda: self.store.claims.take(point, attempt, settings))

    def _failed(self) -> set[tuple[int, int, str]]:
        found = [result for result in results.results(self.store) if result.state == FAILED]
        return {(result.point, result.attempt, as_text(result.settings)) for result in found}

    def _do(self, claims: Sequence[Claim]) -> None:
        """Train and tell, one trial or several at a time.

        Raises:
            Interrupted: After a checkpoint of each, if a signal has come.
            RunError: If this machine or the storage cannot go on.
        """
        told, stop = set[Claim](), None
        try:
            with ExitStack() as pulses:
                begun = [trial for claim in claims if (trial := self._begun(claim, pulses)) is not None]
                told |= set(claims) - {trial.claim for trial in begun}
                for trial, outcome in self._trained(begun):
                    if isinstance(outcome, KeyboardInterrupt):
                        stop = outcome  # the others have stopped as well, and say so in their logs
                        continue
                    self._end(trial, outcome)
                    told.add(trial.claim)
            if stop is not None:
                raise stop
        finally:
            self._let_go(claim for claim in claims if claim not in told)
            _give_back_memory()

    def _begun(self, claim: Claim, pulses: ExitStack) -> _Trial | None:
        """The trial of a claim, alive until `pulses` end; None if its owner has told how it ended while we took it over."""
        loaded = json.loads(claim.settings)
        settings = {axis.key: loaded[axis.key] for axis in self.store.definition.axes}
        trial = self.store.trial(claim, settings)
        if trial.state.is_finished():
            return None
        self.board.began(trial.number, settings)
        home = f"trial-{trial.number:04d}"
        overrides = [*self.plan.overrides(settings), f"output_dir={_quoted(str(self.plan.folder))}", f"name={home}"]
        dialect = [] if self.plan.config_dir is None else ["--config-dir", str(self.plan.config_dir)]
        pulse = pulses.enter_context(Pulse(self.store, claim))
        return _Trial(
            claim, trial, overrides, ["vaekit", "train", *overrides, *dialect], self.plan.folder / home, pulse
        )

    def _trained(self, trials: Sequence[_Trial]) -> Iterator[tuple[_Trial, Run | BaseException]]:
        """Each trial with its run, or with what it was left by."""
        opened = _OpenedOnce()
        trainings = [self._training(trial, opened) for trial in trials]
        for which, outcome in several(trainings, self._note, [f"trial {trial.number}" for trial in trials]):
            yield trials[which], outcome

    def _training(self, trial: _Trial, opened: api.Opened) -> Training[Run]:
        """What is left to do of a trial."""
        watch = Watch(
            self.store, trial.stored, self.plan.metric, trial.pulse, lambda *news: self.board.moved(trial.number, *news)
        )
        path = _begun(trial.home, trial.command)
        if path is None:
            return (
                yield from api.training(
                    *trial.overrides,
                    config_dir=self.plan.config_dir,
                    progress=lambda say: watch,
                    command=shlex.join(trial.command),
                    opened=opened,
                )
            )
        if _finished(path):
            return Run(path)
        if "pruned" in RunFolder(path).environment():
            raise Pruned(int(RunFolder(path).environment()["pruned"]))
        return (yield from api.resuming(path, progress=lambda say: watch, opened=opened))

    def _end(self, trial: _Trial, outcome: Run | BaseException) -> None:
        """Tell how a trial has ended; what fails by its settings is told as well."""
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            self._succeed(trial.stored, outcome)
        except Pruned as stopped:
            self._prune(trial.stored, stopped, _begun(trial.home, trial.command))
        except Lost:
            return
        except _Busy:
            self.store.patiently(lambda: self.store.claims.busy(trial.claim))
        except Exception as error:
            if self._is_of_the_machine(error):
                raise
            path = _begun(trial.home, trial.command)
            words = " ".join(f"{type(error).__name__}: {error}".split()) if not _is_ours(error) else str(error)
            self.store.note(trial.stored, error=words, **self._place(path))
            self.store.tell(trial.stored, TrialState.FAIL)

    def _note(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            self.board.note(line)

    def _succeed(self, trial: FrozenTrial, run: Run) -> None:
        row = kept(run.history)
        if row is None:
            raise RunError(f"{run.path / 'metrics.jsonl'} names no epoch whose weights were kept.")
        seconds = run.folder.environment().get("seconds")
        label, epoch = self.plan.metric.label(row), int(row["epoch"])
        self.store.note(trial, metric=label, epoch=epoch, seconds=seconds, **self._place(run.path))
        self.store.tell(trial, TrialState.COMPLETE, self.plan.metric.of(row))

    def _prune(self, trial: FrozenTrial, stopped: Pruned, path: Path | None) -> None:
        assert path is not None
        folder = RunFolder(path)
        if "pruned" not in folder.environment():
            folder.log(str(stopped))
            folder.write_environment(pruned=stopped.epoch)  # told or not, it is not trained again
        rows = folder.rows()
        label = self.plan.metric.label(rows[-1]) if rows else ""
        self.store.note(trial, metric=label, epoch=stopped.epoch, **self._place(path))
        self.store.tell(trial, TrialState.PRUNED)

    def _place(self, path: Path | None) -> dict[str, str]:
        run = "" if path is None else path.relative_to(self.plan.folder).as_posix()
        return {"run": run, "machine": platform.node()}

    def _is_of_the_machine(self, error: BaseException) -> bool:
        """Whether no other settings would do better here: then the sweep stops, and nothing is recorded as failed."""
        if isinstance(error, StorageError):
            return True
        if isinstance(error, DataNotFoundError):
            return not self.plan.varies_data
        return any(isinstance(cause, OSError) and cause.errno in _OF_THE_MACHINE for cause in _causes(error))


@dataclass(frozen=True)
class _Trial:
    """A trial in our hands.

    Attributes:
        claim: On it.
        stored: As the storage knows it.
        overrides: Of its training.
        command: By which it could be trained alone.
        home: The folder of its run.
        pulse: Of its claim.
    """

    claim: Claim
    stored: FrozenTrial
    overrides: Sequence[str]
    command: Sequence[str]
    home: Path
    pulse: Pulse

    @property
    def number(self) -> int:
        """In the sweep."""
        return int(self.stored.number)


class _OpenedOnce:
    """Opens data once for trials that are trained at a time: they all look at one data set, on one device."""

    def __init__(self) -> None:
        self._known: dict[str, Dataset] = {}

    def __call__(self, node: Mapping[str, Any], device: torch.device) -> Dataset:
        """The data of a node."""
        key = json.dumps(
            [OmegaConf.to_container(node) if isinstance(node, DictConfig) else node, str(device)], default=str
        )
        if key not in self._known:
            self._known[key] = open_data(node).to(device)
        return self._known[key]


class _Busy(Exception):  # noqa: N818
    """Another process trains in the run's folder."""


def _begun(home: Path, command: Sequence[str]) -> Path | None:
    """The run that has been begun in a trial's folder by this command, if any.

    Raises:
        _Busy: If a process is at work in it.
    """
    for config in sorted(home.glob("*/config.yaml"), reverse=True):
        with held(config) as alone:
            if not alone:
                raise _Busy
            if not (config.parent / "environment.json").exists():  # killed in its first moment: nothing to go on with
                shutil.rmtree(config.parent)
                continue
        present = str(RunFolder(config.parent).environment().get("command", ""))
        if _settled(shlex.split(present)) == _settled(command):
            return config.parent
    return None


def _settled(command: Sequence[str]) -> list[str]:
    # the folder may have been moved, or be written another way
    return [text for text in command if not text.startswith("output_dir=")]


def _finished(path: Path) -> bool:
    # the page is the last thing that a run writes
    return "finished" in RunFolder(path).environment() and (path / "report.html").exists()


def _quoted(text: str) -> str:
    return QuotedString(text.replace("${", "\\${"), Quote.double).with_quotes()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.startswith("vaekit.")


def _give_back_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # other processes of the sweep may want it
