"""Write the latent codes of data: posterior means, which are the same at every call."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.arguments import add_device, add_run, add_split
from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit encode`."""
    add_run(parser)
    add_split(parser)
    parser.add_argument("--scale", action="store_true", help="also write the posterior standard deviations")
    parser.add_argument(
        "--output", type=Path, help="an .npz file: mean, index, names, labels, scale (default RUN/codes_SPLIT.npz)"
    )
    add_device(parser)
    options = parser.parse_args(arguments)

    from vaekit import exports, runs

    done = runs.open_run(options.run, options.device)
    path = options.output or options.run / f"codes_{options.split}.npz"
    say(str(exports.write_codes(done, path, options.split, scale=options.scale)))
    return 0
