"""Train many settings: every combination of lists, or as many draws as you say; resumable, on one machine or on many.

Each trial is an ordinary run folder below OUTPUT_DIR/sweeps/NAME, beside sweep.csv, sweep.json and the storage. Killed and started
again, the same command finishes what is missing and repeats nothing; started twice, or on several machines with one --storage, its
processes share the trials.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vaekit.cli.aliases import table, translate
from vaekit.cli.output import say
from vaekit.errors import ConfigError

if TYPE_CHECKING:
    from vaekit.sweep.results import Result
    from vaekit.sweep.run import Sweep
    from vaekit.sweep.worker import Board

VALUES = """values, in Hydra's grammar; quote what a shell would read itself:
  latent_dim=2,4,8                        a list
  model=cnn,mlp                           of parts, too; 'likelihood=glob(normal*)' takes all that fit
  'network.encoder.hidden_dims=[64,32],[32]'   of lists
  'latent_dim=range(16,80,16)'            16, 32, 48, 64: a list without its end
  'sigma=interval(0.1,1)'                 any number between, for random and tpe
  'optimizer.lr=log(1e-4,1e-2)'           evenly on a logarithmic scale; or tag(log,interval(1e-4,1e-2))
  'latent_dim=int(log(2,256))'            whole numbers

An experiment's file can say it as well: its root key `sweep: {latent_dim: [32, 64], optimizer: {lr: "log(1e-4,1e-2)"}}`.

examples:
  vaekit sweep latent_dim=2,4,8 beta=0.5,1,2
  vaekit sweep 'optimizer.lr=log(1e-4,1e-2)' 'latent_dim=int(log(2,64))' --trials 30 --prune median
  vaekit sweep 'seed=range(16)' beta=0.5,1 --together 16
  vaekit sweep latent_dim=2,4,8 --name widths --storage postgresql://me@host/sweeps
  vaekit train latent_dim=2,4 -m
"""


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit sweep`, and `vaekit train -m`."""
    arguments = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    _add(parser)
    options, others = parser.parse_known_args(arguments)
    if find_spec("optuna") is None:
        raise ConfigError("vaekit sweep needs Optuna: pip install 'vaekit[sweep]'")
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: expected 1 or more.")

    from vaekit.sweep.run import Options, Sweep  # torch and Optuna, so only now
    from vaekit.training.callbacks import Interrupted
    from vaekit.training.memory import keep_freed_memory

    keep_freed_memory()
    _share_cores(options.jobs)
    chosen = Options(
        options.sampler,
        options.trials,
        options.name,
        options.storage,
        options.metric,
        options.prune,
        options.retry,
        options.together,
    )
    sweep = Sweep(_joined(others), chosen, lambda argument: translate([argument]), options.config_dir)
    for note in () if options.helper else sweep.notes:
        print(f"vaekit: warning: {note}", file=sys.stderr)
    try:
        with _board(sweep, silent=options.helper) as board, _helpers(arguments, options.jobs):
            found = sweep.work(board)
    except Interrupted as interrupted:
        return _stopped(interrupted.signal, arguments, options)
    except KeyboardInterrupt as stop:
        number = next((argument for argument in stop.args if isinstance(argument, int)), 2)
        return _stopped(number, arguments, options)
    return 0 if options.helper else _conclude(sweep, found)


def _add(parser: ArgumentParser) -> None:
    parser.usage = "vaekit sweep OVERRIDE ... [--sampler grid|random|tpe] [--trials N] [--jobs N] [--FLAG VALUE ...]"
    parser.epilog = f"{VALUES}\nlong flags, each with the override it stands for (- and _ are the same):\n{table()}"
    add = parser.add_argument
    add(
        "--sampler",
        help="grid: every combination (default for lists); random; tpe: learns from what has ended (default else)",
    )
    add("--trials", type=int, metavar="N", help="how many in all; more than before goes on with the same sweep")
    add(
        "--prune",
        default="none",
        help="median: stop a run that is worse than half of the others were at its age; none (default)",
    )
    add(
        "--metric", default="score", metavar="NAME",
        help="what is best: score (default), the ELBO (at beta 1) of the weights that a run keeps, on validation data, or a "
        "validation number of metrics.jsonl such as val/recon_loss, if need be with its direction: val/codebook_used:max. Scores "
        "compare where data and kind of likelihood are the same",
    )  # fmt: skip
    add("--name", help="of the sweep; the experiment's, or one made of what varies")
    add("--storage", metavar="URL", help="a database for many machines; a SQLite file in the sweep's folder by default")
    add(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="processes on this machine (1); one command per GPU uses several",
    )
    add(
        "--together",
        type=int,
        default=1,
        metavar="N",
        help="train up to N runs of one shape as one program (1): runs that differ in seed, beta, weights of terms, optimizer or "
        "learning rate. Small models on a CPU train several times as fast; the numbers are those of one after another up to "
        "rounding",
    )
    add("--retry", action="store_true", help="try once more what has failed")
    add(
        "--config-dir",
        "--config_dir",
        type=Path,
        help="a folder with your own groups, for example DIR/experiment/mine.yaml",
    )
    add("--helper", action="store_true", help=argparse.SUPPRESS)  # started by another process of this sweep


def _share_cores(jobs: int) -> None:
    """Let each of the processes have its part of the CPU, unless the user has said how much."""
    import torch

    if jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))


def _joined(arguments: Sequence[str]) -> list[str]:
    """Flags with their values as one argument each, in the order given."""
    joined: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument.startswith("--") and "=" not in argument and waiting and not waiting[0].startswith("--"):
            alone = _stands_alone(argument) and waiting[0].lower() not in ("true", "false")
            argument = argument if alone else f"{argument}={waiting.pop(0)}"
        joined.append(argument)
    return joined


def _stands_alone(flag: str) -> bool:
    try:
        translate([flag])
    except ConfigError:
        return False
    return True


@contextmanager
def _board(sweep: Sweep, *, silent: bool) -> Iterator[Board]:
    from rich.console import Console

    from vaekit.sweep.board import Lines, LiveTable, Silence
    from vaekit.sweep.results import results

    if silent:
        yield Silence()
        return
    console = Console()
    say(f"Sweep: {sweep.folder}, {sweep.count} trials, storage {sweep.store.shown}")
    if not console.is_terminal:
        yield Lines(say, sweep.count)
        return
    with LiveTable(console, sweep.count, lambda: results(sweep.store, 0.0)) as board:
        yield board


@contextmanager
def _helpers(arguments: Sequence[str], jobs: int) -> Iterator[None]:
    """Within this context so many processes in all work on the sweep; none outlives it."""
    if "--helper" in arguments:
        from vaekit.sweep.watch import follow

        follow(os.getppid())
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    command = [sys.executable, "-m", "vaekit", "sweep", *arguments, "--jobs=1", "--helper"]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
        for _ in range(jobs - 1)
    ]
    try:
        yield
    except BaseException:
        for process in started:
            process.terminate()  # each ends after a checkpoint
        raise
    finally:
        for process in started:
            process.wait()


def _stopped(number: int, arguments: Sequence[str], options: argparse.Namespace) -> int:
    from vaekit.sweep.store import shown

    words = shlex.join(["vaekit", "sweep", *arguments])
    if options.storage is not None:
        words = words.replace(options.storage, shown(options.storage))  # without its password
    if not options.helper:
        print(f"vaekit: stopped by signal {number}; go on with: {words}", file=sys.stderr)
    return 128 + number


def _conclude(sweep: Sweep, found: Sequence[Result]) -> int:
    """The end of a sweep: the trials, best first, what failed, and where everything is. The last line is the sweep's folder."""
    from vaekit.sweep.board import table as trials
    from vaekit.sweep.results import FAILED, tally

    failed = [result for result in found if result.state == FAILED]
    metrics = sorted({result.metric for result in found if result.metric})
    say("")
    say(
        f"{tally(found, sweep.count)}; best first, by {' and '.join(metrics) or 'nothing'} of the weights that were kept:"
    )
    say(trials(found))
    if len(metrics) > 1:
        say(
            "These are different numbers, which do not compare; choose one that all have: --metric val/recon_loss --name NAME"
        )
    for result in failed:
        say(f"trial {result.trial} failed ({result.words}): {result.error}")
    if failed:
        say("What has failed is tried once more with --retry.")
    say(f"Table:   {sweep.folder / 'sweep.csv'}")
    say(f"Compare: {shlex.join(['vaekit', 'compare', str(sweep.folder)])}")
    say(str(sweep.folder))
    return 1 if failed else 0
