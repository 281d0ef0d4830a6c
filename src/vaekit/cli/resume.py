"""Go on with a training exactly where its last checkpoint left it."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.output import conclude, say, shown_progress, stopped


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit resume`."""
    parser.add_argument("run", type=Path, help="the run folder, the last line that `vaekit train` printed")
    options = parser.parse_args(arguments)

    from vaekit import api
    from vaekit.training.callbacks import Interrupted

    try:
        done = api.resume(options.run, say=say, progress=shown_progress())
    except Interrupted as interrupted:
        return stopped(interrupted.path, interrupted.signal)
    conclude(done)
    return 0
