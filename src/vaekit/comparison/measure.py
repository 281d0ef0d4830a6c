"""The numbers of a run that a comparison shows, and the points behind its pictures: measured once, then kept in its folder."""

# N examples, L latent dimensions, F features

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vaekit import runs
from vaekit.comparison.views import View, columns_of
from vaekit.data.batch import Dataset, Split
from vaekit.data.expression import CellRestore
from vaekit.errors import RunError
from vaekit.evaluation.cells import (
    Moments,
    fitted_counts_nll,
    likelihood_of_counts,
    peak_signal_to_noise,
    reconstructed,
    reconstruction_numbers,
    recovered,
)
from vaekit.evaluation.labels import clusters, held_out_accuracy, mixing, silhouette, told_labels
from vaekit.evaluation.passes import Plan, encodings
from vaekit.evaluation.units import Estimate
from vaekit.files import as_json, write_atomically

# a change of what is measured, or how, makes what was kept worthless
VERSION = 1
NUMBERS, POINTS = "comparison.json", "comparison.npz"
# examples whose points are kept for the maps
KEPT = 5_000
_LARGEST = 1 << 28

Numbers = dict[str, Estimate]


@dataclass(frozen=True)
class Measured:
    """A run's numbers.

    Attributes:
        path: Of its folder.
        config: Resolved.
        numbers: By split, then by name.
        facts: What must be known to compare: `space` of the values, `discrete` for a probability and not a density, `counts`,
            `image`, `data` in words.
        views: Points and statistics of its pictures, by split.
    """

    path: Path
    config: Mapping[str, Any]
    numbers: Mapping[str, Numbers]
    facts: Mapping[str, Any]
    views: Mapping[str, View] = field(default_factory=dict)


def measure(run: runs.Run) -> Measured:
    """The numbers of a finished run, out of its folder where they are there already.

    Arguments:
        run: Finished; `run.dataset` is opened only if something is to be measured.

    Raises:
        RunError: If its folder is damaged.
        ConfigError: If its data cannot be opened.
    """
    known = kept(run)
    if known is None:
        known = _measured(run)
        _keep(run, known)
        known = _with_metrics(known, run)
    return known


def kept(run: runs.Run) -> Measured | None:
    """What an earlier comparison measured, while weights, seed and number of draws are the same; None where there is nothing."""
    known = _read(run)
    return None if known is None else _with_metrics(known, run)


def _with_metrics(known: Measured, run: runs.Run) -> Measured:
    """With the numbers of metrics.json before those that were kept: they may be newer."""
    test = {**known.numbers.get("test", {}), **run.metrics}
    return replace(known, numbers={**known.numbers, "test": test})


def _mark(run: runs.Run) -> dict[str, Any]:
    """What kept numbers were made from."""
    plan = run.plan
    return {"version": VERSION, "model": run.folder.model_fingerprint(), "seed": plan.seed, "samples": plan.samples}


def _read(run: runs.Run) -> Measured | None:
    try:
        told = json.loads((run.path / NUMBERS).read_text("utf-8"))
        if told["made_from"] != _mark(run):
            return None
        numbers = {
            split: {name: Estimate.from_dict(entry) for name, entry in found.items()}
            for split, found in told["numbers"].items()
        }
        views = _read_views(run.path / POINTS, told["columns"])
        return Measured(run.path, run.config, numbers, dict(told["facts"]), views)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile):
        return None  # never measured, or damaged: it is measured anew


def _keep(run: runs.Run, found: Measured) -> None:
    content = {
        "made_from": _mark(run),
        "facts": found.facts,
        "numbers": {
            split: {name: entry.as_dict() for name, entry in given.items()} for split, given in found.numbers.items()
        },
        "columns": {split: view.names for split, view in found.views.items()},
    }
    arrays = {
        f"{split}.{name}": values for split, view in found.views.items() for name, values in view.arrays().items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    try:
        write_atomically(run.path / POINTS, buffer.getvalue())
        write_atomically(run.path / NUMBERS, (as_json(content, indent=2) + "\n").encode())
    except OSError:
        return  # somebody else's folder, or a full disk: it is measured anew the next time


def _read_views(path: Path, columns: Mapping[str, Mapping[str, list[str]]]) -> dict[str, View]:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
            raise ValueError("more than any comparison keeps")
    with np.load(path, allow_pickle=False) as arrays:
        found: dict[str, dict[str, npt.NDArray[Any]]] = {}
        for key in arrays.files:
            split, _, name = key.partition(".")
            found.setdefault(split, {})[name] = arrays[key]
    return {split: View.of(given, columns[split]) for split, given in found.items()}


def _measured(run: runs.Run) -> Measured:
    dataset, plan = run.dataset, run.plan
    facts = _facts(run, dataset)
    numbers: dict[str, Numbers] = {"validation": runs.evaluate(run, "validation", plan)}
    views: dict[str, View] = {}
    known = run.metrics
    for name in ("test", *(["ood"] if dataset.ood is not None else [])):
        bound = known if name == "test" and "reconstruction" in known else runs.evaluate(run, name, plan)
        numbers[name], views[name] = _of_split(run, dataset, name, plan, bound, facts)
    return Measured(run.path, run.config, numbers, facts, views)


def _facts(run: runs.Run, dataset: Dataset) -> dict[str, Any]:
    expression = run.config["data"].get("expression")
    return {
        "space": str(expression) if expression else "the values as the model sees them",
        "discrete": run.model.likelihood.discrete,
        "likelihood": type(run.model.likelihood).__name__,
        "counts": dataset.counts,
        "image": len(dataset.event_shape) == 3,
        "features": dataset.event_shape.numel(),
        "classes": list(dataset.class_names),
        "data": dataset.description,
        "logged": _logged(run),
        **_zero(dataset),
    }


def _logged(run: runs.Run) -> float | None:
    """The ELBO on validation data of the epoch whose weights were kept, as it was logged."""
    kept_row = next((row for row in reversed(run.history) if row.get("kept") == 1.0), {})
    value = kept_row.get("val/elbo")
    return float(value) if isinstance(value, float) else None


def _zero(dataset: Dataset) -> dict[str, Any]:
    """From where on a draw is no zero any more, what the picture calls that share, and whether values are amounts."""
    restore = dataset.restore
    if dataset.counts:
        return {"zero": 0.0, "zeros": "share of zeros", "amounts": True}
    if isinstance(restore, CellRestore) and restore.mean is None:
        # half a count of a cell whose library is the target: a density has no zeros
        return {
            "zero": math.log1p(0.5) if restore.logarithm else 0.5,
            "zeros": "share below half a count",
            "amounts": True,
        }
    return {"zero": 0.0, "zeros": "", "amounts": False}


def _of_split(
    run: runs.Run, dataset: Dataset, name: str, plan: Plan, bound: Mapping[str, Estimate], facts: Mapping[str, Any]
) -> tuple[Numbers, View]:
    model, split = run.model, dataset.split(name)
    vectors = not facts["image"]
    found = reconstructed(model, split, plan, draws=vectors, zero=facts["zero"])
    numbers = dict(bound) | reconstruction_numbers(found, facts["space"])
    if not vectors:
        low, high = (0.0, 1.0) if dataset.low >= 0.0 and dataset.high <= 1.0 else (dataset.low, dataset.high)
        numbers["psnr"] = peak_signal_to_noise(found.squared, high - low)
        numbers.pop("pearson_gene_mean", None)
    way = recovered(dataset)
    if dataset.counts and model.likelihood.discrete:
        numbers |= likelihood_of_counts(facts["likelihood"], numbers)
    elif way is not None:
        numbers["counts_nll"] = fitted_counts_nll(model, dataset.train, split, plan, way)
    means = encodings(model, split, plan)[0]
    numbers |= _of_latents(run, dataset, name, plan, means)
    statistics = (
        None if found.drawn is None else np.stack([_stack(found.original), _stack(found.drawn)]).astype(np.float32)
    )
    return numbers, _view(dataset, split, means, statistics, plan.seed)


def _of_latents(run: runs.Run, dataset: Dataset, name: str, plan: Plan, means: torch.Tensor) -> Numbers:
    """What the latent means know of labels, and how well batches mix in them."""
    split = dataset.split(name)
    numbers: Numbers = {}
    finite = means.isfinite().all(1)
    if not bool(finite.all()):
        return numbers
    numbers |= held_out_accuracy(run.model, dataset, name, plan, means)
    if split.labels is not None and not told_labels(run.model, dataset):
        labels = split.labels.cpu()
        apart = silhouette(means, labels, plan.seed)
        numbers |= ({} if apart is None else {"silhouette": apart}) | clusters(means, labels, plan.seed)
    if dataset.num_batches > 1 and split.conditions is not None:
        batch = split.conditions[:, 1 : 1 + dataset.num_batches].argmax(1).cpu()
        mixed = mixing(means, batch, plan.seed)
        numbers |= {} if mixed is None else {"batch_mixing": mixed}
    return numbers


def _stack(moments: Moments) -> npt.NDArray[Any]:
    return torch.stack([moments.mean, moments.variance, moments.zeros]).numpy()


def _view(dataset: Dataset, split: Split, means: torch.Tensor, statistics: npt.NDArray[Any] | None, seed: int) -> View:
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:KEPT].sort().values
    annotations = {name: np.asarray(values)[chosen.numpy()] for name, values in split.annotations.items()}
    if split.labels is not None:
        labels = split.labels.cpu()[chosen].numpy()
        named = [dataset.class_names[k] if 0 <= k < len(dataset.class_names) else str(k) for k in labels]
        annotations["labels"] = np.array(named, dtype=np.str_)
    return columns_of(means[chosen].float().numpy(), statistics, annotations)


def checked(path: Path, device: str) -> runs.Run:
    """A run whose weights fit its configuration.

    Raises:
        RunError: If they do not, or are damaged.
    """
    run = runs.open_run(path, device)
    if not run.metrics:
        raise RunError("it has no numbers; vaekit evaluate measures it")
    return run
