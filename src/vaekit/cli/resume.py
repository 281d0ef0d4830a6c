"""Go on with a training exactly where its last checkpoint left it."""

from __future__ import annotations

from argparse import ArgumentParser

from vaekit.cli.arguments import add_run
from vaekit.cli.loading import loading
from vaekit.cli.output import conclude, say, shown_progress, stopped


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit resume`."""
    add_run(parser)
    options = parser.parse_args(arguments)

    with loading():
        from vaekit import api
        from vaekit.training.callbacks import Interrupted
        from vaekit.training.memory import keep_freed_memory

    keep_freed_memory()
    try:
        done = api.resume(options.run, say=say, progress=shown_progress())
    except Interrupted as interrupted:
        return stopped(interrupted.path, interrupted.signal)
    conclude(done)
    return 0
