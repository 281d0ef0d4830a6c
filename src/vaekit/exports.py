"""Files made from a trained model: samples, reconstructions and codes, each written in one piece."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit import report
from vaekit.errors import ConfigError
from vaekit.evaluation import pictures
from vaekit.evaluation.passes import batches, encodings, measuring
from vaekit.files import write_atomically
from vaekit.gallery import draw_reconstructions
from vaekit.runs import Run

# a picture of more is no picture
_SHOWN = 100


def write_samples(run: Run, path: Path, count: int, seed: int, *, noise: bool) -> tuple[Path, Path]:
    """Write `count` samples, (n, *x), as .npy, and a picture of the first hundred beside it.

    Arguments:
        run: A finished training.
        path: Ends in .npy.
        count: At least 1.
        seed: The same seed gives the same samples.
        noise: Draw from p(x|z) rather than take its mean.

    Returns:
        The two paths.
    """
    if count < 1:
        raise ConfigError(f"--count is {count}, expected 1 or more.")
    if not 0 <= seed < 2**64:
        raise ConfigError(f"--seed is {seed}, expected a number from 0 to 2**64 - 1.")
    draw = pictures.noisy_samples if noise else pictures.samples
    samples = draw(run.model, count, seed).numpy()
    _write_array(path, samples)
    picture = path.with_suffix(".png")
    data = run.dataset
    report.generated_samples(samples[:_SHOWN], picture, low=data.low, high=data.high)
    return path, picture


def write_reconstructions(run: Run, path: Path, split: str) -> tuple[Path, Path]:
    """Write the reconstructions of a whole split, (N, *x), as .npy, and a picture of the first ten beside it."""
    data = run.dataset.split(split)
    with measuring(run.model):
        parts = [run.model.reconstruct(batch.x).cpu() for batch in batches(data, run.plan)]
    _write_array(path, torch.cat(parts).numpy())
    picture = path.with_suffix(".png")
    draw_reconstructions(picture, run.model, run.dataset, run.plan, split)
    return path, picture


def write_codes(run: Run, path: Path, split: str, *, scale: bool) -> Path:
    """Write posterior means (N, L) of a split as .npz, with `index`, `labels` where there are any, and `scale` on request."""
    if path.suffix != ".npz":
        raise ConfigError(f"--output is {path}, expected a file that ends in .npz.")
    data = run.dataset.split(split)
    means, scales = encodings(run.model, data, run.plan)
    arrays: dict[str, Any] = {"mean": means.numpy(), "index": np.arange(len(data))}
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
