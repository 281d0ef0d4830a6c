"""Measure a trained model: every number with its standard error over examples.

On the run's own test examples the numbers replace those in metrics.json and the report; on other splits and other data they are
only printed. Without a flag: rate, distortion, ELBO and what else takes a minute. The flags below add numbers that take longer.
These are kept in RUN/evaluation while they are made: stopped by Ctrl-C, by a signal or by a power cut, the same command goes on
where it was and ends with the same numbers. No number depends on evaluation.batch_size.

  vaekit evaluate RUN                                  the quick numbers on the test split
  vaekit evaluate RUN --bounds 1,50,5000               importance-weighted bounds on log p(x)
  vaekit evaluate RUN --all --examples 500             everything, on the first 500 test examples
  vaekit evaluate RUN --data mine.npy                  other data under this model
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.cli.arguments import add_device, add_run
from vaekit.cli.measuring import Tell, measuring
from vaekit.cli.output import say

# a number about the model and not about the examples: some models that can be annealed cannot have it
SIMULATED = "ais of simulated data"

if TYPE_CHECKING:
    from vaekit.data import Split
    from vaekit.evaluation.units import Estimate
    from vaekit.measurements import Subject

    Measure = Callable[[Subject, Tell], Mapping[str, Estimate]]


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit evaluate`."""
    _add(parser)
    options = parser.parse_intermixed_args(arguments)
    try:
        return _evaluate(options)
    except KeyboardInterrupt as stop:
        number = next((argument for argument in stop.args if isinstance(argument, int)), int(signal.SIGINT))
        again = shlex.join(["vaekit", "evaluate", *arguments])
        print(f"vaekit: stopped by signal {number}; what is done is kept, go on with: {again}", file=sys.stderr)
        return 128 + number


def _add(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="OVERRIDE", help="evaluation.samples=, .batch_size= or .seed="
    )
    examples = parser.add_argument_group("which examples")
    examples.add_argument("--split", help="train, validation or test (default); of a file also all (its default)")
    examples.add_argument(
        "--data",
        metavar="NAME_OR_FILE",
        help="other data than the run's own: a data set of `vaekit data`, or a file, read with the settings of the run's data",
    )
    examples.add_argument("--examples", type=int, metavar="N", help="only the first N of them")
    longer = parser.add_argument_group("numbers that take longer")
    longer.add_argument(
        "--bounds",
        nargs="?",
        const="1,50,500,5000",
        metavar="K,K,...",
        help="importance-weighted bounds on log p(x) from K draws, up to 1,000,000, and how many of them carry the weight "
        "(1,50,500,5000 if no K is given)",
    )
    longer.add_argument(
        "--ais", action="store_true", help="log p(x) by annealed importance sampling, and how far it can be trusted"
    )
    longer.add_argument("--chains", type=int, metavar="N", help="with --ais: chains for each example (default 16)")
    longer.add_argument("--steps", type=int, metavar="N", help="with --ais: temperatures of a chain (default 500)")
    longer.add_argument(
        "--rate-split",
        action="store_true",
        help="what the KL is made of: mutual information, total correlation, KL of the dimensions",
    )
    longer.add_argument(
        "--gaps", action="store_true", help="why the ELBO is below log p(x): amortisation, approximation, overfitting"
    )
    longer.add_argument(
        "--ood", metavar="NAME_OR_FILE", help="how well scores of the model tell these data from the run's own"
    )
    longer.add_argument(
        "--background",
        type=Path,
        metavar="RUN",
        help="with --ood: a run that knows the background only, for a likelihood ratio",
    )
    longer.add_argument("--all", action="store_true", help="all of these that the model can have, but for --ood")
    images = parser.add_argument_group("generated images or rows")
    images.add_argument("--generation", action="store_true", help="compare them, and reconstructions, with the split's")
    images.add_argument("--count", type=int, help="how many (default: as many as the split has, at most 10,000)")
    images.add_argument(
        "--inception-weights", type=Path, metavar="FILE", help="with --generation, also fid: its weights of 2015"
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--precision", choices=("float32", "float64"), default="float32", help="of model and data (default: float32)"
    )
    add_device(parser)
    how.add_argument("--json", action="store_true", help="print the numbers as JSON and nothing else")


def _evaluate(options: Namespace) -> int:
    from vaekit import runs
    from vaekit.errors import ConfigError
    from vaekit.evaluation.chains import Annealing
    from vaekit.evaluation.evidence import checked
    from vaekit.measurements import open_subject, outside, quick

    draws = () if options.bounds is None else checked(_draws(options.bounds))
    if options.inception_weights is not None and not options.generation:
        raise ConfigError("--inception-weights is for the fid of generated images: add --generation.")
    if options.count is not None and not options.generation:
        raise ConfigError("--count is of generated images: add --generation.")
    annealing = _annealing(options)
    if annealing and not (options.ais or options.all):
        raise ConfigError("--chains and --steps are of annealed importance sampling: add --ais.")
    try:
        Annealing(**annealing)
    except ConfigError as error:  # before anything is measured
        raise ConfigError(f"--{error}") from error
    if options.background is not None and options.ood is None:
        raise ConfigError("--background is for the likelihood ratio of other data: add --ood.")
    done = runs.open_run(options.run, options.device, options.precision)
    plan = runs.evaluation_plan(done, options.overrides)
    subject = open_subject(done, plan, options.split, options.data, options.examples)
    others = None if options.ood is None else outside(subject, options.ood)
    # first, as it refuses some models
    generated = {}
    if options.generation:
        generated = subject.of(
            runs.generation(subject.run, subject.held, plan, options.count, options.inception_weights)
        )
    metrics = quick(subject) | generated
    if subject.own and subject.examples is None:
        runs.record(done, metrics)
    notes: list[str] = []
    long, refused = _long(subject, _asked(options, draws, others, notes))
    if any(map(runs.is_bound, long)):
        metrics = {name: number for name, number in metrics.items() if not runs.is_bound(name)}
    _told(options, subject, metrics | long)
    for line in (*notes, *(f"{name}: {why}" for name, why in refused.items())):
        print(f"vaekit: {line}", file=sys.stderr)
    # what was asked for by its own name, and cannot be had, is a mistake
    return 2 if not options.all and set(refused) - {SIMULATED} else 0


def _long(subject: Subject, asked: Mapping[str, Measure]) -> tuple[dict[str, Estimate], dict[str, str]]:
    """The numbers that take longer, each set recorded when it is done; and why some cannot be had."""
    from vaekit import measurements, runs
    from vaekit.errors import ConfigError

    found: dict[str, Estimate] = {}
    refused: dict[str, str] = {}
    with measuring() as show:
        for name, measure in asked.items():
            try:
                numbers = dict(measure(subject, show(name)))
            except ConfigError as error:
                refused[name] = str(error)
                continue
            kept = measurements.worth_keeping(subject, numbers)
            if kept:
                runs.record(subject.run, kept)
            found |= numbers
    return found, refused


def _asked(options: Namespace, draws: Sequence[int], others: Split | None, notes: list[str]) -> dict[str, Measure]:
    """What the flags ask for, by name; what else there is to say of it goes to `notes`."""
    from vaekit import measurements
    from vaekit.evaluation.evidence import DRAWS

    given = _annealing(options)
    asked: dict[str, Measure] = {}
    if draws or options.all:
        asked["bounds"] = lambda subject, tell: measurements.bounds(subject, draws or DRAWS, tell)
    if options.ais or options.all:
        asked["ais"] = lambda subject, tell: measurements.annealed(subject, tell, **given)
        asked[SIMULATED] = lambda subject, tell: measurements.bracketed(subject, tell, **given)
    if options.rate_split or options.all:
        asked["rate split"] = measurements.rate_split
    if options.gaps or options.all:
        asked["gaps"] = measurements.gaps
        asked["overfitting"] = measurements.overfitting
    if others is not None:
        asked["ood"] = partial(_told_apart, options, others, notes)
    return asked


def _annealing(options: Namespace) -> dict[str, Any]:
    """The settings of annealing that were given."""
    return {name: value for name in ("chains", "steps") if (value := getattr(options, name)) is not None}


def _told_apart(
    options: Namespace, others: Split, notes: list[str], subject: Subject, tell: Tell
) -> Mapping[str, Estimate]:
    from vaekit import measurements, runs

    beside = options.background
    background = None if beside is None else runs.open_run(beside, options.device, options.precision)
    told = measurements.told_apart(subject, others, options.ood, background, tell)
    notes += [f"ood: scores {told.scores}, figure {told.figure}"]
    notes += [f"ood: no {name.replace('_', ' ')}: {why}" for name, why in told.left_out.items()]
    return told.metrics


def _told(options: Namespace, subject: Subject, metrics: dict[str, Estimate]) -> None:
    from vaekit import runs
    from vaekit.report import plain_table

    if options.json:
        say(json.dumps({name: estimate.as_dict() for name, estimate in metrics.items()}, indent=2))
        return
    say(f"On {subject.words} (± one standard error):")
    say(plain_table(metrics))
    say("")
    for name, estimate in metrics.items():
        if estimate.estimator:
            say(f"{name}: {estimate.estimator}")
    if subject.given is None:
        for finding in runs.findings(subject.run, metrics):
            say(f"\n{finding}")


def _draws(given: str) -> list[int]:
    """The K of `--bounds`."""
    from vaekit.errors import ConfigError

    words = [word.strip().replace("_", "") for word in given.split(",")]
    if not all(word.isdecimal() for word in words):
        raise ConfigError(f"--bounds is {given!r}, expected numbers of draws, such as --bounds 1,50,5000.")
    return [int(word) for word in words]
