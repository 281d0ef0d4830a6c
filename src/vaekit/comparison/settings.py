"""In which settings runs differ: those that somebody chose, without those that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# where and how a run was made, and what the data alone say
_FREE = {
    "name", "output_dir", "device", "sweep", "tracking", "evaluation", "event_shape", "input_dim", "num_classes", "levels",
    "num_conditions", "num_batches", "columns", "steps_per_epoch",
}  # fmt: skip
# of the same data, however a model sees them: such runs stand in one table
VIEWS = ("expression", "batch", "covariates", "augmentation", "conditions", "target", "clip")

Config = Mapping[str, Any]


def data_of(config: Config) -> tuple[tuple[str, str], ...]:
    """What makes two runs be about the same examples, whatever their models see of them."""
    return tuple(
        sorted((name, repr(value)) for name, value in _leaves(config["data"]) if name.split(".")[0] not in VIEWS)
    )


def told_apart(configs: Sequence[Config]) -> list[str]:
    """How the data of each differ from those of the others, as settings: `data.ood=condition=stim`; of a path the end."""
    known = [dict(_leaves(config["data"])) for config in configs]
    counted = [dict(data_of(config)) for config in configs]
    names = [name for name in dict.fromkeys(name for one in counted for name in one)
             if len({one.get(name) for one in counted}) > 1]  # fmt: skip
    return [" ".join(f"data.{name}={_written(one[name])}" for name in names if name in one) for one in known]


def _written(value: Any) -> str:
    return "/".join(Path(value).parts[-2:]) if isinstance(value, str) else shown(value)


def differing(configs: Sequence[Config]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Names of the settings in which the runs differ, and each run's values of them, as text.

    A setting that follows from another is not named: the shape of a posterior from `latent_dim`; of a part of another kind, what
    only that kind has; and where models are told apart by their names, what is the same for all runs of a model, but for the size
    of the latent, the weight of the KL and the seed. A setting that a run does not have is "–", and so is the weight of a KL that
    its objective does not have.

    Arguments:
        configs: Resolved.
    """
    flat = [dict(_leaves({name: config[name] for name in config if _counts(name, config)})) for config in configs]
    models = _models(configs)
    if models is not None:
        flat = [{"model": model, **leaves} for model, leaves in zip(models, flat, strict=True)]
    names = list(dict.fromkeys(name for leaves in flat for name in leaves))
    columns = {name: [leaves.get(name, _ABSENT) for leaves in flat] for name in names}
    differ = {name: values for name, values in columns.items() if len(set(map(repr, values))) > 1}
    roots = {name: values for name, values in differ.items() if "." not in name}
    chosen = [
        name for name, values in differ.items()
        if not _of_another_kind(name, differ, values)
        and not any(name != root and _follows(name, values, root, given) for root, given in roots.items())
    ]  # fmt: skip
    chosen.sort(key=lambda name: (name.count("."), names.index(name)))
    rows = [tuple(shown(differ[name][place]) for name in chosen) for place in range(len(configs))]
    return tuple(name.removesuffix(".kind") for name in chosen), rows


# what people choose beside a model, even where each model of a comparison has its own
_CHOSEN = ("model", "latent_dim", "beta", "kld_weight", "seed")


def _counts(name: str, config: Config) -> bool:
    """Whether a root key says something of the run: the weight of the KL does not where the objective has none."""
    objective = config.get("objective")
    weightless = isinstance(objective, Mapping) and "kl" not in (objective.get("weights") or {})
    return name not in _FREE and not (weightless and name in ("beta", "kld_weight"))


def _models(configs: Sequence[Config]) -> list[str] | None:
    """The model of each run, out of its name, which is data and model unless the user gave another; None where it is not told."""
    found = []
    for config in configs:
        data, name = (
            config["data"].get("name") or config["data"].get("kind", "").rpartition(".")[2],
            str(config["name"]),
        )
        if not name.startswith(f"{data}-"):
            return None
        found.append(name.removeprefix(f"{data}-"))
    return found


class _Absent:
    def __repr__(self) -> str:
        return "–"


_ABSENT = _Absent()


def _leaves(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _of_another_kind(name: str, differ: Mapping[str, list[Any]], values: list[Any]) -> bool:
    """Whether the setting differs only because the part it belongs to is another one."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        kinds = differ.get(".".join([*parts[:depth], "kind"]))
        if kinds is None or name.endswith(f"{'.'.join(parts[:depth])}.kind"):
            continue
        within: dict[str, set[str]] = {}
        for kind, value in zip(kinds, values, strict=True):
            within.setdefault(repr(kind), set()).add(repr(value))
        if all(len(found) == 1 for found in within.values()):
            return True
    return False


def _follows(name: str, values: list[Any], root: str, given: list[Any]) -> bool:
    """Whether a setting is what it is because a root key is what it is."""
    if root == "model":
        return name not in _CHOSEN and _is_function(values, given)
    if root in ("beta", "kld_weight") and name.startswith("objective."):
        return _is_function(values, given)
    if all(_equal(value, own) for value, own in zip(values, given, strict=True)):
        return "." in name
    lists = [value for value in values if isinstance(value, list)]
    if len(lists) < len(values) or len({len(value) for value in lists}) > 1:
        return False
    places = [place for place in range(len(lists[0])) if len({repr(value[place]) for value in lists}) > 1]
    return all(_equal(value[place], own) for place in places for value, own in zip(lists, given, strict=True))


def _is_function(values: list[Any], given: list[Any]) -> bool:
    return len({(repr(value), repr(own)) for value, own in zip(values, given, strict=True)}) == len(
        set(map(repr, given))
    )


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def shown(value: Any) -> str:
    """A value as people write it: a kind without its package, a list without spaces."""
    if isinstance(value, str):
        package, dot, name = value.rpartition(".")
        return name if dot and package.isidentifier() and name.isidentifier() else value
    if isinstance(value, list):
        return f"[{','.join(shown(entry) for entry in value)}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
