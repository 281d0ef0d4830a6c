"""Write one self-contained HTML file about a run, from the files in its folder."""

from __future__ import annotations

from argparse import ArgumentParser

from vaekit.cli.arguments import add_run
from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit report`."""
    add_run(parser)
    options = parser.parse_args(arguments)

    from vaekit.report import training_losses, write_page
    from vaekit.training.run import RunFolder

    folder = RunFolder(options.run)
    training_losses(folder.rows(), folder.figures / "training_losses.png")
    say(str(write_page(folder.path)))
    return 0
