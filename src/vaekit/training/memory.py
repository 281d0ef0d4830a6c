"""How the C library handles memory that torch gives back: a setting of the process, for commands that own it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
_NEVER = 2**31 - 1
# the largest block that glibc can be told to keep, and how many larger ones it may then ask the system for
_LARGEST, _BLOCKS = 1 << 25, 1 << 16
# bytes of weights from which the holes that large blocks leave in a heap cost more than the faults of giving them back
_WIDE = 1 << 28

_ours = False


def keep_freed_memory() -> None:
    """Let malloc keep large blocks instead of asking the system anew for each; does nothing where that is not glibc.

    A step makes and frees the same activations as the one before it. glibc hands each of more than 128 kB back to the system, and
    the first touch of every page of the next one costs a fault: a quarter of the time of a small convolutional network.
    Results do not change. It cannot be undone, so it is for a process of our own, and never done by importing or calling vaekit.
    """
    global _ours
    _ours = True
    _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER})


def keep_for(weights: int) -> None:
    """Say how many bytes of weights are to be trained; in a process that keeps freed memory, wide layers then give theirs back.

    Blocks of more than 32 MiB, such as the gathered columns of a wide first layer, are of another size at each step. Kept in a heap
    they leave holes, into which smaller ones go, and it grows; a step that moves a gigabyte of weights does not notice the faults.
    What reading the data has left, up to three times their size, is given back as well, of whatever size the model is.
    """
    if _ours and weights >= _WIDE:
        _set({_MMAP_THRESHOLD: _LARGEST, _MMAP_MAX: _BLOCKS})
    trim = _library("malloc_trim")
    if _ours and trim is not None:
        trim(0)


def _set(options: Mapping[int, int]) -> None:
    mallopt = _library("mallopt")
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)


def _library(name: str) -> Any:
    """A function of glibc, or None where that is not the C library."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # another C library
        return None
