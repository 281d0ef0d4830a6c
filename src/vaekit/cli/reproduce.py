"""Carry out a published protocol: train its runs, measure them, and put the numbers beside the published ones.

A second call goes on where the first was stopped; the runs are ordinary run folders. --quick is for two cores and minutes, and
says what so little can claim.
"""

from __future__ import annotations

import shlex
import signal
import sys
from argparse import ArgumentParser
from pathlib import Path

from vaekit.cli.output import say, shown_progress


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit reproduce`."""
    parser.add_argument("name", nargs="?", help="of the protocol; --list shows all")
    parser.add_argument(
        "--list", action="store_true", help="show the protocols, their published numbers and their time"
    )
    parser.add_argument("--quick", action="store_true", help="the variant of a few minutes")
    parser.add_argument(
        "--output-dir", "--output_dir", type=Path, default=Path("runs/reproduce"), help="for runs and results"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    options = parser.parse_args(arguments)

    from vaekit.errors import ConfigError, closest
    from vaekit.files import as_json
    from vaekit.reproduce import PROTOCOLS, listing, protocol_named, report, reproduce
    from vaekit.training.memory import keep_freed_memory

    if options.list:
        for line in listing(PROTOCOLS.values()):
            say(line)
        return 0
    if options.name is None:
        raise ConfigError(
            f"reproduce what? Write: vaekit reproduce NAME, or vaekit reproduce --list{closest('', PROTOCOLS)}"
        )
    protocol = protocol_named(options.name)
    keep_freed_memory()
    tell = (lambda line: None) if options.json else say
    try:
        outcome = reproduce(
            protocol,
            quick=options.quick,
            output_dir=options.output_dir,
            say=tell,
            progress=None if options.json else shown_progress(),
        )
    except KeyboardInterrupt as stop:  # while a run is trained, or measured
        number = next((argument for argument in stop.args if isinstance(argument, int)), int(signal.SIGINT))
        again = shlex.join(["vaekit", "reproduce", *arguments])
        print(f"vaekit: stopped by signal {number}; go on with: {again}", file=sys.stderr)
        return 128 + number
    if options.json:
        say(as_json(outcome.as_dict(), indent=2))
        return 0
    for line in report(outcome):
        say(line)
    return 0
