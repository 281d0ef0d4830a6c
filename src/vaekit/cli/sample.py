"""Draw new examples from a trained model: an array and a picture."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.arguments import add_device, add_label, add_run
from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit sample`."""
    add_run(parser)
    parser.add_argument("-n", "--count", type=int, default=64, help="how many (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same samples (default 0)")
    parser.add_argument(
        "--noise", action="store_true", help="draw from p(x|z) rather than take its mean (tables always)"
    )
    parser.add_argument(
        "--prior", help="a prior that `vaekit prior` has fitted, by its name (default: the model's own)"
    )
    add_label(parser)
    parser.add_argument(
        "--output", type=Path, help="the .npy file (default RUN/samples.npy); the picture lies beside it"
    )
    add_device(parser)
    options = parser.parse_args(arguments)

    from vaekit import exports, runs
    from vaekit.second_stage import with_prior

    done = runs.open_run(options.run, options.device)
    path = options.output or options.run / "samples.npy"
    with with_prior(done, options.prior):
        written = exports.write_samples(
            done, path, options.count, options.seed, noise=options.noise, label=options.label
        )
    for file in written:
        say(str(file))
    return 0
