"""Data that a run was not trained on, read as its own were: a data set with a name, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaekit.compose import choices, compose, data_node
from vaekit.data import Dataset, Split, names
from vaekit.data.delimited import read_frame
from vaekit.data.expression import CellRestore
from vaekit.data.rows import Sparse
from vaekit.data.schema import TableWishes, chosen
from vaekit.data.tables import columns_of
from vaekit.data.transforms import Scale
from vaekit.errors import ConfigError, closest
from vaekit.likelihoods.base import DataRange
from vaekit.recipe import open_data
from vaekit.runs import Run

ALL = "all"
PARTS = ("train", "validation", "test")
# settings of a run's data that say what its model sees, whatever file it comes from
_SEEN = (
    "binarisation",
    "seed",
    "resolution",
    "expression",
    "target",
    "clip",
    "min_counts",
    "layer",
    "batch",
    "covariates",
)


@dataclass(frozen=True)
class Other:
    """Data beside a run's own.

    Attributes:
        dataset: Fit for the run's model, on its device.
        part: Which of them is meant: all of a file, the test part of a data set with a name.
        node: How they were read, without the place.
    """

    dataset: Dataset
    part: str
    node: Mapping[str, Any]

    @property
    def split(self) -> Split:
        """The examples that are meant."""
        return whole(self.dataset) if self.part == ALL else self.dataset.split(self.part)


def open_other(run: Run, given: str, part: str | None = None) -> Other:
    """The data called `given`: a name in the catalogue, or a file or folder that is read with the settings of the run's own data.

    Arguments:
        run: Whose model is to see them.
        given: Name or path.
        part: train, validation, test or all; None for all of a file, and the test part of a data set with a name.

    Raises:
        ConfigError: If there is nothing of that name, or its examples are not what the model takes, or `part` is none of it.
    """
    own = run.config["data"]
    named = given in names() and given in choices("data")
    if part is not None and part not in (*PARTS, ALL):
        raise ConfigError(f"--split is {part!r}, expected one of {', '.join((*PARTS, ALL))} of {given}.")
    if not named and not Path(given).expanduser().exists():
        raise ConfigError(f"{given!r} is no file, and no data set of the catalogue{closest(given, names())}")
    if named:
        node = _with(run, data_node(compose([f"data={given}"])))
        dataset = open_data(node)
    else:
        node = _of_file(run, Path(given).expanduser())
        dataset = _coded(run, node) if own["kind"] in ("data.table", "data.named_table") else open_data(node)
    dataset = _as_seen(run, dataset)
    _must_fit(run, dataset, given)
    told = {name: value for name, value in node.items() if name != "path"}
    return Other(run.prepared(dataset), part or ("test" if named else ALL), told)


def whole(dataset: Dataset) -> Split:
    """Training, validation and test part one after the other.

    Raises:
        ConfigError: If they are in a form that cannot be joined.
    """
    train, validation, test = dataset.splits
    if not len(train) + len(validation):
        return test
    held = [part.stored for part in dataset.splits]
    labels, conditions = (
        None if test_values is None else torch.cat([getattr(part, name) for part in dataset.splits])
        for name, test_values in (("labels", test.labels), ("conditions", test.conditions))
    )
    if all(isinstance(stored, Tensor) for stored in held):
        return Split(torch.cat([part.dense for part in dataset.splits]), test.transforms, labels, conditions)
    if all(isinstance(stored, Sparse) for stored in held):
        return Split(_below([s for s in held if isinstance(s, Sparse)]), test.transforms, labels, conditions)
    raise ConfigError("These data stay in their file, part by part: add --split test, or another part.")


def _below(parts: list[Sparse]) -> Sparse:
    ends = torch.tensor([0, *(len(part.values) for part in parts)]).cumsum(0)
    starts = [part.starts[1:] + int(end) for part, end in zip(parts, ends, strict=False)]
    return Sparse(
        torch.cat([parts[0].starts[:1], *starts]),
        torch.cat([part.columns for part in parts]),
        torch.cat([part.values for part in parts]),
        parts[0].width,
    )


def _with(run: Run, node: Mapping[str, Any]) -> dict[str, Any]:
    """A node with what the model sees taken from the run's own, and never augmented."""
    own, restore = run.config["data"], run.dataset.restore
    seen = {name: own[name] for name in _SEEN if name in own and name in node}
    made = {**node, **seen, **({"augmentation": None} if "augmentation" in node else {})}
    if isinstance(restore, CellRestore) and "target" in node:
        # what was fitted to the run's training cells stays as it is; their means and deviations are applied in `_as_seen`
        made |= {"target": restore.target, **({} if restore.mean is None else {"expression": "log1p"})}
    return made


def _of_file(run: Run, path: Path) -> dict[str, Any]:
    own = run.config["data"]
    if own["kind"] in ("data.array", "data.images", "data.cells", "data.table"):
        # names within the run's own file mean nothing in another
        within = {
            "name": None,
            "key": None,
            "labels": None,
            "features": None,
            "min_cells": 0,
            "ood": None,
            "backed": False,
        }
        return _with(run, {**own, **{name: value for name, value in within.items() if name in own}, "path": str(path)})
    if own["kind"] == "data.named_table":
        return {"kind": "data.table", "path": str(path)}
    node: dict[str, Any] = {
        "kind": "data.images",
        "path": str(path),
        "binarisation": "none",
        "seed": 0,
        "resolution": None,
    }
    if path.is_dir():
        return _with(run, node)
    node |= {"kind": "data.array", "scale": _scale(run, path)}
    return _with(run, node)


def _scale(run: Run, path: Path) -> float:
    """What bytes of an array are divided by: what those of the run's own data are."""
    divisors = [t.divisor for t in run.dataset.test.transforms if isinstance(t, Scale)]
    plain = open_data({"kind": "data.array", "path": str(path)})
    return divisors[0] if divisors and plain.test.stored.dtype == torch.uint8 and plain.high > 1 else 1.0


def _coded(run: Run, node: Mapping[str, Any]) -> Dataset:
    """The rows of a table, coded as the run's own were: by their means, deviations and levels."""
    columns = columns_of(run.dataset)
    assert columns is not None
    own = {name: run.config["data"].get(name) for name in ("categories", "log", "missing", "drop")}
    absent = (own["missing"],) if isinstance(own["missing"], str) else tuple(own["missing"] or ())
    path = Path(node["path"])
    wishes = TableWishes(run.dataset.target, *(tuple(own[name] or ()) for name in ("categories", "log", "drop")))
    frame = chosen(read_frame(path, absent, wishes.categories), wishes, path.stem)
    try:
        split = Split(columns.coded(frame), ())
    except ValueError as error:
        raise ConfigError(f"{path} has not the columns of the run's data: {error}") from error
    nothing = split.part(torch.arange(0))
    return replace(run.dataset, name=path.stem, train=nothing, validation=nothing, test=split, ood=None)


def _as_seen(run: Run, dataset: Dataset) -> Dataset:
    """Cells that are standardised are so by the run's own means and deviations."""
    restore = run.dataset.restore
    if not isinstance(restore, CellRestore) or restore.mean is None:
        return dataset
    splits = {name: replace(dataset.split(name), transforms=run.dataset.test.transforms) for name in PARTS}
    return replace(dataset, **splits)  # type: ignore[arg-type]


def _must_fit(run: Run, dataset: Dataset, given: str) -> None:
    own, model = run.dataset, run.model
    if dataset.event_shape != model.event_shape:
        raise ConfigError(
            f"{given} has examples of shape {tuple(dataset.event_shape)}, and the model of {run.path} takes "
            f"{tuple(model.event_shape)}: give data of that shape."
        )
    if own.feature_names != dataset.feature_names and own.feature_names and dataset.feature_names:
        other = next(b for a, b in zip(own.feature_names, dataset.feature_names, strict=True) if a != b)
        raise ConfigError(
            f"{given} has other features than the run's data, {other!r} among them: give a file with the run's features in "
            "their order."
        )
    if own.binary and not dataset.binary:
        raise ConfigError(
            f"{given} has values in [{dataset.low:.3g}, {dataset.high:.3g}], and the model has seen 0 and 1 only: give binary data."
        )
    values = DataRange(dataset.low, dataset.high, dataset.levels, {}, dataset.counts)
    try:
        model.likelihood.check(values)
    except ValueError as error:
        raise ConfigError(f"{given} does not suit the model of {run.path}: {error}") from error
    if model.conditional and dataset.num_conditions != own.num_conditions:
        raise ConfigError(
            f"The model is conditional on {own.num_conditions} numbers for each example, and {given} has {dataset.num_conditions}."
        )
    if model.conditional and not own.num_conditions and not 0 < dataset.num_classes <= own.num_classes:
        raise ConfigError(
            f"The model is conditional on {own.num_classes} classes, and {given} has {dataset.num_classes or 'no labels'}."
        )
