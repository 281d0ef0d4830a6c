"""What makes two sweeps the same: the configuration, what varies, how it is chosen and by what it is judged."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vaekit.sweep.axes import Axis

# what changes nothing about a model, and may differ between machines and between two starts of one sweep
BESIDE = ("name", "output_dir", "device", "sweep", "tracking")


@dataclass(frozen=True)
class Definition:
    """A sweep without its place and its size: what must be the same where two processes work on one.

    Attributes:
        axes: What varies.
        sampler: grid, random or tpe.
        seed: Of the sampler.
        metric: By which number runs are judged.
        higher: Whether higher is better.
        prune: median or none.
        config: The configuration at the first value of each axis, as composed.
    """

    axes: tuple[Axis, ...]
    sampler: str
    seed: int
    metric: str = "score"
    higher: bool = True
    prune: str = "none"
    config: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """The same text for the same sweep."""
        config = {name: value for name, value in self.config.items() if name not in BESIDE}
        if isinstance(config.get("data"), Mapping):
            config["data"] = {name: value for name, value in config["data"].items() if name != "path"}
        content = {
            "axes": {axis.key: {name: v for name, v in axis.as_dict().items() if name != "key"} for axis in self.axes},
            "sampler": self.sampler,
            "seed": self.seed,
            "metric": self.metric,
            "higher": self.higher,
            "prune": self.prune,
            "config": config,
        }
        return json.dumps(content, sort_keys=True)

    def differences(self, other: str) -> list[str]:
        """What another sweep, as JSON, had otherwise: "prune is none, was median"."""
        return list(_differences(json.loads(other), json.loads(self.as_json())))

    @property
    def default_name(self) -> str:
        """Of a sweep that the user gives no name: the same for the same sweep, and for no other."""
        keys = "-".join(re.sub(r"\W", "", axis.key.rpartition(".")[2]) for axis in self.axes)[:60]
        return f"{keys}-{hashlib.sha256(self.as_json().encode()).hexdigest()[:6]}"


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    if before == now:
        return
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        yield f"{where} {_is(now, 'is', 'is gone')}, {_is(before, 'was', 'was not there')}"
        return
    for name in {**before, **now}:
        inner = f"{where}.{name}" if where and where not in ("axes", "config") else str(name)
        yield from _differences(before.get(name), now.get(name), inner)


def _is(value: Any, verb: str, absent: str) -> str:
    if value is None:
        return absent
    if isinstance(value, Mapping) and isinstance(value.get("values"), list):
        value = value["values"]
    return f"{verb} {','.join(map(str, value)) if isinstance(value, list) else json.dumps(value)}"
