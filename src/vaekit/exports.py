"""Files made from a trained model: samples, reconstructions and codes, each written in one piece."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit import report
from vaekit.data import Dataset
from vaekit.errors import ConfigError, closest
from vaekit.evaluation import pictures
from vaekit.evaluation.passes import batches, encodings, measuring
from vaekit.evaluation.walks import Walk, interpolate, traverse
from vaekit.files import write_atomically
from vaekit.gallery import class_columns, draw_marginals, draw_reconstructions, draw_walk
from vaekit.runs import Run

# a picture of more is no picture
_SHOWN = 100


def write_samples(
    run: Run, path: Path, count: int, seed: int, *, noise: bool, label: str | None = None
) -> tuple[Path, ...]:
    """Write `count` samples, (n, *x), as .npy, and a picture of the first hundred beside it.

    Where values can be turned back into those that the user gave, as those of a table can, they are written like that too.

    Arguments:
        run: A finished training.
        path: Ends in .npy.
        count: At least 1.
        seed: The same seed gives the same samples.
        noise: Draw from p(x|z) rather than take its mean; for tables it is always drawn.
        label: The class that a conditional model draws, by name or number; None for the conditions of the data in turn.

    Returns:
        The paths.
    """
    if count < 1:
        raise ConfigError(f"--count is {count}, expected 1 or more.")
    if not 0 <= seed < 2**64:
        raise ConfigError(f"--seed is {seed}, expected a number from 0 to 2**64 - 1.")
    data = run.dataset
    draws = noise or (data.restore is not None and data.restore.draws)
    draw = pictures.noisy_samples if draws else pictures.samples
    samples = draw(run.model, count, seed, context(run, count, label)).numpy()
    _write_array(path, samples)
    picture = path.with_suffix(".png")
    if data.columns is not None:
        draw_marginals(picture, data, samples)
        return path, *restored(run, samples, path), picture
    columns = class_columns(run.model, run.dataset) if label is None else []
    caption = "" if label is None else f"decoded as class {label}"
    report.generated_samples(samples[:_SHOWN], picture, caption, low=data.low, high=data.high, columns=columns)
    return path, *restored(run, samples, path), picture


def restored(run: Run, values: np.ndarray, path: Path) -> tuple[Path, ...]:
    """Write what values of the model stand for in what the user gave, beside the .npy file at `path`; nothing if they are that."""
    restore = run.dataset.restore
    if restore is None:
        return ()
    written = restore.write(values, path)
    return (written, written.with_suffix(".parquet")) if written.suffix == ".csv" else (written,)


def write_reconstructions(run: Run, path: Path, split: str) -> tuple[Path, ...]:
    """Write the reconstructions of a whole split, (N, *x), as .npy, and a picture of the first ten beside it.

    Where values can be turned back into those that the user gave, they are written like that too.
    """
    data = run.dataset.split(split)
    with measuring(run.model):
        parts = [run.model.reconstruct(batch.x, batch.context).cpu() for batch in batches(data, run.plan)]
    values = torch.cat(parts).numpy()
    _write_array(path, values)
    picture = path.with_suffix(".png")
    draw_reconstructions(picture, run.model, run.dataset, run.plan, split)
    return path, *restored(run, values, path), picture


def write_traversal(
    run: Run,
    path: Path,
    split: str,
    *,
    index: int | None = None,
    dims: int | None = None,
    steps: int = 11,
    extent: tuple[float, float] | None = None,
    label: str | None = None,
) -> tuple[Path, Path]:
    """Write what varying one latent dimension at a time decodes to, (R, S, *x), as .npy, and a picture of it beside it.

    Arguments:
        run: A finished training.
        path: Ends in .npy.
        split: train, validation or test.
        index: Start from the code of this example; None for the mean of the prior.
        dims: How many dimensions, those with the largest KL first.
        steps: Values of each.
        extent: The first and the last of them; None for the quantiles of the codes.
        label: What a conditional model decodes, by name or number.

    Returns:
        The two paths.
    """
    told = context(run, 1, label) if index is None or label is not None else None
    walk = traverse(
        run.model, run.dataset.split(split), run.plan, index=index, dims=dims, steps=steps, extent=extent, context=told
    )  # fmt: skip
    return _write_walk(run, path, walk, told)


def write_interpolation(
    run: Run,
    path: Path,
    split: str,
    first: int,
    last: int,
    *,
    modes: Sequence[str],
    steps: int,
    label: str | None = None,
) -> tuple[Path, Path]:
    """Write the way from one example's code to another's, decoded, (modes, S, *x), as .npy, and a picture of it beside it.

    Arguments:
        run: A finished training.
        path: Ends in .npy.
        split: train, validation or test.
        first: Position of the example to start from.
        last: Position of the other.
        modes: linear, spherical, or both.
        steps: Codes on the way, with both ends.
        label: What a conditional model decodes, by name or number; None for the class of the first example.

    Returns:
        The two paths.
    """
    told = None if label is None else context(run, 1, label)
    walk = interpolate(
        run.model, run.dataset.split(split), run.plan, first, last, modes=modes, steps=steps, context=told
    )  # fmt: skip
    return _write_walk(run, path, walk, told)


def context(run: Run, count: int, label: str | None) -> Tensor | None:
    """What a conditional model is told of `count` examples, and None for any other model.

    Arguments:
        run: A finished training.
        count: How many rows.
        label: A class, by name or number; None for the conditions of the data in turn.

    Raises:
        ConfigError: If there is a label but the model has no use for it, or there is no such class.
    """
    data = run.dataset
    if not run.model.conditional:
        if label is not None:
            raise ConfigError(f"--label is {label!r}, but this model is not conditional; train one with model=cvae.")
        return None
    if label is None:
        return data.contexts(count)
    if data.train.conditions is not None:
        raise ConfigError(f"--label is {label!r}, but this model is conditioned on numbers and not on classes.")
    return torch.full((count,), _class(data, label), device=run.device)


def _class(data: Dataset, label: str) -> int:
    names = list(data.class_names) or [str(number) for number in range(data.num_classes)]
    if label in names:
        return names.index(label)
    if label.isdecimal() and int(label) < data.num_classes:
        return int(label)
    raise ConfigError(f"there is no class {label!r}{closest(label, names)}")


def _write_walk(run: Run, path: Path, walk: Walk, told: Tensor | None) -> tuple[Path, Path]:
    _write_array(path, walk.images.numpy())
    picture = path.with_suffix(".png")
    draw_walk(picture, walk, run.dataset, told)
    return path, picture


def write_codes(run: Run, path: Path, split: str, *, scale: bool) -> Path:
    """Write posterior means (N, L) of a split as .npz, with `index`, and on request `scale`.

    With `labels` and `names`, those of the cells, where there are any; names are strings, so that no pickle is needed.
    """
    if path.suffix != ".npz":
        raise ConfigError(f"--output is {path}, expected a file that ends in .npz.")
    data = run.dataset.split(split)
    means, scales = encodings(run.model, data, run.plan)
    arrays: dict[str, Any] = {"mean": means.numpy(), "index": np.arange(len(data))}
    if "index" in data.annotations:
        arrays["names"] = np.asarray(data.annotations["index"], dtype=np.str_)
    if data.labels is not None:
        arrays["labels"] = data.labels.cpu().numpy()
    if scale:
        arrays["scale"] = scales.numpy()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())
    return path


def _write_array(path: Path, array: np.ndarray) -> None:
    if path.suffix != ".npy":
        raise ConfigError(f"--output is {path}, expected a file that ends in .npy.")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomically(path, buffer.getvalue())
