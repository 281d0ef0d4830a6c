"""What the pictures of a run are drawn from: latents of some examples, what is known of them, and statistics of the features."""

# N examples, L latent dimensions, F features

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vaekit.errors import ConfigError, closest

# different names that a column may have to be kept: beyond that, colours tell nothing
MOST_NAMES = 500
_FEW_INTEGERS = 20

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class View:
    """Of one split.

    Attributes:
        latents: Posterior means, (N, L).
        statistics: Means, variances and shares of zeros of each feature, of data and of draws, (2, 3, F); None where nothing was
            drawn.
        codes: Columns of names, by column: positions in `names`, (N,).
        names: Of these columns.
        amounts: Columns of numbers, (N,) each.
    """

    latents: Array
    statistics: Array | None = None
    codes: Mapping[str, Array] = field(default_factory=dict)
    names: Mapping[str, list[str]] = field(default_factory=dict)
    amounts: Mapping[str, Array] = field(default_factory=dict)

    def arrays(self) -> dict[str, Array]:
        """For an archive. Columns are numbered: their names are a stranger's. Those of `names` come first, in their order."""
        found = {"latents": self.latents}
        if self.statistics is not None:
            found["statistics"] = self.statistics
        for place, name in enumerate(self.names):
            found[f"column{place}"] = self.codes[name] if name in self.codes else self.amounts[name]
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, Array], names: Mapping[str, list[str]]) -> View:
        """What `arrays` and `names` gave."""
        columns = {name: arrays[f"column{place}"] for place, name in enumerate(names)}
        codes = {name: values for name, values in columns.items() if values.dtype.kind == "i"}
        for name, values in codes.items():
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < len(names[name]):
                raise ValueError(f"column {name} has names that are not there")
        amounts = {name: values for name, values in columns.items() if name not in codes}
        if any(len(values) != len(arrays["latents"]) for values in columns.values()):
            raise ValueError("columns of other lengths than the latents")
        return cls(arrays["latents"], arrays.get("statistics"), codes, dict(names), amounts)

    def column(self, name: str) -> tuple[Array | None, Array | None]:
        """The names or the amounts of a column; None for the other.

        Raises:
            ConfigError: If there is no such column.
        """
        if name in self.codes:
            return np.array([*self.names[name], ""], dtype=np.str_)[self.codes[name]], None
        if name in self.amounts:
            return None, self.amounts[name]
        raise ConfigError(f"--color {name}: these data have no such column{closest(name, self.names)}")


def columns_of(latents: Array, statistics: Array | None, annotations: Mapping[str, Array]) -> View:
    """A view with those annotations that colours can show: numbers, and names of which there are not too many."""
    codes: dict[str, Array] = {}
    names: dict[str, list[str]] = {}
    amounts: dict[str, Array] = {}
    for name, values in annotations.items():
        if values.dtype.kind == "f" or (values.dtype.kind in "iu" and len(np.unique(values)) > _FEW_INTEGERS):
            amounts[name], names[name] = values.astype(np.float64), []
            continue
        found, places = np.unique(values.astype(np.str_), return_inverse=True)
        if len(found) <= MOST_NAMES:
            codes[name], names[name] = places.astype(np.int32), [str(entry) for entry in found]
    return View(latents, statistics, codes, names, amounts)
