"""By which number of its validation a run is judged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vaekit.errors import ConfigError, closest

Row = Mapping[str, float]

# the numbers of a validation whose direction is known
HIGHER = ("val/elbo",)
LOWER = ("val/loss", "val/recon_loss", "val/kl_loss")
_IWAE = re.compile(r"val/iwae_\d+")


@dataclass(frozen=True)
class Metric:
    """A number of the rows of `metrics.jsonl`.

    Attributes:
        name: Of the number; "score" for one that compares between runs, of the weights that a run keeps: the ELBO (beta = 1,
            whatever beta or `kld_weight` the training has), the importance-weighted bound where that is the objective, and minus
            the reconstruction for a model that has no bound. A run keeps its weights by the same number, but for one with a
            `kld_weight`, which keeps them by its loss: losses of two weights do not compare.
        higher: Whether higher is better.
    """

    name: str = "score"
    higher: bool = True

    def of(self, row: Row) -> float:
        """Its value in a row.

        Raises:
            ConfigError: If the row has no such number.
        """
        if self.name == "score":
            return _score(row)[1]
        if self.name not in row:
            raise ConfigError(
                f"This run logs no {self.name!r}{closest(self.name, [name for name in row if name.startswith('val/')])}"
            )
        return row[self.name]

    def label(self, row: Row) -> str:
        """What `of` gives, in words."""
        return _score(row)[0] if self.name == "score" else self.name


def metric_of(text: str) -> Metric:
    """What ``--metric`` says: "score", "val/elbo", or a number of the validation with its direction, "val/codebook_used:max".

    Raises:
        ConfigError: If it is of no validation, or its direction is not known.
    """
    name, colon, direction = text.partition(":")
    if name == "score" and not colon:
        return Metric()
    known = ["score", *HIGHER, *LOWER, "val/iwae_5"]
    if not name.startswith("val/"):
        raise ConfigError(f"--metric {text}: runs are chosen by numbers on validation data{closest(name, known)}")
    if colon and direction not in ("max", "min"):
        raise ConfigError(f"--metric {text}: write {name}:max or {name}:min.")
    if not colon and name not in (*HIGHER, *LOWER) and not _IWAE.fullmatch(name):
        raise ConfigError(
            f"--metric {text}: whether more of it is better is not known; write {name}:max or {name}:min{closest(name, known)}"
        )
    return Metric(name, direction == "max" if colon else name not in LOWER)


def kept(rows: Sequence[Row]) -> Row | None:
    """The row of the epoch whose weights a run keeps, or None before the first."""
    return next((row for row in reversed(rows) if row.get("kept") == 1.0), None)


def _score(row: Row) -> tuple[str, float]:
    bound = next((name for name in row if _IWAE.fullmatch(name)), None)
    if bound is not None:
        return bound, row[bound]
    if "val/elbo" in row:
        return "val/elbo", row["val/elbo"]
    return "-val/recon_loss", -row["val/recon_loss"]
