"""How the C library handles memory that torch gives back: a setting of the process, for commands that own it."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let malloc keep large blocks instead of asking the system anew for each; does nothing where that is not glibc.

    A step makes and frees the same activations as the one before it. glibc hands each of more than 128 kB back to the system, and
    the first touch of every page of the next one costs a fault: a quarter of the time of a small convolutional network.
    Results do not change. It cannot be undone, so it is for a process of our own, and never done by importing or calling vaekit.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _NEVER)
