"""Show the named data sets and where they are, or fetch one into the user's cache."""

from __future__ import annotations

from argparse import ArgumentParser

from vaekit.cli.output import say


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit data`."""
    parser.usage = "vaekit data [fetch NAME]"
    parser.add_argument("action", nargs="?", choices=["fetch"], help="download and verify")
    parser.add_argument("name", nargs="?", help="of the data set")
    options = parser.parse_args(arguments)

    from vaekit.data import fetch_named, status
    from vaekit.data.catalog import entry_named
    from vaekit.errors import ConfigError

    if options.action == "fetch":
        if options.name is None:
            raise ConfigError("fetch what? Write: vaekit data fetch mnist")
        if not entry_named(options.name).files:
            say(f"{options.name} comes with scikit-learn and needs no download: vaekit train data={options.name}")
        else:
            say(str(fetch_named(options.name)))
        return 0
    for entry in status():
        if entry.source == "library":
            where = "comes with scikit-learn"
        elif entry.folder is None and entry.source == "hand":
            where = f"not here, to be got by hand; vaekit train data={entry.name} says where and how"
        elif entry.folder is None:
            where = f"not here; vaekit data fetch {entry.name} gets {entry.size / 2**20:.1f} MiB"
        else:
            where = f"{entry.folder} ({'verified' if entry.verified else 'not the published files'})"
        say(f"{entry.name:<24}{where}")
        say(f"{'':<24}{entry.licence}; {entry.citation}")
    say(f"{'celeba':<24}your own copy: vaekit train data=celeba data.path=FOLDER")
    say(
        f"{'':<24}for non-commercial research; Liu, Luo, Wang and Tang, Deep Learning Face Attributes in the Wild, 2015"
    )
    return 0
