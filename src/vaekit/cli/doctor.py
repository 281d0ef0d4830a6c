"""Say what is wrong with a run, why, and which command mends it.

Each finding has its evidence, its cause, and remedies in order: commands that run as printed. An error or a warning is a fault of
the model or of its training; a note limits the meaning of the numbers, or says what could be better.

exit code: 0 if there is no error and no warning (notes alone are no fault), 1 if there is one, 2 for a wrong call or a folder that
cannot be examined. With --fix it is that of the new run.
"""

from __future__ import annotations

import json
import shlex
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.cli.aliases import translate
from vaekit.cli.arguments import add_device, add_run
from vaekit.cli.output import say, shown_progress

if TYPE_CHECKING:
    from vaekit.diagnosis import Examination, Treatment
    from vaekit.runs import Run


def run(parser: ArgumentParser, arguments: list[str]) -> int:
    """`vaekit doctor`."""
    add_run(parser)
    parser.add_argument("--split", default="test", choices=["test", "validation"], help="held-out examples to look at")
    parser.add_argument("--json", action="store_true", help="print the diagnosis as JSON and nothing else")
    parser.add_argument(
        "--fix", action="store_true", help="start the first remedy as a new run, and show the numbers before and after"
    )
    add_device(parser)
    options = parser.parse_args(arguments)

    from vaekit import diagnosis, runs
    from vaekit.errors import ConfigError, RunError

    try:
        found = diagnosis.examine(runs.open_run(options.run, options.device), options.split)
    except RunError as error:
        raise ConfigError(str(error)) from error  # ends with 2, as 1 says that something was found
    if not options.json:
        _tell(found)
    told: dict[str, Any] = found.as_dict()
    if options.fix and not found.healthy:
        treatment = _fix(found, quiet=options.json)
        told["fix"] = treatment.as_dict()
        found = treatment.after
    elif options.fix and not options.json:
        say("\nThere is nothing to fix.")
    if options.json:
        say(json.dumps(told, indent=2))
    return 0 if found.healthy else 1


def _tell(found: Examination) -> None:
    for finding in found.findings:
        say(f"{finding}\n")
    count = len(found.run.dataset.split(found.split))
    looked = f"Looked for: {', '.join(found.checked)}."
    if found.healthy:
        notes = " but what the notes say" if found.findings else ""
        say(f"Healthy: nothing found{notes}. {looked} On {count:,} {found.split} examples.")
    else:
        say(f"{looked} On {count:,} {found.split} examples.")
        say(f"To start the first remedy: {shlex.join(['vaekit', 'doctor', str(found.run.path), '--fix'])}")


def _fix(found: Examination, quiet: bool) -> Treatment:
    from vaekit import diagnosis

    _, command = diagnosis.first_remedy(found)
    if not quiet:
        say(f"\nStarting: {command}\n")
    treatment = diagnosis.treated(command, found, _started(command, quiet))
    if not quiet:
        _tell_treatment(treatment)
    return treatment


def _started(command: str, quiet: bool) -> Run:
    """What the command makes when it is run here: it is read as `vaekit` reads it, and no shell is asked."""
    from vaekit import api

    _, name, *words = shlex.split(command)
    shown: dict[str, Any] = {} if quiet else {"say": say, "progress": shown_progress()}
    if name == "resume":
        return api.resume(words[0], **shown)
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config-dir", "--config_dir", type=Path)
    options, others = parser.parse_known_args(words)
    return api.train(*translate(others), config_dir=options.config_dir, command=command, **shown)


def _tell_treatment(treatment: Treatment) -> None:
    say("\nBefore and after (± one standard error):")
    rows = [("", "before", "after", "difference")]
    for change in treatment.changes:
        sides = [_number(change.before), _number(change.after), _number(change.difference)]
        rows.append((change.name, sides[0], sides[1], sides[2]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    say(f"\n{treatment.verdict}\n")
    for finding in treatment.after.findings:
        say(f"{finding}\n")
    if not treatment.after.findings:
        say("The new run has no finding.")
    say(str(treatment.after.run.path))


def _number(estimate: Any) -> str:
    if estimate is None:
        return ""
    error = estimate.standard_error
    unit = "" if estimate.unit == "1" else f" {estimate.unit}"
    known = bool(error) and error == error  # nan where there is one example
    return f"{estimate.value:.5g}" + (f" ± {error:.2g}" if known else "") + unit
