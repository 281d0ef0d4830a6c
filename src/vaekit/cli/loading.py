"""Loading what a command needs, without the collector of Python's garbage looking through it again and again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Within this context nothing is collected, and what is there at its end is never looked at again.

    Loading torch makes half a million objects that stay. The collector, which goes by their number, looks through all of them
    several times while they come, a fifth of the time, and later ever again while the command works. Reference counts free what
    they free anyway, and results do not change. Where torch is loaded already, the process is not ours alone: nothing is done.
    """
    ours = "torch" not in sys.modules and gc.isenabled()
    if ours:
        gc.disable()
    try:
        yield
    finally:
        if ours:
            gc.freeze()
            gc.enable()
