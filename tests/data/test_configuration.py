"""The nodes of the group `data` list every argument of their function, with the values of its signature."""

import inspect
from importlib.resources import files

import pytest
from omegaconf import OmegaConf

from vaekit import data

NODES = sorted(node for node in files("vaekit").joinpath("conf", "data").iterdir() if node.name.endswith(".yaml"))


def test_every_public_way_to_data_has_a_node():
    assert {node.name.removesuffix(".yaml") for node in NODES} >= {*data.names(), "array", "cells", "images"}


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_a_node_agrees_with_the_signature(node):
    text = node.read_text(encoding="utf-8")
    assert text.startswith("# ")
    content = OmegaConf.to_container(OmegaConf.create(text))
    package, _, function = content.pop("kind").rpartition(".")
    if package != "data" or not hasattr(data, function):
        pytest.skip(f"{node.name} names something outside vaekit.data")
    parameters = inspect.signature(getattr(data, function)).parameters
    assert list(content) == list(parameters)
    chosen = {"name", "path", "binarisation"} if content.get("name") == "digits" else {"name", "path"}
    if function == "cells":  # a root key that presets set, and for named sets the columns that they have
        assert content["expression"] in ("${expression}", "as_is")
        chosen |= {"expression", "labels", "batch"}
    for name, value in content.items():
        if name not in chosen:
            assert value == parameters[name].default, name


@pytest.mark.parametrize("name", data.names())
def test_a_node_names_its_data_set(name):
    content = OmegaConf.create(files("vaekit").joinpath("conf", "data", f"{name}.yaml").read_text(encoding="utf-8"))
    assert (content.name, content.path) == (name, None)


def test_digits_are_shown_binarised():
    text = files("vaekit").joinpath("conf", "data", "digits.yaml").read_text(encoding="utf-8")
    assert OmegaConf.create(text).binarisation == "dynamic"
