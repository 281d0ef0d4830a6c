"""Packages that only some data need, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vaekit.errors import ConfigError


def extra(package: str, name: str, purpose: str) -> Any:
    """The imported package.

    Arguments:
        package: To import.
        name: Of the extra of vaekit that brings it.
        purpose: What it is for, as the beginning of a sentence.

    Raises:
        ConfigError: If it is not installed; the message says how to get it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(f"{purpose} needs the package {package} ({error}): pip install 'vaekit[{name}]'.") from error
