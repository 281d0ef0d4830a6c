"""Compare finished runs: one table as CSV and HTML, best first, and pictures.

Folders are searched for runs, those of sweeps among them. What a run was not measured by yet is measured, and kept in its folder.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.arguments import add_device
from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit compare`."""
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="folders with runs, such as runs/sweeps/NAME"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: DIR/comparison)")
    parser.add_argument(
        "--by", metavar="NUMBER", help="what orders the runs, such as test/mse (default: validation/elbo)"
    )
    parser.add_argument("--color", metavar="COLUMN", help="column behind the colours of the map (default: the labels)")
    parser.add_argument("--map", default="pca", help="pca (default) or umap, which needs umap-learn")
    add_device(parser)
    options = parser.parse_args(arguments)

    from vaekit.comparison import compare
    from vaekit.report.comparison import plain_group

    made = compare(
        options.folders,
        options.out,
        by=options.by,
        colour=options.color,
        map_name=options.map,
        device=options.device,
        say=say,
    )
    for group in made.comparison.groups:
        say(f"\n{plain_group(group)}")
    say("")
    say(f"Table:    {made.csv}")
    say(f"Pictures: {made.page.parent / 'figures'}")
    say(str(made.page))
    return 0
