"""Every public part is under contract."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest
from torch import nn

from vaekit.conditionals import Conditional
from vaekit.networks import Network
from vaekit.objectives import Term

INTERFACES = {
    "conditionals": Conditional,
    "priors": Conditional,
    "likelihoods": Conditional,
    "networks": Network,
    "objectives": Term,
}


def public_parts(package: str, interface: type) -> list[str]:
    """Concrete public classes of a package that implement its interface."""
    home = import_module(f"vaekit.{package}")
    things = {name: getattr(home, name) for name in home.__all__}
    return [
        name for name, thing in things.items()
        if inspect.isclass(thing) and issubclass(thing, interface) and not inspect.isabstract(thing)
    ]  # fmt: skip


def public_schedules() -> list[str]:
    home = import_module("vaekit.schedules")
    things = {name: getattr(home, name) for name in home.__all__}
    return [
        name for name, thing in things.items()
        if inspect.isclass(thing) and not issubclass(thing, nn.Module) and hasattr(thing, "end") and name != "Schedule"
    ]  # fmt: skip


def missing(names: list[str], package: str, registers: dict[str, Any]) -> list[str]:
    known = {key.split(" ")[0] for key in registers}
    return [name for name in names if f"{package}.{name}" not in known]


@pytest.mark.parametrize(("package", "interface"), INTERFACES.items(), ids=INTERFACES.keys())
def test_every_public_part_is_under_contract(package: str, interface: type, registers: dict[str, Any]) -> None:
    names = public_parts(package, interface)
    assert names
    assert not missing(names, package, registers), "add a line to tests/contracts/conftest.py"


def test_every_public_schedule_is_under_contract(registers: dict[str, Any]) -> None:
    assert set(public_schedules()) >= {"Constant", "Linear", "Cosine"}
    assert not missing(public_schedules(), "schedules", registers), "add a line to tests/contracts/conftest.py"


def test_a_part_without_a_line_is_seen(registers: dict[str, Any]) -> None:
    without = {key: value for key, value in registers.items() if not key.startswith("priors.StandardNormal")}
    assert missing(public_parts("priors", Conditional), "priors", without) == ["StandardNormal"]
