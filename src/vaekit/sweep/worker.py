"""One process's share of a sweep: take a trial, train it or finish what another began, tell how it ended, until none is left."""

from __future__ import annotations

import errno
import gc
import json
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from hydra.core.override_parser.types import Quote, QuotedString
from optuna.trial import FrozenTrial, TrialState

from vaekit import api
from vaekit.data.errors import DataNotFoundError
from vaekit.errors import RunError
from vaekit.files import held
from vaekit.runs import Run
from vaekit.sweep import results
from vaekit.sweep.claims import Claim
from vaekit.sweep.metric import Metric, kept
from vaekit.sweep.results import FAILED, Result
from vaekit.sweep.sampling import Propose, Settings, as_text
from vaekit.sweep.store import StorageError, Store, place
from vaekit.sweep.watch import Lost, Pruned, Pulse, Watch
from vaekit.training.run import RunFolder

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
    """

    folder: Path
    count: int
    propose: Propose
    metric: Metric
    overrides: Callable[[Settings], list[str]]
    varies_data: bool = False
    config_dir: Path | None = None
    retry: bool = False


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

    def work(self) -> list[Result]:
        """Do what is left, with whoever else does; gives every trial, best first.

        Raises:
            Interrupted: After a checkpoint, if a signal has come.
            RunError: If this machine or the storage cannot go on; the trial in hand stays open.
        """
        while True:
            open_trials = self._open()
            claim = self._left_behind(open_trials) or self._fresh() or self._retried()
            if claim is not None:
                self._do(claim)
                self.board.changed(results.write(self.plan.folder, self.store, self.plan.count))
            elif not open_trials:
                return results.write(self.plan.folder, self.store, self.plan.count)
            else:
                self.board.waits(len(open_trials))
                self.board.changed(results.results(self.store))
                time.sleep(_WAIT_SECONDS)

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

    def _fresh(self) -> Claim | None:
        while True:
            claims = self.store.patiently(self.store.claims.all)
            points, taken = {claim.point for claim in claims}, {claim.settings for claim in claims}
            point = next((number for number in range(self.plan.count) if number not in points), None)
            settings = None if point is None else self.plan.propose(point, taken, self.store.sampled)
            if point is None or settings is None:
                return None
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

    def _do(self, claim: Claim) -> None:
        loaded = json.loads(claim.settings)
        settings = {axis.key: loaded[axis.key] for axis in self.store.definition.axes}
        trial = self.store.trial(claim, settings)
        if trial.state.is_finished():
            return  # told by its owner while we took it over
        self.board.began(trial.number, settings)
        try:
            with Pulse(self.store, claim) as pulse:
                self._train(trial, settings, pulse)
        except Lost:
            return
        except _Busy:
            self.store.patiently(lambda: self.store.claims.busy(claim))
        except BaseException:
            with suppress(StorageError):
                self.store.patiently(lambda: self.store.claims.let_go(claim), 0.0)
            raise
        finally:
            _give_back_memory()

    def _train(self, trial: FrozenTrial, settings: Settings, pulse: Pulse) -> None:
        """Train and tell; what fails by its settings is told as well."""
        home = f"trial-{trial.number:04d}"
        overrides = [*self.plan.overrides(settings), f"output_dir={_quoted(str(self.plan.folder))}", f"name={home}"]
        dialect = [] if self.plan.config_dir is None else ["--config-dir", str(self.plan.config_dir)]
        command = ["vaekit", "train", *overrides, *dialect]
        watch = Watch(self.store, trial, self.plan.metric, pulse, lambda *news: self.board.moved(trial.number, *news))
        path = _begun(self.plan.folder / home, command)
        try:
            if path is None:
                run = api.train(
                    *overrides,
                    config_dir=self.plan.config_dir,
                    progress=lambda say: watch,
                    command=shlex.join(command),
                )
            elif _finished(path):
                run = Run(path)
            elif "pruned" in RunFolder(path).environment():
                raise Pruned(int(RunFolder(path).environment()["pruned"]))
            else:
                run = api.resume(path, progress=lambda say: watch)
            self._succeed(trial, run)
        except Pruned as stopped:
            self._prune(trial, stopped, _begun(self.plan.folder / home, command))
        except (Lost, _Busy):
            raise
        except Exception as error:
            if self._is_of_the_machine(error):
                raise
            path = _begun(self.plan.folder / home, command)
            words = " ".join(f"{type(error).__name__}: {error}".split()) if not _is_ours(error) else str(error)
            self.store.note(trial, error=words, **self._place(path))
            self.store.tell(trial, TrialState.FAIL)

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
