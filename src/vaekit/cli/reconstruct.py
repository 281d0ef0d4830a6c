"""Pass data through a trained model and back: an array, and a picture of the first ten."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit reconstruct`."""
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--split", default="test", help="train, validation or test (default)")
    parser.add_argument(
        "--output", type=Path, help="the .npy file (default RUN/reconstructions.npy); the picture lies beside it"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cuda, mps or cpu")
    options = parser.parse_args(arguments)

    from vaekit import exports, runs

    done = runs.open_run(options.run, options.device)
    path = options.output or options.run / "reconstructions.npy"
    for written in exports.write_reconstructions(done, path, options.split):
        say(str(written))
    return 0
