"""What a training says of itself while it runs: steps left out, a loss blown up, codes or a latent unused or overstretched."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from vaekit.models.vae import VAE
from vaekit.training.history import Row
from vaekit.training.loop import Callback, Progress

# below this the latent says less than a coin toss about an example
COLLAPSED_NATS = 0.5
# a dimension of so many nats tells e^8 = 3,000 values apart, where the prior has room for a few
STRETCHED_NATS = 8.0
# before this share of the training a KL near zero is only a beginning
_EARLY = 0.2
_SHOWN = 3
# an epoch whose loss is worse than the best one's by so many times a usual loss has thrown away what was learned; trainings that
# go well stay below 3, from the first epoch on
BLOWN_UP = 100.0
# a codebook of which a smaller share is in use has collapsed
DEAD_CODES = 0.1


class Watch(Callback):
    """Says what should not wait for the end of the training; each thing once.

    Arguments:
        say: Takes a line.
        model: Whose latents are watched.
        settled: The step from which every schedule of the objective stands still: before it a KL is led elsewhere.
    """

    def __init__(self, say: Callable[[str], None], model: VAE, settled: int = 0) -> None:
        self.say, self.model, self.settled = say, model, settled
        self._said: set[str] = set()
        self._skipped, self._begun = 0, 0

    def start(self, progress: Progress) -> None:
        """Note whether it is a training that goes on."""
        self._begun = progress.step

    def step(self, progress: Progress) -> None:
        """Say which step was left out and why: the first few of them; and that a step could not be recorded or compiled."""
        if progress.refusal:
            self._once(
                "recording",
                f"A step could not be recorded ({progress.refusal}), so each is made by the model's own Python, as the first ones "
                "were: the results are the same, and a small model takes longer.",
            )
        if progress.uncompiled:
            begun = " Where those before the resume were, the last digits differ from now on." if self._begun else ""
            self._once(
                "compiling",
                f"A step could not be compiled ({progress.uncompiled}), so all are made as without training.compile.{begun}",
            )
        guard = progress.guard
        if guard is None or guard.skipped == self._skipped:
            return
        self._skipped = guard.skipped
        if guard.skipped <= _SHOWN:
            more = " More of them are counted in metrics.jsonl." if guard.skipped == _SHOWN else ""
            self.say(f"{guard.last}{more}")

    def epoch(self, progress: Progress, row: Row) -> None:
        """Look at the loss, the use of a codebook, and the KL on the validation split."""
        self._losses(progress)
        self._codes(progress, row)
        kl = row.get("val/kl_loss")
        if kl is None or progress.step <= max(self.settled, int(_EARLY * progress.steps)):
            return
        dimensions = sum(level.event_shape.numel() for level in self.model.hierarchy.open())
        if kl < COLLAPSED_NATS:
            self._once(
                "collapse",
                f"The KL is {kl:.2g} nats after epoch {progress.epoch}: the latent is hardly used. If it stays so, weigh the KL "
                "less (a lower beta, or a warm-up), learn sigma where it is fixed, or hold free bits; a higher KL weight makes it "
                "worse.",
            )
        elif kl > STRETCHED_NATS * dimensions:
            self._once(
                "stretched",
                f"The KL is {kl:.0f} nats after epoch {progress.epoch}, {kl / dimensions:.1f} for each of {dimensions} "
                f"latent dimensions: codes lie where the prior does not, and samples will be bad. Weigh the KL more: raise beta "
                "(or kld_weight), or take more latent dimensions.",
            )

    def _losses(self, progress: Progress) -> None:
        losses = [row["train/loss"] for row in progress.history.rows if "train/loss" in row]
        if len(losses) > 1 and losses[-1] - min(losses) > BLOWN_UP * median(map(abs, losses)):
            self._once(
                "loss",
                f"The loss of epoch {progress.epoch} is {losses[-1]:.3g}, after {min(losses):.3g} in the best one: the steps are "
                "too large. If it does not come back, lower optimizer.lr, or clip with training.gradient_clip=1.",
            )

    def _codes(self, progress: Progress, row: Row) -> None:
        used, perplexity = row.get("val/codebook_used"), row.get("val/codebook_perplexity")
        if used is None or perplexity is None or progress.step <= 0.5 * progress.steps or used >= DEAD_CODES:
            return
        self._once(
            "codes",
            f"{used:.1%} of the codes are in use after epoch {progress.epoch}, with a perplexity of {perplexity:.3g}: the others "
            "cost their rate for nothing. If it stays so, take fewer (posterior.codebook.codes).",
        )

    def _once(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self.say(line)
