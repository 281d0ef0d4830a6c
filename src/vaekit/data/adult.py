"""Adult, also called Census Income: 48,842 people in 15 columns, of which the last is to be predicted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaekit.data.delimited import as_text, content, split_text, typed
from vaekit.data.errors import DataFormatError

FILES = ("adult.data", "adult.test")
COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
MISSING = "?"


def read_adult(files: Mapping[str, Path]) -> tuple[Any, Any]:
    """The published training and test part as frames of text, numbers and missing values.

    The test file has a first line that is no row (|1x3 Cross validator) and writes its target with a full stop.

    Raises:
        DataFormatError: If a file is damaged or another one.
    """
    found = {name.removesuffix(".gz"): path for name, path in files.items()}
    train, test = (_part(found[name]) for name in FILES)
    return train, test


def _part(path: Path) -> Any:
    lines = (line for line in as_text(content(path), str(path)).splitlines() if line and not line.startswith("|"))
    frame = split_text("\n".join(lines), str(path), names=COLUMNS)
    frame["income"] = frame["income"].str.removesuffix(".")
    strange = sorted(set(frame["income"]) - {"<=50K", ">50K"})
    if strange:
        raise DataFormatError(f"{path} has the income {strange[0]!r}, expected <=50K or >50K: it is another file.")
    return typed(frame, str(path), (MISSING,), ())
