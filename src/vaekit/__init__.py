"""vaekit: train, measure, diagnose and ship variational autoencoders. Every number in nats.

``vaekit.train``, ``vaekit.load`` and ``vaekit.build`` are the front door; the parts live in the packages named in `build.PACKAGES`.
Importing this package imports nothing heavy: names load when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vaekit._version import __version__

if TYPE_CHECKING:
    from vaekit.api import Run, evaluate, load, resume, train
    from vaekit.build import build, register
    from vaekit.errors import CheckpointError, ConfigError, RunError, TrainingError

_HOMES = {
    "Run": "vaekit.api",
    "evaluate": "vaekit.api",
    "load": "vaekit.api",
    "resume": "vaekit.api",
    "train": "vaekit.api",
    "CheckpointError": "vaekit.errors",
    "ConfigError": "vaekit.errors",
    "RunError": "vaekit.errors",
    "TrainingError": "vaekit.errors",
    "build": "vaekit.build",
    "register": "vaekit.build",
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
