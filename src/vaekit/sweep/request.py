"""From what a person writes to a sweep: the overrides that all runs share, and the axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from vaekit.compose import CONF, GROUPS, choices, compose, data_node
from vaekit.data.errors import DataNotFoundError
from vaekit.errors import ConfigError, closest
from vaekit.files import is_folder_name
from vaekit.recipe import make_session, open_data, resolved, seed_of
from vaekit.sweep.axes import Axis, Choices, axes_of, axis_of
from vaekit.sweep.definition import BESIDE, Definition
from vaekit.sweep.metric import Metric
from vaekit.training.device import select

# from one argument, perhaps of another dialect, to overrides
Translate = Callable[[str], list[str]]
# what the sweep itself decides for its runs
_OWN = ("name", "output_dir")


@dataclass(frozen=True)
class Request:
    """A sweep as it was asked for.

    Attributes:
        axes: What varies.
        fixed: The overrides of every run.
        translate: From an axis's value to overrides.
        config: Composed at the first value of each axis.
        config_dir: The user's own groups.
    """

    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]
    translate: Translate
    config: DictConfig
    config_dir: Path | None = None

    def overrides(self, settings: Mapping[str, str]) -> list[str]:
        """Of the run that tries these settings."""
        varied = [text for axis in self.axes for text in self.translate(f"{axis.key}={settings[axis.key]}")]
        one = (
            ["sweep=null"] if self.config.get("sweep") else []
        )  # a file that describes a sweep is asked for one run of it
        return [*(text for text in self.fixed if _key(text) not in _OWN), *varied, *one]

    def definition(self, sampler: str, metric: Metric, prune: str) -> Definition:
        """What makes it this sweep."""
        plain = OmegaConf.to_container(self.config, resolve=False)
        assert isinstance(plain, dict)
        seed = seed_of({"seed": self.config.seed})
        config = {str(name): value for name, value in plain.items()}
        return Definition(self.axes, sampler, seed, metric.name, metric.higher, prune, config)

    def name(self, definition: Definition) -> str:
        """What the user calls it: its name, else that of the experiment, else one that follows from what varies."""
        given = {_key(text): _value(text) for text in self.fixed}
        name = str(self.config.name) if "name" in given else given.get("experiment") or definition.default_name
        if not is_folder_name(name):
            raise ConfigError(f"The sweep's name is {name!r}, expected the name of a folder, such as first-try.")
        return name

    def rehearse(self) -> None:
        """Build what the first run, or else the last one, would train: what is wrong with both is wrong with the command.

        Raises:
            ConfigError: If both cannot be built, for one reason.
            DataNotFoundError: If the data are not here, and are the same for all runs.
        """
        first = self._fault({axis.key: axis.first for axis in self.axes})
        if first is not None:
            ends = {axis.key: axis.values[-1] if isinstance(axis, Choices) else axis.first for axis in self.axes}
            last = self._fault(ends)
            if last is not None and str(last) == str(first):
                raise first

    def _fault(self, settings: Mapping[str, str]) -> ConfigError | None:
        try:
            composed = compose(self.overrides(settings), self.config_dir)
            dataset = open_data(data_node(composed))
            make_session(resolved(composed, dataset), dataset, torch.device("cpu"))
        except ConfigError as error:
            return error
        except DataNotFoundError:
            if not self.varies_data:
                raise
        return None

    @property
    def varies_data(self) -> bool:
        """Whether the axes choose the data."""
        return any(_key(text).partition(".")[0] == "data" for axis in self.axes for text in self._first(axis))

    def _first(self, axis: Axis) -> list[str]:
        return self.translate(f"{axis.key}={axis.first}")


def requested(arguments: Sequence[str], translate: Translate, config_dir: Path | None = None) -> Request:
    """Read overrides, some of them with several values; the root key ``sweep`` of an experiment gives axes as well.

    Of two for one key the last one counts, and an override counts more than the experiment.

    Raises:
        ConfigError: For a key or a choice that does not exist, a list without values, or nothing that varies.
    """
    folders = [CONF] if config_dir is None else [config_dir, CONF]
    axes, fixed = dict[str, Axis](), dict[str, list[str]]()
    for argument in arguments:
        axis = _axis(argument, translate, folders)
        targets = _targets(translate(argument if axis is None else f"{axis.key}={axis.first}"))
        axes = {key: other for key, other in axes.items() if key != targets}
        fixed = {key: texts for key, texts in fixed.items() if key != targets}
        if axis is None:
            fixed[targets] = translate(argument)
        else:
            axes[targets] = axis
    own = tuple(text for texts in fixed.values() for text in texts)
    config = _composed(own, list(axes.values()), translate, config_dir, folders)
    of_file = _of_file(config, translate, folders, {*axes, *fixed})
    if of_file:
        config = _composed(own, [*of_file, *axes.values()], translate, config_dir, folders)
    together = (*of_file, *axes.values())
    for axis in together:
        beside = {_key(text).partition(".")[0] for text in translate(f"{axis.key}={axis.first}")} & set(BESIDE)
        if beside:
            raise ConfigError(f"{axis.key} changes nothing about a model, so it cannot vary: give it one value.")
    if not together:
        raise ConfigError(
            "There is nothing to vary: give a key several values, such as latent_dim=2,4 or optimizer.lr=log(1e-4,1e-2), or an "
            "experiment whose file has the key sweep."
        )
    select(str(config.device))
    return Request(together, own, translate, config, config_dir)


def _axis(argument: str, translate: Translate, folders: Sequence[Path]) -> Axis | None:
    if argument.startswith("--"):
        try:
            texts = translate(argument)
        except ConfigError:  # it wants one value of several, or one that is wrong
            return axis_of(argument, folders)
        if not any(axis_of(text, folders) for text in texts):
            return None  # a path or a name with a comma is one value
    return axis_of(argument, folders)


def _of_file(config: DictConfig, translate: Translate, folders: Sequence[Path], given: set[str]) -> list[Axis]:
    node = OmegaConf.to_container(config.get("sweep") or OmegaConf.create({}), resolve=False)
    if not isinstance(node, dict):
        raise ConfigError(
            f"The key sweep is {node!r}, expected keys with the values to try: sweep: {{latent_dim: [32, 64]}}."
        )
    found = axes_of({str(name): values for name, values in node.items()}, folders)
    return [axis for axis in found if _targets(translate(f"{axis.key}={axis.first}")) not in given]


def _composed(
    fixed: Sequence[str], axes: Sequence[Axis], translate: Translate, config_dir: Path | None, folders: Sequence[Path]
) -> DictConfig:
    """The configuration at the first values, or at others where those do not go together."""
    for axis in axes:
        for value in axis.values if isinstance(axis, Choices) else ():
            _check_choices(translate(f"{axis.key}={value}"), folders)
    first: ConfigError | None = None
    for chosen in _combinations(axes):
        try:
            return compose([*fixed, *(text for argument in chosen for text in translate(argument))], config_dir)
        except ConfigError as error:
            first = first or error
    assert first is not None
    raise first


def _combinations(axes: Sequence[Axis]) -> Iterator[list[str]]:
    """The first value of every axis, then each other value among the first ones of the others."""
    base = [f"{axis.key}={axis.first}" for axis in axes]
    yield base
    for index, axis in enumerate(axes):
        for value in axis.values[1:8] if isinstance(axis, Choices) else ():
            yield [*base[:index], f"{axis.key}={value}", *base[index + 1 :]]


def _check_choices(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    for text in overrides:
        key, value = _key(text), _value(text)
        if key in GROUPS and value not in (valid := choices(key, folders)):
            raise ConfigError(f"{key}={value}: there is no {key} {value!r}{closest(value, valid)}")


def _targets(overrides: Sequence[str]) -> str:
    """The keys that an argument sets, whatever dialect it was in."""
    return " ".join(sorted(map(_key, overrides)))


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _value(override: str) -> str:
    return override.partition("=")[2].strip("'\"")
