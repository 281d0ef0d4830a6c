"""Pictures that a training draws of itself while it goes on: samples for an animation, and the stages of a model that grows."""

from __future__ import annotations

from pathlib import Path

from vaekit import gallery, report
from vaekit.data import Dataset
from vaekit.evaluation.passes import Plan
from vaekit.models.vae import VAE
from vaekit.networks import Growth
from vaekit.training.history import Row
from vaekit.training.loop import Callback, Progress

MOST_FRAMES = 40


class Snapshots(Callback):
    """Samples at up to forty epochs, evenly spaced and the last among them, each a picture of its own.

    What is drawn is a function of the weights, so a training that was interrupted draws the same pictures.

    Arguments:
        folder: Where the frames go.
        model: Under training.
        dataset: On the model's device.
        plan: Gives the seed of the samples.
    """

    part = "pictures"

    def __init__(self, folder: Path, model: VAE, dataset: Dataset, plan: Plan) -> None:
        self.folder, self.model, self.dataset, self.plan = folder, model, dataset, plan

    def epoch(self, progress: Progress, row: Row) -> None:
        """Draw, if it is this epoch's turn."""
        epochs = progress.steps // progress.steps_per_epoch
        spacing = -(-epochs // MOST_FRAMES)
        if (epochs - progress.epoch) % spacing == 0:
            self.folder.mkdir(exist_ok=True)
            path = self.folder / f"epoch_{progress.epoch:06d}.png"
            gallery.draw_frame(path, self.model, self.dataset, self.plan, f"epoch {progress.epoch}")


class Stages(Callback):
    """Samples and reconstructions of a growing model at the end of each of its stages.

    Arguments:
        figures: Where the pictures go.
        model: Under training.
        dataset: On the model's device.
        plan: Gives batch size and seed.
    """

    part = "pictures"

    def __init__(self, figures: Path, model: VAE, dataset: Dataset, plan: Plan) -> None:
        self.figures, self.model, self.dataset, self.plan = figures, model, dataset, plan
        self.growth = next((part for part in model.modules() if isinstance(part, Growth)), None)

    def epoch(self, progress: Progress, row: Row) -> None:
        """Draw, if a stage has ended."""
        if self.growth is None:
            return
        last = progress.step == progress.steps
        over = progress.epoch == (self.growth.stage + 1) * self.growth.epochs_per_stage
        if last or over:
            stage, resolution = self.growth.stage, self.growth.resolution
            gallery.draw_stage(self.figures, self.model, self.dataset, self.plan, stage, resolution)


def animate(folder: Path, path: Path) -> None:
    """All frames of a training, in their order, as one animation."""
    frames = sorted(folder.glob("epoch_*.png"))
    if frames:
        report.animation(frames, path)
