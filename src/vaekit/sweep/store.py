"""The storage of a sweep: an Optuna study and the claims on its trials, in one database."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from vaekit.errors import ConfigError, RunError
from vaekit.sweep.claims import Claim, Claims
from vaekit.sweep.definition import Definition
from vaekit.sweep.sampling import Settings, distributions, parameters

T = TypeVar("T")


class StorageError(RunError):
    """A storage that cannot be reached."""


# a SQLite file that another process writes is locked for milliseconds; a server may be away while it starts anew
PATIENCE, _FIRST_PATIENCE, _LOCK_SECONDS = 120.0, 10.0, 60.0
# runs that must have ended, and the share of the epochs that must be over, before one is compared and stopped
_STARTUP_RUNS, _WARMUP = 4, 0.2


class Store:
    """A sweep in its storage.

    Arguments:
        url: Of the database, as SQLAlchemy writes it.
        name: Of the sweep.
        definition: Of the sweep.

    Raises:
        ConfigError: If the URL is none, or the name is that of another sweep.
        StorageError: If the database cannot be reached.
    """

    def __init__(self, url: str, name: str, definition: Definition) -> None:
        self.url, self.name, self.definition = url, name, definition
        self.storage = self._first(lambda: _connected(url))
        self.claims = self._first(lambda: Claims(self.storage.engine, name))
        self._agree()
        self.study = self._first(self._opened)

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return shown(self.url)

    def close(self) -> None:
        """Give the connections back."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    def trials(self, patience: float = PATIENCE) -> list[FrozenTrial]:
        """Every trial, oldest first."""
        return self.patiently(lambda: self.study.get_trials(deepcopy=False), patience)

    def sampled(self) -> optuna.Study:
        """The study as a sampler may see it: with what other processes have just told."""
        return self.patiently(self._opened)

    def trial(self, claim: Claim, settings: Settings) -> FrozenTrial:
        """The trial of a claim that is ours; made if nobody has made it, in one transaction, so that none is ever half made."""
        found = self._find(claim)
        if found is None:
            axes = self.definition.axes
            fresh = create_trial(
                state=TrialState.RUNNING,
                params=parameters(axes, settings),
                distributions=distributions(axes),
                user_attrs={"point": claim.point, "attempt": claim.attempt, "settings": settings},
            )

            def made() -> FrozenTrial | None:  # asked again, it does not make another
                if self._find(claim) is None:
                    self.study.add_trial(fresh)
                return self._find(claim)

            found = self.patiently(made)
        assert found is not None
        return found

    def note(self, trial: FrozenTrial, **entries: Any) -> None:
        """Write down something about a trial; of one that has ended everything is written."""
        with suppress(UpdateFinishedTrialError):
            for entry in entries.items():
                self.patiently(partial(self.storage.set_trial_user_attr, trial._trial_id, *entry))

    def report(self, trial: FrozenTrial, epoch: int, value: float, patience: float = PATIENCE) -> None:
        """A score on the way."""
        self.patiently(lambda: self.storage.set_trial_intermediate_value(trial._trial_id, epoch, value), patience)

    def hopeless(self, trial: FrozenTrial, epochs: int) -> bool:
        """Whether the pruner would stop this trial, after what has been reported."""
        pruner = _pruner(self.definition.prune, epochs)
        return self.patiently(lambda: pruner.prune(self.study, self.storage.get_trial(trial._trial_id)))

    def tell(self, trial: FrozenTrial, state: TrialState, value: float | None = None) -> None:
        """Say how a trial has ended. Saying it again changes nothing."""

        def told() -> None:
            try:
                self.study.tell(trial.number, value, state, skip_if_finished=True)
            except UpdateFinishedTrialError:  # in the same moment by whoever took the trial for left behind
                return

        self.patiently(told)

    def patiently(self, ask: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Ask the database, again if it is busy or away, for so long.

        Raises:
            StorageError: If it stays so.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                return ask()
            except (StorageInternalError, SQLAlchemyError) as error:
                if time.monotonic() >= end:
                    raise StorageError(
                        f"The storage {self.shown} cannot be used: {_cause(error)}. What has been trained is kept; the same "
                        "command goes on."
                    ) from error
                time.sleep(random.uniform(0.05, 0.5))  # noqa: S311

    def _first(self, ask: Callable[[], T]) -> T:
        # two processes that start at once may both make the tables, and one is told that they exist
        return self.patiently(ask, _FIRST_PATIENCE)

    def _agree(self) -> None:
        own = self.definition.as_json()
        present = self._first(lambda: self.claims.define(own))
        if present != own:
            differences = "; ".join(self.definition.differences(present)[:5])
            raise ConfigError(
                f"The sweep {self.name!r} in {self.shown} is another one: {differences}. Give this one a name of its own, "
                "--name NAME, or write the old settings."
            )

    def _opened(self) -> optuna.Study:
        with quiet():
            return optuna.create_study(
                storage=self.storage,
                study_name=self.name,
                direction="maximize" if self.definition.higher else "minimize",
                sampler=optuna.samplers.RandomSampler(0),  # settings come from `sampling`, never from the study
                load_if_exists=True,
            )

    def _find(self, claim: Claim) -> FrozenTrial | None:
        return next((trial for trial in self.trials() if place(trial) == (claim.point, claim.attempt)), None)


def place(trial: FrozenTrial) -> tuple[int, int]:
    """Which of the sweep's trials this is, and the how manieth attempt."""
    return int(trial.user_attrs["point"]), int(trial.user_attrs["attempt"])


def settings_of(trial: FrozenTrial) -> Mapping[str, str]:
    """What the trial tries."""
    settings: Mapping[str, str] = trial.user_attrs["settings"]
    return settings


def sqlite(file: Path) -> str:
    """The URL of a SQLite file."""
    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def checked_url(text: str) -> str:
    """A storage URL that SQLAlchemy can read.

    Raises:
        ConfigError: For anything else.
    """
    try:
        make_url(text)
    except ArgumentError as error:
        raise ConfigError(
            f"--storage {text}: expected the URL of a database, such as sqlite:///sweep.db or postgresql://user@host/name."
        ) from error
    return text


def shown(url: str) -> str:
    """A URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Within this context Optuna logs errors alone."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _connected(url: str) -> RDBStorage:
    options = {"connect_args": {"timeout": _LOCK_SECONDS}} if make_url(url).get_backend_name() == "sqlite" else {}
    try:
        with quiet():
            return RDBStorage(url, engine_kwargs=options)
    except NoSuchModuleError as error:
        raise ConfigError(f"--storage {shown(url)}: SQLAlchemy knows no such database ({error}).") from error
    except ImportError as error:
        drivers = {"postgresql": "psycopg2-binary", "mysql": "mysqlclient"}
        name = make_url(url).get_backend_name()
        write = (
            f"; write pip install {drivers[name]}" if name in drivers and "+" not in make_url(url).drivername else ""
        )
        raise ConfigError(
            f"--storage {shown(url)}: the driver of this database is not installed{write} ({' '.join(str(error).split())})"
        ) from error
    except RuntimeError as error:  # tables of another version of Optuna
        raise ConfigError(f"--storage {shown(url)}: {' '.join(str(error).split())}") from error


def _pruner(kind: str, epochs: int) -> BasePruner:
    if kind == "none":
        return NopPruner()
    return MedianPruner(n_startup_trials=_STARTUP_RUNS, n_warmup_steps=max(1, round(_WARMUP * epochs)))


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.strip("()").removeprefix("sqlite3.OperationalError) ")
