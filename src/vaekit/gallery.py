"""The pictures of a run: arrays from the model, drawn by the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from vaekit import report
from vaekit.data import Dataset
from vaekit.data.batch import Split
from vaekit.data.tables import columns_of
from vaekit.errors import NotFittedError
from vaekit.evaluation import pictures, tables
from vaekit.evaluation.codebook import codebook_counts, codebook_estimates, codes
from vaekit.evaluation.passes import Plan, encodings
from vaekit.evaluation.walks import Walk, interpolate, is_real, relevance, traverse
from vaekit.models.vae import VAE
from vaekit.networks.growing import area_pooled
from vaekit.priors import StandardNormal
from vaekit.training.history import Row

SAMPLES = 64
FRAME = 32
EXTENT = (-3.0, 3.0)  # of a traversal, in units of a standard normal prior
COLUMNS, MOST_CLASSES = 10, 20
ROWS = 2000  # of a table, behind its pictures


def draw_gallery(figures: Path, model: VAE, dataset: Dataset, plan: Plan, rows: list[Row]) -> None:
    """Draw every picture of a finished training.

    Arguments:
        figures: The folder to draw into.
        model: With its final weights.
        dataset: On the model's device; pictures show its test split.
        plan: Gives the evaluation batch size and the seed.
        rows: The logged history.
    """
    report.training_losses(rows, figures / "training_losses.png")
    draw_reconstructions(figures / "reconstructions.png", model, dataset, plan, split="test")
    draw_samples(figures / "generated_samples.png", model, dataset, SAMPLES, plan.seed)
    _draw_latent_space(figures, model, dataset, plan)
    _draw_codebook(figures / "codebook_usage.png", model, dataset, plan)
    if len(model.event_shape) == 3:
        _draw_walks(figures, model, dataset, plan)


def draw_reconstructions(path: Path, model: VAE, dataset: Dataset, plan: Plan, split: str, count: int = 10) -> None:
    """Originals of a split over their reconstructions at the posterior mean; of a table, how much of each column is kept."""
    columns = columns_of(dataset)
    if columns is not None:
        rows, made = tables.reconstructed(model, dataset.split(split), plan)
        report.kept(tables.agreement(columns, rows, made), path, f"{len(rows):,} {split} rows, reconstructed")
        return
    originals, decoded = pictures.reconstructions(model, dataset.split(split), plan, count)
    report.reconstructions(originals.numpy(), decoded.numpy(), path, low=dataset.low, high=dataset.high)


def draw_samples(path: Path, model: VAE, dataset: Dataset, count: int, seed: int) -> None:
    """Means of p(x|z) for draws of z from the prior; of a conditional model, for one condition of the data after the other.

    Classes have a column each, and as many rows as `count` fills. Of a table, how the values of each column are distributed
    in 2,000 generated rows.
    """
    if columns_of(dataset) is not None:
        try:
            draw_marginals(path, dataset, tables.drawn_rows(model, dataset, ROWS, seed))
        except NotFittedError as error:
            report.write_message(_no_prior(error), path)
        return
    classes = class_columns(model, dataset)
    try:
        images = _samples(model, dataset, max(len(classes), count - count % len(classes)) if classes else count, seed)
    except NotFittedError as error:
        report.write_message(_no_prior(error), path)
        return
    caption = "A class in each column, each picture another draw of z" if classes else ""
    report.generated_samples(images, path, caption, low=dataset.low, high=dataset.high, columns=classes)


def draw_marginals(path: Path, dataset: Dataset, made: NDArray[Any]) -> None:
    """How the values of each column of a table are distributed among real test rows and among rows that a model made, (N, W)."""
    columns = columns_of(dataset)
    assert columns is not None
    shown = dataset.test.part(torch.arange(min(len(dataset.test), ROWS), device=dataset.test.stored.device))
    real = tables.dense(shown, Plan())
    caption = f"{len(made):,} generated rows and {len(real):,} real test rows"
    report.histograms(tables.marginals(columns, real, made), path, caption)


def class_columns(model: VAE, dataset: Dataset) -> list[str]:
    """The classes whose images a conditional model draws in turn, if they are few enough for a column each; else none."""
    told = model.conditional and dataset.train.conditions is None and len(model.event_shape) == 3
    shown = dataset.num_classes if told and dataset.num_classes <= MOST_CLASSES else 0
    return [_class_name(dataset, k) for k in range(shown)]


def draw_frame(path: Path, model: VAE, dataset: Dataset, plan: Plan, caption: str) -> None:
    """The first 32 samples, as one frame of an animation; nothing for a model that has no prior to sample from."""
    try:
        images = _samples(model, dataset, FRAME, plan.seed)
    except NotFittedError:
        return
    report.frame(images, path, caption, low=dataset.low, high=dataset.high)


def draw_stage(figures: Path, model: VAE, dataset: Dataset, plan: Plan, stage: int, resolution: int) -> None:
    """Samples and reconstructions of a growing model, each pixel of its present resolution enlarged alike.

    Arguments:
        figures: The folder to draw into: `sample_stage{i}_{r}x{r}.png` and `reconstructions_stage{i}_{r}x{r}.png`.
        model: At the end of a stage.
        dataset: On the model's device.
        plan: Gives the seed.
        stage: Its number, i.
        resolution: Side of its images, r. Originals are shown as it saw them: each pixel the mean of the area that it covers.
    """
    name = f"stage{stage}_{resolution}x{resolution}"
    originals, decoded = (
        area_pooled(images, resolution).numpy() for images in pictures.reconstructions(model, dataset.test, plan)
    )
    path = figures / f"reconstructions_{name}.png"
    report.reconstructions(originals, decoded, path, low=dataset.low, high=dataset.high)
    path = figures / f"sample_{name}.png"
    try:
        samples = torch.from_numpy(_samples(model, dataset, SAMPLES, plan.seed))
    except NotFittedError as error:
        report.write_message(_no_prior(error), path)
        return
    report.generated_samples(area_pooled(samples, resolution).numpy(), path, low=dataset.low, high=dataset.high)


def _samples(model: VAE, dataset: Dataset, count: int, seed: int) -> NDArray[Any]:
    context = dataset.contexts(count) if model.conditional else None
    images: NDArray[Any] = pictures.samples(model, count, seed, context).numpy()
    return images


def _no_prior(error: Exception) -> str:
    return f"no samples: {str(error) or type(error).__name__}"


def draw_walk(path: Path, walk: Walk, dataset: Dataset, context: Tensor | None = None) -> None:
    """Decoded codes as named rows and columns, and under them what a conditional model was told, one row of `context`."""
    ends = None if walk.ends is None else walk.ends.numpy()
    caption = walk.caption if context is None else f"{walk.caption}; decoded as {_told(dataset, context)}"
    report.strips(
        walk.images.numpy(), path, walk.rows, walk.columns, caption, ends=ends, low=dataset.low, high=dataset.high
    )  # fmt: skip


def _told(dataset: Dataset, context: Tensor) -> str:
    if context.is_floating_point():
        return "what the first test example is"
    return f"class {_class_name(dataset, int(context[0]))}"


def _class_name(dataset: Dataset, number: int) -> str:
    return dataset.class_names[number] if number < len(dataset.class_names) else str(number)


def draw_class_samples(path: Path, model: VAE, dataset: Dataset, seed: int) -> None:
    """One class a row, the same draw of z down each column."""
    classes = min(dataset.num_classes, MOST_CLASSES)
    try:
        images = pictures.class_samples(model, classes, COLUMNS, seed)
    except NotFittedError as error:
        report.write_message(_no_prior(error), path)
        return
    names = [_class_name(dataset, k) for k in range(classes)]
    shown = "" if classes == dataset.num_classes else f"; the first {classes} of {dataset.num_classes} classes"
    caption = f"A class in each row, one draw of z down each column: what differs there is the class{shown}"
    report.strips(images.numpy(), path, names, (), caption, low=dataset.low, high=dataset.high)


def _draw_walks(figures: Path, model: VAE, dataset: Dataset, plan: Plan) -> None:
    split = dataset.test
    context = dataset.contexts(1) if model.conditional else None
    if is_real(model, split, plan):
        extent = EXTENT if model.bounded else None
        walk = traverse(model, split, plan, extent=extent, context=context)
        draw_walk(figures / "traversal.png", walk, dataset, context)
        if len(split) > 1:
            walk = interpolate(model, split, plan, 0, _partner(split, like=model.conditional))
            draw_walk(figures / "interpolation.png", walk, dataset)
    if model.conditional and dataset.train.conditions is None and dataset.num_classes:
        draw_class_samples(figures / "class_samples.png", model, dataset, plan.seed)


def _partner(split: Split, *, like: bool) -> int:
    """The first example of another class than that of the very first, or of the same one; without any, the second example.

    A conditional model decodes one class at a time, so it goes between examples that are alike.
    """
    if split.labels is None:
        return 1
    same = split.labels[1:] == split.labels[0]
    found = (same if like else ~same).nonzero()
    return 1 + int(found[0]) if len(found) else 1


def _draw_codebook(path: Path, model: VAE, dataset: Dataset, plan: Plan) -> None:
    found = codes(model, dataset.test, plan)
    if found is None:
        return
    chosen, size = found
    perplexity = codebook_estimates(chosen, size)["codebook_perplexity"].value
    report.codebook_usage(codebook_counts(chosen, size).numpy(), perplexity, path)


def _draw_latent_space(figures: Path, model: VAE, dataset: Dataset, plan: Plan) -> None:
    if not is_real(model, dataset.test, plan):
        return
    means, _ = encodings(model, dataset.test, plan)
    told = relevance(model, dataset.test, plan)
    view = pictures.latent_view(means, told.scores, told.unit)
    if view is None:
        return
    labels = None if dataset.test.labels is None else dataset.test.labels.cpu().numpy()
    standard = model.bounded and all(isinstance(level.prior, StandardNormal) for level in model.hierarchy.open())
    report.latent_space(
        view.points.numpy(), labels, dataset.class_names, view.axes, figures / "latent_space.png", view.choice,
        prior="N(0, I)" if standard else "",
    )  # fmt: skip
    if view.total == 2 and len(model.event_shape) == 3 and standard and not model.conditional:
        images, coordinates = pictures.manifold(model)
        report.manifold(
            images.numpy(), figures / "manifold.png", view.axes, coordinates.numpy(), low=dataset.low, high=dataset.high
        )
