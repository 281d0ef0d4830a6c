"""Show the parts that can be chosen: `group=name` on the command line of `vaekit train`."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.output import say
from vaekit.errors import ConfigError, closest


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit list`."""
    parser.add_argument("group", nargs="?", help="show only this group")
    options = parser.parse_args(arguments)

    from vaekit.compose import CONF, GROUPS, choices

    groups = {group: choices(group) for group in GROUPS if choices(group)}
    if options.group is not None and options.group not in groups:
        raise ConfigError(f"there is no group {options.group!r}{closest(options.group, groups)}")
    for group, names in groups.items():
        if options.group in (None, group):
            say(group)
            width = max(18, *(len(name) + 2 for name in names))
            for name in names:
                say(f"  {group}={name:<{width}}{_first_comment(CONF / group / f'{name}.yaml')}")
    return 0


def _first_comment(file: Path) -> str:
    comments = (line[1:].strip() for line in file.read_text("utf-8").splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")
