"""Go from one example to another through the latent space and decode: an array, and a picture with the examples at the ends."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.arguments import add_device, add_label, add_run, add_split
from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit interpolate`."""
    add_run(parser)
    parser.add_argument("--from", dest="first", type=int, required=True, metavar="I", help="the example to start from")
    parser.add_argument("--to", dest="last", type=int, required=True, metavar="J", help="the example to go to")
    parser.add_argument(
        "--mode", choices=["linear", "spherical"], help="straight, or along the great circle (default: a row for each)"
    )
    parser.add_argument("--steps", type=int, default=10, help="codes on the way, with both ends (default 10)")
    add_split(parser)
    add_label(parser)
    parser.add_argument(
        "--output", type=Path, help="the .npy file (default RUN/interpolation_I_J.npy); the picture lies beside it"
    )
    add_device(parser)
    options = parser.parse_args(arguments)

    from vaekit import exports, runs

    done = runs.open_run(options.run, options.device)
    written = exports.write_interpolation(
        done,
        options.output or options.run / f"interpolation_{options.first}_{options.last}.npy",
        options.split,
        options.first,
        options.last,
        modes=["linear", "spherical"] if options.mode is None else [options.mode],
        steps=options.steps,
        label=options.label,
    )
    for file in written:
        say(str(file))
    return 0
