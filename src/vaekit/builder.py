"""From a config node to an object, out of a closed set of names.

A node is `kind: priors.StandardNormal` and that constructor's arguments. The kind is the public Python name inside vaekit, or a
torch optimizer from a fixed list; nothing else can be named, so a config from a stranger can do no harm.
"""

from __future__ import annotations

import inspect
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from types import NoneType, UnionType
from typing import Any

from torch import Tensor

from vaekit.errors import ConfigError, closest
from vaekit.models.vae import VAE

PACKAGES = (
    "networks", "conditionals", "priors", "likelihoods", "models", "objectives", "schedules", "data", "training", "evaluation",
)  # fmt: skip
# functions that make a part; every other function of these packages does something, and a config may not ask for that
FACTORIES = (
    *("data.array", "data.celeba", "data.cells", "data.images", "data.named", "data.named_table", "data.table"),
    *("networks.wide_decoder", "networks.wide_encoder"),
    *("models.flat", "models.growing", "models.latent_library", "models.quantized", "models.residual_growing"),
    "models.two_layers",
)
OPTIMIZERS = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD")

_LARGEST = sys.float_info.max
# what YAML can say: never a part
_PLAIN = (str, int, float, list, dict, NoneType)

_registered: dict[str, Callable[..., Any]] = {}


def register(kind: str, constructor: Callable[..., Any]) -> None:
    """Let configs name a part of your own: ``register("mine.Prior", Prior)``, then ``kind: mine.Prior``.

    Raises:
        ConfigError: If the name is vaekit's, or already another object's.
    """
    if kind.split(".")[0] in (*PACKAGES, "optim") or _registered.get(kind, constructor) is not constructor:
        raise ConfigError(
            f"kind {kind!r} is taken: choose a name with a first part of your own, for example mine.Prior."
        )
    _registered[kind] = constructor


def kinds() -> list[str]:
    """Every kind that a config may name."""
    own = [f"{package}.{name}" for package in PACKAGES for name in _makers(package)]
    return [*own, *(f"optim.{name}" for name in OPTIMIZERS), *_registered]


def build(node: Any, /, *, where: str = "", **completing: Any) -> Any:
    """Build a node and everything below it.

    Arguments:
        node: A mapping with `kind` gives that object; other mappings and lists are built item by item; the rest is itself.
        where: The node's place in the configuration, for messages.
        completing: Arguments that the node leaves open, such as shapes that follow from another part.

    Returns:
        The object. An optimizer's node gives a function of the parameters. A node in the place of an argument that is
        annotated as a `Callable` gives a function of what the node leaves open.

    Raises:
        ConfigError: For an unknown kind or argument (with the closest valid ones), a missing argument, a value of the wrong
            type, or a value that the constructor refuses.
    """
    if isinstance(node, Mapping):
        if "kind" in node:
            return _construct(node, where, completing)
        return {name: build(child, where=_below(where, name)) for name, child in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [build(child, where=_below(where, str(i))) for i, child in enumerate(node)]
    return node


def build_model(config: Mapping[str, Any]) -> VAE:
    """The model of a whole resolved configuration: its architecture, given its network, posterior, prior and likelihood."""
    model = build(
        {
            **config["network"],
            **{name: config[name] for name in ("posterior", "prior", "likelihood")},
            **config["architecture"],
        },
        where="architecture",
    )
    if not isinstance(model, VAE):
        raise ConfigError(
            f"architecture.kind is {config['architecture']['kind']!r}, which makes no model: write models.flat."
        )
    return model


def constructor(kind: Any, where: str = "") -> Callable[..., Any]:
    """What a kind stands for.

    Raises:
        ConfigError: If a config may not name it.
    """
    if isinstance(kind, str):
        package, _, name = kind.partition(".")
        if kind in _registered:
            return _registered[kind]
        if package == "optim" and name in OPTIMIZERS:
            return typing.cast(Callable[..., Any], getattr(import_module("torch.optim"), name))
        if package in PACKAGES and name in (makers := _makers(package)):
            return makers[name]
    raise ConfigError(
        f"{_below(where, 'kind')} is {kind!r}, which is not a part of vaekit{closest(str(kind), kinds())}"
    )


def _makers(package: str) -> dict[str, Callable[..., Any]]:
    """What a config may construct from a package, by name: its concrete public classes, and its factories."""
    module = import_module(f"vaekit.{package}")
    public = {name: getattr(module, name) for name in module.__all__}
    return {name: thing for name, thing in public.items() if _is_part(thing) or f"{package}.{name}" in FACTORIES}


def _is_part(thing: Any) -> bool:
    unfit = not inspect.isclass(thing) or inspect.isabstract(thing) or getattr(thing, "_is_protocol", False)
    return not unfit and not issubclass(thing, BaseException)


def arguments(kind: Any, where: str = "") -> dict[str, inspect.Parameter]:
    """The arguments of a kind's constructor, by name."""
    parameters = inspect.signature(constructor(kind, where)).parameters
    return {name: parameter for name, parameter in parameters.items() if not (_is_optimizer(kind) and name == "params")}


def lacking(architecture: Any, name: str, node: Mapping[str, Any]) -> list[str]:
    """What the node of a part leaves open, if this architecture takes the finished part under `name` and completes nothing."""
    if _is_callable_hint(_hints(constructor(architecture, "architecture")).get(name, Any)):
        return []
    return [argument for argument in _required(arguments(node["kind"], name)) if argument not in node]


def complete(node: Any, where: str = "") -> Any:
    """The node with every default of its constructors written out, so that it means the same under a later version."""
    if isinstance(node, Mapping):
        done = {name: complete(child, _below(where, str(name))) for name, child in node.items()}
        if "kind" in done and not _is_optimizer(done["kind"]):
            for name, parameter in arguments(done["kind"], where).items():
                if name not in done and isinstance(parameter.default, (int, float, str, tuple, NoneType)):
                    done[name] = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        return done
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [complete(child, where) for child in node]
    return node


def _construct(node: Mapping[str, Any], where: str, completing: Mapping[str, Any]) -> Any:
    kind = node["kind"]
    make = constructor(kind, where)
    valid = arguments(kind, where)
    given = {name: child for name, child in node.items() if name != "kind"}
    for name in given:
        if name not in valid:
            raise ConfigError(f"{_below(where, name)}: {kind} has no argument {name!r}{closest(str(name), valid)}")
    hints = _hints(make)
    built = {n: _argument(child, hints.get(n, Any), _below(where, n)) for n, child in given.items()} | dict(completing)
    missing = [name for name in _required(valid) if name not in built]
    if missing:
        raise ConfigError(f"{where or kind}: {kind} needs {', '.join(missing)}; write {_below(where, missing[0])}=...")
    call = partial(_called, make, where or kind, **built)
    return call if _is_optimizer(kind) else call()


def _required(valid: Mapping[str, inspect.Parameter]) -> list[str]:
    return [n for n, p in valid.items() if p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD]


def _called(make: Callable[..., Any], place: str, /, *positional: Any, **given: Any) -> Any:
    try:
        return make(*positional, **given)
    except (ConfigError, FileNotFoundError):
        raise
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ConfigError(f"{place}: {_message(error)}") from error


def _message(error: Exception) -> str:
    """What an error says: all of it, but of torch, which adds the stack of its own functions, the first line."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    foreign = not isinstance(error, ValueError) or frame.f_globals.get("__name__", "").startswith("torch.")
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0] if foreign else text


def _argument(child: Any, hint: Any, where: str) -> Any:
    if _is_callable_hint(hint) and isinstance(child, Mapping) and "kind" in child:
        constructor(child["kind"], where)
        return partial(_made, child, typing.get_args(hint)[1], where)
    value = build(child, where=where)
    if not _fits(value, hint):
        listed = isinstance(value, (str, int, float)) and _fits([value], hint)
        write = f"; write {where}=[{value}]" if listed else ""
        raise ConfigError(f"{where} is {_short(value)}, expected {_said(hint)}{write}.")
    return value


def _made(child: Mapping[str, Any], hint: Any, where: str, /, **completing: Any) -> Any:
    kind = child["kind"]
    if lacking := _not_taken(kind, completing):
        package = str(kind).partition(".")[0]
        fitting = [one for one in kinds() if one.startswith(f"{package}.") and not _not_taken(one, completing)]
        expected = f"; expected {' or '.join(fitting)}" if fitting else ""
        raise ConfigError(
            f"{where}.kind is {kind!r}, which does not fit this model: it takes no {lacking[0]}{expected}."
        )
    value = build(child, where=where, **completing)
    if not _fits(value, hint):
        raise ConfigError(f"{where}.kind is {child['kind']!r}, expected {_said(hint)}.")
    return value


def _not_taken(kind: Any, names: Iterable[str]) -> list[str]:
    taken = arguments(kind)
    return [] if any(p.kind == p.VAR_KEYWORD for p in taken.values()) else [name for name in names if name not in taken]


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, UnionType):
        return any(_fits(value, option) for option in inner)
    if hint is float:
        # not nan, inf, or an integer that no float can hold
        return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, NoneType):
        return isinstance(value, hint)
    if origin is Sequence:
        return isinstance(value, (list, tuple)) and all(_fits(item, inner[0]) for item in value)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(map(_fits, value, inner)) and len(value) == len(inner)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(item, inner[1]) for item in value.values())
    if origin is typing.Literal:
        return value in inner
    if _is_callable_hint(hint):
        return callable(value)
    if getattr(hint, "_is_protocol", False):
        return not isinstance(value, _PLAIN)
    return isinstance(value, hint) if inspect.isclass(hint) else True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]}... ({len(text):,} characters)"


def _said(hint: Any) -> str:
    words = {int: "an integer", float: "a finite number", str: "text", bool: "true or false", NoneType: "null"}
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in words:
        return words[hint]
    if origin in (typing.Union, UnionType):
        return " or ".join(_said(option) for option in inner if option is not Tensor)
    if origin is Sequence:
        return f"a list, each item {_said(inner[0])}"
    if origin is typing.Literal:
        return "one of " + ", ".join(str(option) for option in inner)
    if origin in (tuple, Mapping):
        return f"a {'list' if origin is tuple else 'mapping'}, each item {_said(inner[-1])}"
    return f"a node that makes a {getattr(hint, '__name__', hint)}"


def _is_callable_hint(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.get_origin(Callable[..., Any])


def _is_optimizer(kind: Any) -> bool:
    return isinstance(kind, str) and kind.startswith("optim.")


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
