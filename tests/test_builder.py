"""build: from a node to an object, and to nothing that is not on the list."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit.builder import arguments, build, build_model, complete, kinds, register
from vaekit.compose import compose, resolve
from vaekit.errors import ConfigError
from vaekit.likelihoods import Normal
from vaekit.models import VAE
from vaekit.networks import MLP
from vaekit.objectives import Objective
from vaekit.schedules import Linear

RECON = {"kind": "objectives.Reconstruction"}


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    table: dict[str, Any] = {}
    monkeypatch.setattr(sys.modules["vaekit.builder"], "_registered", table)
    return table


def test_a_node_is_a_constructor_and_its_arguments() -> None:
    likelihood = build({"kind": "likelihoods.Normal", "event_shape": [3, 2], "scale": 0.5})
    assert isinstance(likelihood, Normal)
    assert likelihood.event_shape == (3, 2)
    assert float(likelihood.scale) == 0.5


def test_nodes_below_nodes_are_built_and_plain_values_stay() -> None:
    objective = build(
        {
            "kind": "objectives.Objective",
            "terms": {"recon": RECON, "kl": {"kind": "objectives.KL"}},
            "weights": {"kl": {"kind": "schedules.Linear", "start": 0, "stop": 1, "steps": 10}},
        }
    )
    assert isinstance(objective, Objective)
    assert objective.weights["kl"].schedule == Linear(0, 1, 10)
    assert build([1, {"a": "text"}, None]) == [1, {"a": "text"}, None]


def test_a_callable_argument_is_a_function_of_what_the_node_leaves_open() -> None:
    model = build(
        {
            "kind": "models.flat",
            "encoder": {"kind": "networks.MLP", "hidden_dims": [5]},
            "decoder": {"kind": "networks.MLP", "hidden_dims": [6]},
            "posterior": {"kind": "conditionals.Normal", "event_shape": [2]},
            "prior": {"kind": "priors.StandardNormal", "event_shape": [2]},
            "likelihood": {"kind": "likelihoods.Bernoulli", "event_shape": [4]},
        }
    )
    assert isinstance(model, VAE)
    assert model(torch.zeros(3, 4)).log_px.shape == (1, 3)


def test_an_optimizer_is_a_function_of_the_parameters() -> None:
    make = build({"kind": "optim.Adam", "lr": 0.5, "betas": [0.5, 0.6]})
    optimizer = make([torch.nn.Parameter(torch.zeros(2))])
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 0.5
    with pytest.raises(ConfigError, match=r"optimizer: .*learning rate: -1"):
        build({"kind": "optim.Adam", "lr": -1}, where="optimizer")([torch.nn.Parameter(torch.zeros(2))])


MISTAKES: dict[str, tuple[Any, str]] = {
    "kind": ({"kind": "priors.StandrdNormal"}, r"p\.kind is 'priors\.StandrdNormal'.*closest: priors\.StandardNormal"),
    "package": ({"kind": "prior.StandardNormal"}, r"closest: priors\.StandardNormal"),
    "argument": (
        {"kind": "networks.MLP", "hiden_dims": [3]},
        r"p\.hiden_dims: networks\.MLP has no argument 'hiden_dims'; closest: hidden_dims",
    ),
    "argument of an optimizer": ({"kind": "optim.Adam", "learning": 1}, r"no argument 'learning'"),
    "missing": ({"kind": "priors.StandardNormal"}, r"needs event_shape; write p\.event_shape=\.\.\."),
    "type of an item": (
        {"kind": "priors.StandardNormal", "event_shape": ["x"]},
        r"p\.event_shape is \['x'\], expected a list, each item an integer",
    ),
    "text for a list": ({"kind": "priors.StandardNormal", "event_shape": "12"}, "expected a list"),
    "one for a list": (
        {"kind": "priors.StandardNormal", "event_shape": 12},
        r"p\.event_shape is 12, expected a list, each item an integer; write p\.event_shape=\[12\]\.",
    ),
    "float for an integer": ({"kind": "priors.StandardNormal", "event_shape": [1.5]}, "each item an integer"),
    "truth for an integer": ({"kind": "priors.StandardNormal", "event_shape": [True]}, "each item an integer"),
    "text for a number": ({"kind": "likelihoods.Normal", "event_shape": [2], "scale": "1"}, "expected a finite number"),
    "not a number": ({"kind": "likelihoods.Normal", "event_shape": [2], "scale": float("nan")}, "finite number"),
    "infinite": ({"kind": "likelihoods.Normal", "event_shape": [2], "scale": float("inf")}, "finite number"),
    "huge": ({"kind": "likelihoods.Normal", "event_shape": [2], "scale": 10**400}, r"characters\), expected a finite"),
    "null": ({"kind": "likelihoods.Normal", "event_shape": None}, "is None, expected a list"),
    "range": ({"kind": "likelihoods.Normal", "event_shape": [2], "scale": -1.0}, r"^p: scale is -1\.0.*sigma=0\.1"),
    "empty shape": ({"kind": "priors.StandardNormal", "event_shape": [0]}, "expected sizes of 1 or more"),
    "too large a shape": ({"kind": "priors.StandardNormal", "event_shape": [10**30]}, "^p: "),
    "more than memory": ({"kind": "networks.MLP", "in_shape": [10**8], "out_shape": [10**8]}, "^p: "),
    "another part": (
        {"kind": "objectives.Objective", "terms": {"recon": {"kind": "objectives.SumReduction"}}},
        "expected a mapping, each item a node that makes a Term",
    ),
    "a number for a part": (
        {"kind": "objectives.Objective", "terms": {"recon": RECON}, "reduction": 5},
        "is 5, expected a node that makes a Reduction or null",
    ),
    "text for a part": (
        {"kind": "objectives.Objective", "terms": {"recon": RECON}, "reduction": "mean"},
        "is 'mean', expected a node that makes a Reduction",
    ),
    "a number for a factory": ({"kind": "models.flat", "encoder": 5}, r"p\.encoder is 5, expected a node that makes"),
    "weights of no term": (
        {"kind": "objectives.Objective", "terms": {"recon": RECON}, "weights": {"k": 1.0}},
        r"weights name \['k'\]",
    ),
    "number for a kind": ({"kind": 5}, "p.kind is 5, which is not a part"),
    "mapping for a kind": ({"kind": {"kind": "networks.MLP"}}, "which is not a part"),
    "number for a name": ({"kind": "networks.MLP", 1: 2}, "has no argument 1"),
}


@pytest.mark.parametrize(("node", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_get_one_line_that_says_what_to_write(node: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        build(node, where="p")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_own_messages_stay_whole_and_those_of_torch_are_cut(registered: dict[str, Any]) -> None:
    def own() -> None:
        raise ValueError("two files:\n  a.png\n  b.png")

    def foreign() -> None:
        raise RuntimeError("out of memory\nException raised from allocate at ...")

    def checked(scale: float) -> object:
        return torch.distributions.Normal(0.0, torch.tensor([scale]), validate_args=True)

    for made in (own, foreign, checked):
        register(f"mine.{made.__name__}", made)
    with pytest.raises(ConfigError) as caught:
        build({"kind": "mine.own"}, where="p")
    assert str(caught.value) == "p: two files:\n  a.png\n  b.png"
    with pytest.raises(ConfigError) as caught:
        build({"kind": "mine.foreign"}, where="p")
    assert str(caught.value) == "p: out of memory"
    with pytest.raises(ConfigError) as caught:
        build({"kind": "mine.checked", "scale": -1.0}, where="p")
    assert "\n" not in str(caught.value)


def test_a_factory_that_makes_something_else_is_named() -> None:
    node = {
        "kind": "models.flat", "encoder": {"kind": "objectives.KL"}, "decoder": {"kind": "networks.MLP"},
        "posterior": {"kind": "conditionals.Normal", "event_shape": [2]},
        "prior": {"kind": "priors.StandardNormal", "event_shape": [2]},
        "likelihood": {"kind": "likelihoods.Bernoulli", "event_shape": [4]},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"m\.encoder"):
        build(node, where="m")


OUTSIDE = [
    "os.system", "builtins.eval", "builtins.open", "torch.load", "torch.save", "subprocess.run", "pathlib.Path.write_text",
    "shutil.copy", "os.getenv", "numpy.load", "joblib.load", "pandas.read_pickle", "hydra.utils.instantiate",
    "networks.__class__", "networks.__init__", "networks.__dict__", "networks.MLP.__init__", "__main__.x", "__builtins__.eval",
    "models.trace.Trace", "models.vae.VAE", "networks.mlp.MLP", "networks.base.nn", "data.catalog.os", "data.fetch_named",
    "data.status", "data.names", "data.BINARISATIONS", "data.DataFormatError", "training.fit", "training.sole_player",
    "evaluation.diagnose", "schedules.advance", "schedules.Schedule", "objectives.Term", "likelihoods.Likelihood",
    "vaekit.networks.MLP", "build.build", "api.train", "files.write_atomically", "optim.Optimizer", "optim.LBFGS",
    "optim.lr_scheduler", "optim.__class__", "MLP", "networks", "networks.", ".MLP", ".", "", " networks.MLP", "networks.MLP ",
    "networks..MLP", "networks.MLP\0", "networks/MLP", "../networks.MLP",
]  # fmt: skip


@pytest.mark.parametrize("kind", OUTSIDE)
def test_nothing_outside_the_list_can_be_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = set(sys.modules)
    for node in (
        {"kind": kind},
        {"kind": kind, "command": "touch canary"},
        {"kind": "models.flat", "encoder": {"kind": kind}},
    ):
        with pytest.raises(ConfigError, match=r"is not a part of vaekit"):
            build(node)
        with pytest.raises(ConfigError):
            arguments(kind)
    assert set(sys.modules) == loaded
    assert not os.listdir(tmp_path)


def test_every_kind_is_a_class_or_a_factory_with_annotations() -> None:
    import inspect

    assert {"priors.StandardNormal", "models.flat", "optim.Adam", "data.array"} <= set(kinds())
    assert len(kinds()) == len(set(kinds()))
    for kind in kinds():
        for name, parameter in arguments(kind).items():
            assert kind.startswith("optim.") or parameter.annotation is not inspect.Parameter.empty, (kind, name)


def test_deep_nodes_end_quickly() -> None:
    node: Any = {"kind": "networks.MLP"}
    for _ in range(100_000):
        node = {"a": node}
    began = time.process_time()
    with pytest.raises((ConfigError, RecursionError)):
        build(node)
    assert time.process_time() - began < 1.0


def test_register(registered: dict[str, Any]) -> None:
    class Part:
        def __init__(self, size: int, name: str = "x") -> None:
            self.size, self.name = size, name

    with pytest.raises(ConfigError, match="not a part"):
        build({"kind": "mine.Part", "size": 3})
    register("mine.Part", Part)
    register("mine.Part", Part)
    assert build({"kind": "mine.Part", "size": 3}).size == 3
    assert "mine.Part" in kinds()
    assert complete({"kind": "mine.Part", "size": 3}) == {"kind": "mine.Part", "size": 3, "name": "x"}
    with pytest.raises(ConfigError, match="closest: size"):
        build({"kind": "mine.Part", "siz": 3})
    for taken in ("mine.Part", "networks.MLP", "networks.Mine", "optim.Adam"):
        with pytest.raises(ConfigError, match="is taken"):
            register(taken, lambda: None)


CONFIGS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "default": ((), (1, 8, 8)),
    "cnn": (("model=cnn",), (3, 28, 20)),
    "normal": (("likelihood=normal_learned", "sigma=0.3"), (7,)),
    "optimal": (("likelihood=normal_optimal", "optimizer=sgd"), (7,)),
    "warm-up": (("beta={kind: schedules.Cosine, start: 0.0, stop: 1.0, steps: 5}",), (7,)),
}


@pytest.mark.parametrize(("overrides", "shape"), CONFIGS.values(), ids=CONFIGS.keys())
def test_complete_writes_out_every_default_and_changes_nothing(
    overrides: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    config = resolve(compose(overrides), shape)
    done = complete(config)
    assert complete(done) == done

    def describe(node: dict[str, Any]) -> tuple[str, list[torch.Tensor]]:
        torch.manual_seed(0)
        model = build_model(node)
        objective = build(node["objective"])
        return f"{model}{objective}{build(node['training'])}{build(node['evaluation'])}", list(
            model.state_dict().values()
        )

    (text, weights), (completed_text, completed_weights) = describe(config), describe(done)
    assert text == completed_text
    assert all(torch.equal(a, b) for a, b in zip(weights, completed_weights, strict=True))
    for name in ("epochs", "samples", "gradient_clip", "include_const", "keep_checkpoints"):
        assert name in done["training"]
    if "hidden_dims" in done["network"]["encoder"]:
        assert done["network"]["encoder"]["dropout"] == 0.0


def test_a_configuration_that_makes_no_model() -> None:
    config = resolve(compose([]), (4,)) | {"architecture": {"kind": "networks.MLP", "in_shape": [1], "out_shape": [1]}}
    with pytest.raises(ConfigError, match="architecture"):
        build_model(config)


def test_completing_gives_arguments_that_the_node_leaves_open() -> None:
    network = build({"kind": "networks.MLP", "hidden_dims": [3]}, in_shape=(2,), out_shape=(4,))
    assert isinstance(network, MLP)
    assert network(torch.zeros(5, 2)).shape == (5, 4)


def test_a_part_that_does_not_take_what_the_architecture_gives_it_is_named_with_those_that_do() -> None:
    overrides = ["model=vqvae", "prior=fitted_flow", "device=cpu"]
    config = resolve(compose(overrides), (1, 8, 8), num_classes=10)
    said = (
        r"^architecture\.prior\.kind is 'priors\.FittedFlow', which does not fit this model: it takes no codebook; "
        r"expected priors\.FittedAutoregressive or priors\.UniformCodes\.$"
    )
    with pytest.raises(ConfigError, match=said):
        build_model(config)


def test_a_part_of_the_user_that_takes_any_argument_is_not_refused(registered: dict[str, Any]) -> None:
    class Anything(MLP):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)

    register("mine.Anything", Anything)
    model = build(
        {
            "kind": "models.flat",
            "encoder": {"kind": "mine.Anything"},
            "decoder": {"kind": "networks.MLP"},
            "posterior": {"kind": "conditionals.Normal", "event_shape": [2]},
            "prior": {"kind": "priors.StandardNormal", "event_shape": [2]},
            "likelihood": {"kind": "likelihoods.Bernoulli", "event_shape": [4]},
        }
    )
    assert isinstance(model, VAE)
