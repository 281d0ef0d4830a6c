"""Measure a trained model: every number with its standard error over examples.

On the test split the numbers replace those in metrics.json and the report; on other splits they are only printed.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.arguments import add_device, add_run, add_split
from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit evaluate`."""
    add_run(parser)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="evaluation.samples=, .batch_size= or .seed=")
    add_split(parser)
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON and nothing else")
    parser.add_argument(
        "--generation",
        action="store_true",
        help="also compare generated images (or rows) and reconstructions with the split's",
    )
    parser.add_argument(
        "--count", type=int, help="generated images (default: as many as the split has, at most 10,000)"
    )
    parser.add_argument(
        "--inception-weights", type=Path, metavar="FILE", help="with --generation, also fid: its weights of 2015"
    )
    options = parser.parse_intermixed_args(arguments)

    from vaekit import runs
    from vaekit.errors import ConfigError
    from vaekit.report import plain_table

    done = runs.open_run(options.run, options.device)
    plan = runs.evaluation_plan(done, options.overrides)
    if options.inception_weights is not None and not options.generation:
        raise ConfigError("--inception-weights is for the fid of generated images: add --generation.")
    if options.count is not None and not options.generation:
        raise ConfigError("--count is of generated images: add --generation.")
    # first, as it refuses some models and takes the longest
    generated = {}
    if options.generation:
        generated = runs.generation(done, options.split, plan, options.count, options.inception_weights)
    metrics = runs.evaluate(done, options.split, plan) | generated
    if options.split == "test":
        runs.record(done, metrics)
    if options.json:
        say(json.dumps({name: estimate.as_dict() for name, estimate in metrics.items()}, indent=2))
        return 0
    say(f"On {len(done.dataset.split(options.split)):,} {options.split} examples (± one standard error):")
    say(plain_table(metrics))
    for finding in runs.findings(done, metrics):
        say(f"\n{finding}")
    return 0
