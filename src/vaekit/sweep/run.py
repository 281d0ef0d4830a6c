"""A sweep from its arguments to its tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaekit.errors import ConfigError, RunError
from vaekit.sweep.axes import Choices
from vaekit.sweep.metric import metric_of
from vaekit.sweep.request import Request, Translate, requested
from vaekit.sweep.results import Result
from vaekit.sweep.sampling import LARGE, SAMPLERS, count, proposals, size
from vaekit.sweep.store import Store, checked_url, quiet, sqlite
from vaekit.sweep.worker import Board, Plan, Worker

PRUNERS = ("none", "median")


@dataclass(frozen=True)
class Options:
    """How a sweep is done.

    Attributes:
        sampler: grid, random or tpe; a grid where all axes are lists and nothing else is said, else tpe.
        trials: How many; a grid knows by itself.
        name: Of the sweep.
        storage: URL of a database; a SQLite file in the sweep's folder by default.
        metric: By which number of the validation runs are judged: `metric_of`.
        prune: median stops runs that are worse than half of the others were at the same age; none.
        retry: Try once more what had failed before.
        together: How many trials of one shape are trained as one.
    """

    sampler: str | None = None
    trials: int | None = None
    name: str | None = None
    storage: str | None = None
    metric: str = "score"
    prune: str = "none"
    retry: bool = False
    together: int = 1


class Sweep:
    """A sweep that can be worked on.

    Arguments:
        arguments: Overrides, some with several values.
        options: How it is done.
        translate: From one argument of another dialect to overrides.
        config_dir: The user's own groups.

    Attributes:
        folder: Its runs are here, and its tables: ``output_dir/sweeps/NAME``.
        store: Its storage.
        count: How many trials it has.
        notes: What the user should know before it starts.

    Raises:
        ConfigError: For a mistake in what was asked; nothing has been written.
        RunError: If its folder cannot be made, or its storage not be reached.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        options: Options,
        translate: Translate = lambda text: [text],
        config_dir: Path | None = None,
    ) -> None:
        metric, request = metric_of(options.metric), requested(arguments, translate, config_dir)
        lists = all(isinstance(axis, Choices) for axis in request.axes)
        sampler = options.sampler or ("grid" if lists else "tpe")
        _check(sampler, SAMPLERS, "sampler")
        _check(options.prune, PRUNERS, "prune")
        if options.together < 1:
            raise ConfigError(f"--together {options.together}: expected 1 or more.")
        self.count = count(sampler, request.axes, options.trials)
        self.notes = list(_notes(sampler, self.count, size(request.axes), options))
        definition = request.definition(sampler, metric, options.prune)
        named = _named(request, options.name)
        name = named.name(definition)
        self.folder = Path(str(request.config.output_dir)) / "sweeps" / name
        url = checked_url(options.storage) if options.storage else sqlite(self.folder / "sweep.db")
        if not (self.folder / "sweep.db").exists():
            request.rehearse()
        _make(self.folder)
        with quiet():
            self.store = Store(url, name, definition)
        self.plan = Plan(
            self.folder,
            self.count,
            proposals(sampler, request.axes, definition.seed),
            metric,
            request.overrides,
            request.varies_data,
            config_dir,
            options.retry,
            options.together,
        )

    def work(self, board: Board) -> list[Result]:
        """Work on it until nothing is left; gives every trial, best first.

        Raises:
            Interrupted: After a checkpoint, if a signal has come; the same sweep made again goes on.
            RunError: If this machine or the storage cannot go on.
        """
        try:
            with quiet():
                return Worker(self.store, self.plan, board).work()
        finally:
            self.store.close()


def _named(request: Request, name: str | None) -> Request:
    if name is None:
        return request
    request.config.name = name
    return Request(
        request.axes, (*request.fixed, f"name={name}"), request.translate, request.config, request.config_dir
    )


def _check(value: str, valid: Sequence[str], what: str) -> None:
    if value not in valid:
        raise ConfigError(f"--{what} is {value!r}, expected {', '.join(valid[:-1])} or {valid[-1]}.")


def _notes(sampler: str, number: int, everything: int | None, options: Options) -> Iterator[str]:
    if sampler == "grid" and number > LARGE:
        yield f"this grid has {number:,} runs; --sampler random --trials 50 tries 50 of them, --sampler tpe looks for the best"
    elif everything is not None and options.trials is not None and options.trials > everything:
        yield f"there are {everything:,} combinations, and each is tried once"
    if options.together > 1 and options.prune != "none":
        yield "--prune compares a run with those that have ended: of runs that are trained together, none stops another"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write the sweep's folder {folder}: {error.strerror or error}.") from error
