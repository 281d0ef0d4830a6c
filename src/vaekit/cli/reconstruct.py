"""Pass data through a trained model and back: an array, and a picture of the first ten."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.arguments import add_device, add_run, add_split
from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit reconstruct`."""
    add_run(parser)
    add_split(parser)
    parser.add_argument(
        "--output", type=Path, help="the .npy file (default RUN/reconstructions_SPLIT.npy); the picture lies beside it"
    )
    add_device(parser)
    options = parser.parse_args(arguments)

    from vaekit import exports, runs

    done = runs.open_run(options.run, options.device)
    path = options.output or options.run / f"reconstructions_{options.split}.npy"
    for written in exports.write_reconstructions(done, path, options.split):
        say(str(written))
    return 0
