"""vaekit: train, measure and diagnose variational autoencoders. Every number in nats.

``vaekit.train``, ``vaekit.load`` and ``vaekit.build`` are the front door; the parts live in the packages that
`builder.PACKAGES` names. Importing this package imports nothing heavy: names load when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vaekit._version import __version__

if TYPE_CHECKING:
    from vaekit.api import resume, train
    from vaekit.builder import build, register
    from vaekit.errors import CheckpointError, ConfigError, RunError, TrainingError
    from vaekit.runs import Run, evaluate, load

_HOMES = {
    "Run": "vaekit.runs",
    "evaluate": "vaekit.runs",
    "load": "vaekit.runs",
    "resume": "vaekit.api",
    "train": "vaekit.api",
    "CheckpointError": "vaekit.errors",
    "ConfigError": "vaekit.errors",
    "RunError": "vaekit.errors",
    "TrainingError": "vaekit.errors",
    "build": "vaekit.builder",
    "register": "vaekit.builder",
}

__all__ = [
    "CheckpointError",
    "ConfigError",
    "Run",
    "RunError",
    "TrainingError",
    "__version__",
    "build",
    "evaluate",
    "load",
    "register",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vaekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
