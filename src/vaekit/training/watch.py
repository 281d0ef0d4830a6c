"""What a training says of itself while it runs: steps that were left out, a latent that is unused or overstretched."""

from __future__ import annotations

from collections.abc import Callable

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
        self._skipped = 0

    def step(self, progress: Progress) -> None:
        """Say which step was left out and why: the first few of them."""
        guard = progress.guard
        if guard is None or guard.skipped == self._skipped:
            return
        self._skipped = guard.skipped
        if guard.skipped <= _SHOWN:
            more = " More of them are counted in metrics.jsonl." if guard.skipped == _SHOWN else ""
            self.say(f"{guard.last}{more}")

    def epoch(self, progress: Progress, row: Row) -> None:
        """Look at the KL on the validation split."""
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

    def _once(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self.say(line)
