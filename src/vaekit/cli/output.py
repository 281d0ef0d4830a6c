"""What a person sees: lines as they come, and a live line for a training where there is a terminal."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaekit.runs import Run
    from vaekit.training.loop import Callback


# findings at the end of a training: the first is the root cause
SHOWN = 3


def say(line: str) -> None:
    """Print a line now."""
    print(line, flush=True)


def shown_progress() -> Callable[[Callable[[str], None]], Callback]:
    """Makes the callback that shows a training: a live line on a terminal, plain lines otherwise."""
    from rich.console import Console

    from vaekit.training.progress import LiveLine, PlainLines

    console = Console()
    if not console.is_terminal:
        return PlainLines
    return lambda tell: LiveLine(console)


def conclude(run: Run) -> None:
    """The end of a training: numbers, findings, and where everything is. The last line is the run folder."""
    from vaekit.report import plain_table

    say("")
    say(f"On {len(run.dataset.test):,} test examples (± one standard error):")
    say(plain_table(run.metrics))
    findings = run.findings
    for finding in findings[:SHOWN]:
        say("")
        say(finding.brief())
    if findings:
        more = f"{len(findings) - SHOWN} more findings, " if len(findings) > SHOWN else ""
        say(f"\nFor {more}all remedies, and --fix: {shlex.join(['vaekit', 'doctor', str(run.path)])}")
    say("")
    say(f"Pictures: {run.folder.figures}")
    say(f"Report:   {run.path / 'report.html'}")
    say(str(run.path))


def stopped(path: Path, number: int) -> int:
    """Say how to go on after a signal, and give the exit code."""
    print(
        f"vaekit: stopped by signal {number}; go on with: {shlex.join(['vaekit', 'resume', str(path)])}",
        file=sys.stderr,
    )
    return 128 + number
