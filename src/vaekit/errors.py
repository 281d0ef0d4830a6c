"""Errors that a command ends with in one line, and that a caller may want to catch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A configuration that cannot be built; the message says where, what was found and what to write."""


class RunError(RuntimeError):
    """A run folder that cannot be used as asked: missing, unfinished, damaged, or of another configuration."""


class CheckpointError(RunError):
    """A checkpoint that cannot be written, or does not verify; the message names file and cause."""


class TrainingError(RuntimeError):
    """A training that cannot go on, such as one whose loss is no longer finite."""


class NotFittedError(RuntimeError):
    """A prior that is fitted after the training was asked for a density or a draw before it."""


def closest(name: str, valid: Iterable[str]) -> str:
    """The end of a message about a wrong name: ``; closest: a, b.``, or the list of what is valid. Case counts for nothing."""
    valid = sorted(set(valid))
    lower = [one.lower() for one in valid]
    ranked = difflib.get_close_matches(name.lower(), sorted(set(lower)), n=3, cutoff=0.5)
    near = [one for match in ranked for one, small in zip(valid, lower, strict=True) if small == match][:3]
    if near:
        return f"; closest: {', '.join(near)}."
    return f"; valid: {', '.join(valid[:20])}{', ...' if len(valid) > 20 else ''}." if valid else "."
