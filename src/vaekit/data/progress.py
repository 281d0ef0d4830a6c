"""Progress of a download on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


@contextmanager
def progress(name: str, size: int) -> Iterator[Advance]:
    """Show that `name`, of `size` bytes, is being fetched; call what is yielded with the number of bytes there are so far."""
    show = _bar if sys.stderr.isatty() else _lines
    with show(name, size) as advance:
        yield advance


@contextmanager
def _bar(name: str, size: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=size)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def _lines(name: str, size: int) -> Iterator[Advance]:
    print(f"fetching {name} ({size / 1e6:.1f} MB)", file=sys.stderr, flush=True)
    yield lambda done: None
    print(f"fetched {name}", file=sys.stderr, flush=True)
