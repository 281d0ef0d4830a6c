"""What a sweep varies: a key and the values to try, in Hydra's grammar, or an interval to draw them from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Union

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, Quote, QuotedString, RangeSweep
from hydra.errors import HydraException

from vaekit.compose import CONF, GROUPS, choices
from vaekit.errors import ConfigError, closest

# a list longer than this is a mistake: a range with a step of 1e-9 would fill the memory
_LONGEST = 10_000
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Choices:
    """A list of values.

    Attributes:
        key: What stands before the `=`: a key or a group of the configuration, or a long flag.
        values: As they stand behind the `=`, each once.
    """

    key: str
    values: tuple[str, ...]

    @property
    def first(self) -> str:
        """One value, for a look at the configuration."""
        return self.values[0]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"key": self.key, "values": list(self.values)}

    def __str__(self) -> str:
        return f"{self.key}={','.join(self.values)}"


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`.

    Attributes:
        key: What stands before the `=`.
        log: Drawn evenly on a logarithmic scale.
        whole: Whole numbers alone, both ends among them.
    """

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def first(self) -> str:
        """One value, for a look at the configuration."""
        return self.text(self.low)

    def text(self, value: float) -> str:
        """A number as it stands behind the `=`; read again it is the same."""
        return str(int(value)) if self.whole else repr(float(value))

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"key": self.key, "low": self.low, "high": self.high, "log": self.log, "whole": self.whole}

    def __str__(self) -> str:
        word = "log" if self.log else "interval"
        inner = f"{word}({self.text(self.low)},{self.text(self.high)})"
        return f"{self.key}=int({inner})" if self.whole else f"{self.key}={inner}"


Axis = Choices | Interval


def axis_of(argument: str, folders: Sequence[Path] = (CONF,)) -> Axis | None:
    """The axis that an override with several values asks for, or None where it has one.

    Arguments:
        argument: ``latent_dim=2,4``, ``network.encoder.hidden_dims=[64,32],[32]``, ``model=choice(mlp,cnn)``,
            ``likelihood=glob(normal*)``, ``latent_dim=range(16,128,16)`` (128 is not among them, as in Python),
            ``optimizer.lr=interval(1e-4,1e-2)``, ``optimizer.lr=log(1e-4,1e-2)`` or in Hydra's words
            ``tag(log,interval(1e-4,1e-2))``, and ``latent_dim=int(log(2,256))`` for whole numbers. A long flag works as a key.
        folders: Where the groups of parts are, for `glob`.

    Raises:
        ConfigError: For a list without values, or an interval that is none.
    """
    key, equals, value = argument.partition("=")
    if not equals:
        return None
    try:
        parsed = _parser().parse_override(f"x={value}")
    except HydraException as error:
        if any(word in value for word in ("interval(", "log(", "range(", "choice(", "glob(", "tag(")):
            raise ConfigError(f"Cannot read {argument!r}: {_last_line(error)}") from error
        return None  # compose says it in its own words
    if not parsed.is_sweep_override():
        return None
    swept: Any = parsed._value
    if isinstance(swept, IntervalSweep):
        return _interval(argument, key, swept)
    texts = list(dict.fromkeys(islice(_texts(argument, key, swept, folders), _LONGEST + 1)))
    if len(texts) > _LONGEST:
        raise ConfigError(f"{argument}: a list of more than {_LONGEST:,} values; write an interval, or a larger step.")
    if not texts:
        raise ConfigError(f"{argument}: there is no value in it; a range stops before its end, as in Python.")
    return Choices(key, tuple(texts))


def axes_of(node: Mapping[str, Any], folders: Sequence[Path] = (CONF,), prefix: str = "") -> Iterator[Axis]:
    """The axes of the root key ``sweep`` of a configuration: ``{latent_dim: [2, 4], optimizer: {lr: "log(1e-4,1e-2)"}}``.

    Raises:
        ConfigError: For anything else.
    """
    for name, child in node.items():
        key = f"{prefix}{name}"
        if isinstance(child, Mapping):
            yield from axes_of(child, folders, f"{key}.")
            continue
        if isinstance(child, list) and not child:
            raise ConfigError(f"sweep.{key} is an empty list; write the values to try, such as [32, 64].")
        text = ",".join(map(written, child)) if isinstance(child, list) else str(child)
        axis = axis_of(f"{key}={text}", folders)
        yield Choices(key, (text,)) if axis is None else axis


def written(value: Any) -> str:
    """A plain value as it stands behind the `=` of an override."""
    text: str = Override._get_value_element_as_str(_quoted(value))
    return text


def _quoted(value: Any) -> Any:
    if isinstance(value, list):
        return [_quoted(child) for child in value]
    if isinstance(value, dict):
        return {name: _quoted(child) for name, child in value.items()}
    # words stay bare, so that a group's choice reads as it is typed
    bare = not isinstance(value, str) or (_WORD.fullmatch(value) and value.lower() not in ("null", "true", "false"))
    return value if bare else QuotedString(value, Quote.double)


def _texts(argument: str, key: str, swept: Any, folders: Sequence[Path]) -> Iterator[str]:
    if isinstance(swept, Glob):
        if key not in GROUPS:
            raise ConfigError(f"{argument}: glob chooses among the parts of a group, and {key!r} is no group.")
        found = swept.filter(choices(key, folders))
        if not found:
            raise ConfigError(f"{argument}: no {key} has such a name{closest(swept.include[0], choices(key, folders))}")
        yield from found
        return
    if isinstance(swept, RangeSweep) and swept.step == 0:
        raise ConfigError(f"{argument}: a range needs a step that is not 0.")
    # never shuffled: the same command must mean the same sweep
    values = swept.range() if isinstance(swept, RangeSweep) else swept.list
    assert isinstance(swept, (RangeSweep, ChoiceSweep))
    yield from (Override._get_value_element_as_str(value) for value in values)


def _interval(argument: str, key: str, swept: IntervalSweep) -> Interval:
    low, high, log = swept.start, swept.end, "log" in swept.tags
    assert low is not None
    assert high is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{argument}: an interval goes from a number to a larger one.")
    if log and low <= 0:
        raise ConfigError(f"{argument}: a logarithmic interval begins above 0.")
    return Interval(key, low, high, log, isinstance(low, int) and isinstance(high, int))


def _log(start: int | float, end: int | float) -> IntervalSweep:
    """The short word for ``tag(log, interval(start, end))``."""
    return IntervalSweep(start=float(start), end=float(end), tags={"log"})


# Hydra asks the annotations themselves, and they are text here
_log.__annotations__ |= {"start": Union[int, float], "end": Union[int, float]}  # noqa: UP007


def _parser() -> OverridesParser:
    functions = create_functions()
    functions.register(name="log", func=_log)
    return OverridesParser(functions)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
