"""From overrides to a configuration. Hydra composes; every name is checked here first, so that a mistake gets one line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException
from yaml import YAMLError

from vaekit.errors import ConfigError, closest
from vaekit.files import is_folder_name
from vaekit.settings import (
    ESCAPED,
    INTERPOLATION,
    beta_of_kld_weight,
    both_sides,
    check_one_weight,
    check_settings,
    refuse_sweep,
    texts,
)

CONF = Path(__file__).parent / "conf"
PARTS = (
    "data",
    "network",
    "posterior",
    "prior",
    "likelihood",
    "objective",
    "optimizer",
    "schedule",
    "training",
    "evaluation",
    "tracking",
)
GROUPS = (*PARTS, "model", "experiment")
# the keys that are texts, whatever a part may be
_TEXTS = ("device", "output_dir")
# mappings whose names are the user's own
_COLLECTIONS = ("objective.weights", "objective.terms", "data.augmentation")

# without it Hydra would put a file of several groups where nothing reads it
_GLOBAL = re.compile(r"\A(\s*#.*\n)*?#\s*@package\s+_global_\s*$", re.MULTILINE)


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> DictConfig:
    """The configuration that the overrides ask for, with its interpolations still open.

    Arguments:
        overrides: ``group=name`` chooses a part, ``key.below=value`` sets a value. Of two for the same key the last one counts.
        config_dir: A folder with the user's own groups (``model/mine.yaml``), searched before vaekit's.

    Raises:
        ConfigError: For an unknown group, choice or key, with the closest valid ones, or a value that does not parse.
    """
    parsed = _last_of_each([_parse(text) for text in overrides])
    folders = [CONF] if config_dir is None else [_existing(config_dir), CONF]
    for override in parsed.values():
        if override.key_or_group in GROUPS:
            _check_choice(override, folders)
    choices = [text for text, o in parsed.items() if o.key_or_group in GROUPS]
    search = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
    config, settings = _hydra([*choices, *search]), list[str]()
    words = [word for text, o in parsed.items() if o.key_or_group not in GROUPS for word in both_sides(text, config)]
    values = _last_of_each([_parse(word) for word in words])
    for chosen in ({t: o for t, o in values.items() if _is_kind(o) is first} for first in (True, False)):
        # what may be set below a node depends on its kind, so kinds come first
        settings += [word for text, override in chosen.items() for word in _addressed(text, override, config)]
        config = _hydra([*choices, *search, *settings]) if chosen else config
    _refuse_resolvers(config)
    _checktexts(config)
    check_one_weight(config, {override.key_or_group for override in values.values()})
    if config.name is None:
        config.name = (
            f"{config.data.get('name') or str(config.data.kind).split('.')[-1]}-"
            f"{_choice(parsed, 'model', _choice(parsed, 'experiment', 'mlp'))}"
        )
    elif not is_folder_name(str(config.name)):
        raise ConfigError(
            f"name is {config.name!r}, expected the name of a folder below output_dir, such as first-try."
        )
    return config


def resolve(
    config: DictConfig,
    event_shape: Sequence[int],
    *,
    examples: int = 1,
    num_classes: int = 0,
    levels: int | None = None,
    num_conditions: int = 0,
    num_batches: int = 0,
    columns: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The configuration as plain dictionaries, now that the data are known.

    Arguments:
        config: As `compose` gave it.
        event_shape: Shape of one example.
        examples: In the training split.
        num_classes: Of the labels, 0 where there are none.
        levels: Of discrete values, None for continuous ones.
        num_conditions: Numbers that an example is conditioned on, 0 where there are none.
        num_batches: How many of these tell the experimental batches apart, 0 where there are none.
        columns: Of a table, how its columns lie in an example; None for other data.

    Raises:
        ConfigError: If an interpolation or a required value is open, a part needs another model, a setting has no effect, or
            `input_dim` is not that of the data.
    """
    refuse_sweep(config)
    check_settings(config)
    config = config.copy()
    config.event_shape = list(event_shape)
    values = math.prod(event_shape)
    if config.get("input_dim") not in (None, values):
        raise ConfigError(
            f"input_dim is {config.input_dim}, but an example of these data has {values} values "
            f"({' x '.join(map(str, event_shape))}). Leave it out: it is read from the data."
        )
    config.input_dim = values
    config.num_classes, config.levels = num_classes, levels
    config.num_conditions, config.num_batches = num_conditions, num_batches
    config.columns = None if columns is None else list(columns)
    if "growth_epochs" in config:
        config.growth_epochs = _growth_epochs(config)
    config.steps_per_epoch = _batches(examples, config.training.get("batch_size"))
    plain = _plain(config)
    if plain["kld_weight"] is not None:
        open_objective: Any = OmegaConf.to_container(config.objective, resolve=False)
        config.beta = beta_of_kld_weight(plain, open_objective)
        plain = _plain(config)
    _check_complete(plain)
    return plain


def data_node(config: DictConfig) -> dict[str, Any]:
    """The node of the data, as plain dictionaries: the one part that is built before the shapes are known.

    Raises:
        ConfigError: If a value that it requires is missing.
    """
    missing = [f"data.{name}" for name in config.data if OmegaConf.is_missing(config.data, name)]
    if missing:
        raise ConfigError(f"{config.data.kind} needs {missing[0]}; write {missing[0]}=...")
    return _plain(config.data)


def choices(group: str, folders: Sequence[Path] = (CONF,)) -> list[str]:
    """What can stand behind ``group=``."""
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def _batches(examples: int, batch_size: Any) -> int:
    if batch_size is None:  # left to the constructor
        from vaekit.builder import arguments

        batch_size = arguments("training.Plan")["batch_size"].default
    # what is no batch size is refused with its own words when the plan is built
    return -(-examples // batch_size) if isinstance(batch_size, int) and batch_size > 0 else 1


def _growth_epochs(config: DictConfig) -> int:
    """Epochs of all stages of a growing model together."""
    from vaekit.networks.growing import resolutions  # loads torch

    numbers = {name: config[name] for name in ("start_res", "final_res", "epochs_per_stage")}
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} is {value!r}, expected a whole number of 1 or more.")
    try:
        return len(resolutions(config.start_res, config.final_res)) * int(config.epochs_per_stage)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except InterpolationKeyError as error:
        raise ConfigError(_lacking(error)) from error
    except OmegaConfBaseException as error:
        raise ConfigError(_one_line(error)) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _parse(text: str) -> Override:
    try:
        override: Override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        key, equals, value = text.partition("=")
        hint = f"quote the value: '{key}=\"{value}\"'" if equals else "write key=value, for example latent_dim=10"
        raise ConfigError(f"Cannot read {text!r}: {hint}.") from error
    if override.package is not None or override.is_delete() or not override.key_or_group.strip():
        raise ConfigError(f"Cannot use {text!r}: write key=value, or group=name.")
    if override.is_sweep_override():
        raise ConfigError(
            f"{text!r} asks for several values: one run takes one for each key; vaekit sweep takes several."
        )
    return override


def _last_of_each(overrides: Sequence[Override]) -> dict[str, Override]:
    last = {override.key_or_group: override for override in overrides}
    return {str(override.input_line): override for override in last.values()}


def _check_choice(override: Override, folders: Sequence[Path]) -> None:
    group, wanted = override.key_or_group, override.value()
    valid = choices(group, folders)
    if not valid:
        raise ConfigError(f"{override.input_line}: there is nothing to choose in the group {group!r} yet.")
    if wanted not in valid:
        raise ConfigError(f"{group}={wanted}: there is no {group} {str(wanted)!r}{closest(str(wanted), valid)}")
    file = next(
        folder / group / f"{wanted}.yaml" for folder in folders if (folder / group / f"{wanted}.yaml").is_file()
    )
    if group in ("model", "experiment") and not _GLOBAL.search(file.read_text("utf-8", "replace")):
        raise ConfigError(f"{group}={wanted}: its file must begin with `# @package _global_`.")


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {folder}: there is no such folder.")
    return folder


def _hydra(overrides: list[str]) -> DictConfig:
    users = GlobalHydra.instance().hydra  # of a program that uses Hydra itself
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose("train", overrides=overrides)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, AssertionError, RecursionError) as error:
        raise ConfigError(_one_line(error)) from error
    finally:
        GlobalHydra.instance().hydra = users


def _addressed(text: str, override: Override, config: DictConfig) -> list[str]:
    """The override in Hydra's words.

    A `+` before a key that the node's constructor knows and the YAML leaves to its default. A whole node, with its kind, takes the
    place of the old one: Hydra would mix their arguments.
    """
    text = text.lstrip("+")  # Hydra's own `+` would add any key, a misspelt one as well
    key = override.key_or_group
    if key in _keys(config):
        value = override.value()
        if key.endswith(".kind"):
            _check_arguments(text, key.removesuffix(".kind"), value, config)
        whole = isinstance(value, dict) and "kind" in value
        before = OmegaConf.select(config, key, throw_on_resolution_failure=False)
        return [f"~{key}", f"+{text}"] if whole and before is not None else [text]
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else None
    if isinstance(node, DictConfig) and "kind" in node:
        from vaekit.builder import arguments  # loads torch, so only when a signature must be read

        valid = set(arguments(node.kind, parent)) - {"self"}
        if name in valid:
            return [f"+{text}"]
        raise ConfigError(
            f"{text}: {parent} ({node.kind}) has no argument {name!r}{closest(name, {*valid, *map(str, node)})}"
        )
    if _is_free(key):
        return [f"+{text}"]
    valid = {*_keys(config), *GROUPS}
    owners = _models_with(key)
    if owners:
        raise ConfigError(
            f"{text}: {key} belongs to {' and '.join(f'model={owner}' for owner in owners)}; choose one of them too."
        )
    raise ConfigError(f"{text}: there is no key {key!r}{closest(key, valid)}")


def _models_with(key: str) -> list[str]:
    """The models whose files bring a root key of this name."""
    files = sorted((CONF / "model").glob("*.yaml"))
    return [file.stem for file in files if key in _read(file)]


def _read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text("utf-8")) or {}


def _lacking(error: InterpolationKeyError) -> str:
    """A part that needs a key which only some models bring."""
    found = re.search(r"key '(\w+)' not found", str(error))
    owners = _models_with(found[1]) if found else []
    if not found or not owners:
        return _one_line(error)
    return f"{error.full_key} needs the key {found[1]!r}, which {_brought_by(owners)} too."


def _brought_by(owners: Sequence[str]) -> str:
    """The end of a message about something that only some models have."""
    models = " and ".join(f"model={owner}" for owner in owners)
    return f"{models} brings; choose it" if len(owners) == 1 else f"{models} bring; choose one of them"


def _models_choosing(group: str, kind: str) -> list[str]:
    """The models whose files choose a part of this kind."""
    named = {file.stem for file in (CONF / group).glob("*.yaml") if _read(file).get("kind") == kind}
    return [
        file.stem
        for file in sorted((CONF / "model").glob("*.yaml"))
        if any(entry.get(f"override /{group}") in named for entry in _read(file).get("defaults", []))
    ]


def _is_kind(override: Override) -> bool:
    value = override.value()
    return override.key_or_group.endswith(".kind") or (isinstance(value, dict) and "kind" in value)


def _check_arguments(text: str, where: str, kind: Any, config: DictConfig) -> None:
    """Raise if a node that becomes another kind has arguments that this kind does not know: they may not be lost unsaid."""
    from vaekit.builder import arguments  # loads torch

    node, valid = OmegaConf.select(config, where), arguments(kind, where)
    strange = [str(name) for name in node if name not in valid and name != "kind"]
    if strange:
        given_by_others = {*arguments(node.kind, where)} - {*node}  # shapes that follow from other parts
        open_ones = [name for name, argument in valid.items() if argument.default is argument.empty]
        needed = "".join(f", {name}: ..." for name in open_ones if name not in given_by_others)
        raise ConfigError(
            f"{text}: {where} has {' and '.join(strange)}, which {kind} does not take; write the whole node: "
            f"'{where}={{kind: {kind}{needed}}}'."
        )


def _is_free(key: str) -> bool:
    # objective.weights.mine=2 and data.augmentation.mine.kind=... name entries of the user's own
    parent, _, name = key.rpartition(".")
    return parent in _COLLECTIONS or (name == "kind" and parent.rpartition(".")[0] in _COLLECTIONS)


def _keys(config: DictConfig) -> list[str]:
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return list(_paths(plain))


def _paths(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for name, child in node.items():
        yield f"{prefix}{name}"
        if isinstance(child, Mapping):
            yield from _paths(child, f"{prefix}{name}.")


def _refuse_resolvers(config: DictConfig) -> None:
    """Interpolations may name keys of the configuration and nothing else: no environment, no functions."""
    for text in texts(OmegaConf.to_container(config, resolve=False)):
        # what remains may be a resolver, or an interpolation within another, which can spell one
        if "${" in INTERPOLATION.sub("", ESCAPED.sub("", text)):
            raise ConfigError(f"{text!r} calls a resolver; only keys of the configuration may stand in ${{...}}.")


def _check_complete(config: Mapping[str, Any]) -> None:
    """Raise for a part that only another architecture can complete, such as the posterior of a VQ-VAE."""
    from vaekit.builder import lacking  # loads torch

    for group in ("posterior", "prior", "likelihood"):
        kind, needed = config[group]["kind"], lacking(config["architecture"]["kind"], group, config[group])
        owners = _models_choosing(group, kind) if needed else []
        if owners:
            raise ConfigError(f"{group}: {kind} needs {' and '.join(needed)}, which {_brought_by(owners)} too.")


def _checktexts(config: DictConfig) -> None:
    for key in _TEXTS:
        if not isinstance(config[key], str) or not config[key]:
            raise ConfigError(f"{key} is {config[key]!r}, expected text; write '{key}=\"...\"'.")


def _choice(parsed: Mapping[str, Override], group: str, default: str) -> str:
    chosen = [str(o.value()) for o in parsed.values() if o.key_or_group == group]
    return chosen[0] if chosen else default


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:2]) or type(error).__name__
