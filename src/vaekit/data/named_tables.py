"""Published tables by name, with their published split."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vaekit.data.adult import read_adult
from vaekit.data.batch import Dataset
from vaekit.data.catalog import located
from vaekit.data.schema import TableWishes
from vaekit.data.tables import divided, tabled

_READERS = {"adult": read_adult}
_HEAVY = {"adult": ("capital-gain", "capital-loss")}


def named_table(
    name: str,
    path: str | os.PathLike[str] | None = None,
    target: str | None = "income",
    categories: Sequence[str] | None = None,
    log: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    validation: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """A published table with its published test part; validation is held out from the training part at random.

    Files are looked for as those of `named`. The columns become what `table` says.

    Arguments:
        name: adult.
        path: A folder that has the files, or one above it, or one of the files; None to look elsewhere only.
        target: The column that is to be predicted from the others when a model is judged; it stays among the data.
        categories: Columns of whole numbers that are names of something.
        log: Columns of numbers from 0 of which log(1 + x) is standardised; None for those of the set that have heavy tails:
            capital-gain and capital-loss.
        drop: Columns to leave out.
        validation: Fraction of the published training part for validation.
        seed: Of that division.

    Raises:
        ValueError: If the name is unknown, or a column cannot be modelled, which is named.
        DataNotFoundError: If the files are neither found nor to be had.
        DataFormatError: If a file is damaged.
        ConfigError: If pandas or pyarrow is not installed.
    """
    if name not in _READERS:
        raise ValueError(f"table is {name!r}, expected one of {', '.join(_READERS)}.")
    entry, files = located(name, path)
    train, test = _READERS[name](files)
    dropped = tuple(drop or ())
    heavy = [column for column in _HEAVY[name] if column not in dropped]
    wishes = TableWishes(target, tuple(categories or ()), tuple(heavy if log is None else log), dropped)
    return tabled(divided(entry.name, train, test, validation, seed), wishes)
