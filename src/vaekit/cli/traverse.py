"""Vary one latent dimension at a time and decode: an array, and a picture with a row for each dimension, largest KL first."""

from __future__ import annotations

import math
from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.arguments import add_device, add_label, add_run, add_split
from vaekit.cli.output import say
from vaekit.errors import ConfigError


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit traverse`."""
    add_run(parser)
    parser.add_argument(
        "--index", type=int, help="start from the code of this example (default: the mean of the prior)"
    )
    add_split(parser)
    parser.add_argument("--dims", type=int, help="how many dimensions (default: those that are active, at most 8)")
    parser.add_argument("--steps", type=int, default=11, help="values of each dimension (default 11)")
    values = parser.add_mutually_exclusive_group()
    values.add_argument("--range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of the values (default -3 3)")
    values.add_argument(
        "--quantiles",
        action="store_true",
        help="values from the 1 %% to the 99 %% quantile of the codes of the split (default for models without a prior)",
    )
    add_label(parser)
    parser.add_argument(
        "--output", type=Path, help="the .npy file (default RUN/traversal.npy); the picture lies beside it"
    )
    add_device(parser)
    options = parser.parse_args(arguments)
    low, high = options.range or (-3.0, 3.0)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"--range is {low:g} {high:g}, expected two numbers, the smaller one first.")

    from vaekit import exports, runs

    done = runs.open_run(options.run, options.device)
    quantiles = options.quantiles or (options.range is None and not done.model.bounded)
    written = exports.write_traversal(
        done,
        options.output or options.run / "traversal.npy",
        options.split,
        index=options.index,
        dims=options.dims,
        steps=options.steps,
        extent=None if quantiles else (low, high),
        label=options.label,
    )
    for file in written:
        say(str(file))
    return 0
