"""The pictures of a run: arrays from the model, drawn by the report."""

from __future__ import annotations

from pathlib import Path

from vaekit import report
from vaekit.data import Dataset
from vaekit.evaluation import kl_per_dimension, pictures
from vaekit.evaluation.passes import Plan, encodings
from vaekit.models.vae import VAE
from vaekit.training.history import Row

SAMPLES = 64


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


def draw_reconstructions(path: Path, model: VAE, dataset: Dataset, plan: Plan, split: str, count: int = 10) -> None:
    """Originals of a split over their reconstructions at the posterior mean."""
    originals, decoded = pictures.reconstructions(model, dataset.split(split), plan, count)
    report.reconstructions(originals.numpy(), decoded.numpy(), path, low=dataset.low, high=dataset.high)


def draw_samples(path: Path, model: VAE, dataset: Dataset, count: int, seed: int) -> None:
    """Means of p(x|z) for draws of z from the prior."""
    images = pictures.samples(model, count, seed).numpy()
    report.generated_samples(images, path, low=dataset.low, high=dataset.high)


def _draw_latent_space(figures: Path, model: VAE, dataset: Dataset, plan: Plan) -> None:
    means, _ = encodings(model, dataset.test, plan)
    view = pictures.latent_view(means, kl_per_dimension(model, dataset.test, plan))
    if view is None:
        return
    labels = None if dataset.test.labels is None else dataset.test.labels.cpu().numpy()
    report.latent_space(
        view.points.numpy(), labels, dataset.class_names, view.axes, figures / "latent_space.png", view.choice
    )
    if view.total == 2 and len(model.event_shape) == 3:
        images, coordinates = pictures.manifold(model)
        report.manifold(
            images.numpy(), figures / "manifold.png", view.axes, coordinates.numpy(), low=dataset.low, high=dataset.high
        )
