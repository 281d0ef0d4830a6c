"""How the runs of a protocol are measured. Each measurement is kept beside its run, and goes on where it was stopped."""

# N examples, K samples, L latent dimensions

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaekit.data.batch import Split
from vaekit.errors import RunError
from vaekit.evaluation import active_units
from vaekit.evaluation.each import Ledger, Tell
from vaekit.evaluation.evidence import evidence_estimates
from vaekit.evaluation.passes import Plan, batches, measuring, traces
from vaekit.evaluation.units import bits_per_dimension, mean
from vaekit.models.vae import VAE
from vaekit.reproduce.protocol import Quantity, Say
from vaekit.runs import Run

FOLDER = "measurements"
# draws behind the mean of a latent that is inferred through another one
_DRAWS = 50


@dataclass(frozen=True)
class Evidence:
    """The negative log-likelihood of each arm by K importance samples, its active units, and its rate.

    Quantities, for an arm a: `a` in nats, `a.bits` in bits per dimension, `a.active` for each level (`a.active.2` is the second
    from the data), and `a.kl`.

    Attributes:
        samples: K.
        examples: How many test examples, at random but the same for all arms; None for all.
        seed: Of all draws.
    """

    samples: int
    examples: int | None = None
    seed: int = 0

    def __call__(self, runs: Mapping[str, Run], say: Say) -> dict[str, Quantity]:
        """Measure the runs."""
        found: dict[str, Quantity] = {}
        for name, run in runs.items():
            split = some(run.dataset.test, self.examples)
            say(f"Measuring {name}: {len(split):,} test examples, {self.samples:,} importance samples each")
            negative = self._negative(run, split, tenths(say))
            found[name] = negative
            found[f"{name}.bits"] = _bits(negative, run.model.event_shape.numel())
            plan = Plan(seed=self.seed)
            found |= {f"{name}.{key}": value for key, value in _latents(run.model, split, plan).items()}
        return found

    def _negative(self, run: Run, split: Split, tell: Tell) -> Quantity:
        ledgers: list[Ledger] = []
        column = f"iwae_{self.samples}"
        keep = keeping(run, ledgers, examples=self.examples, seed=self.seed)
        plan = Plan(seed=self.seed)
        bound = evidence_estimates(run.model, split, plan, draws=(self.samples,), keep=keep, tell=tell)[column]
        kept = ledgers[0].read().get(column)
        if kept is None or len(kept) != len(split):
            raise RunError(
                f"The numbers of the examples could not be kept in {ledgers[0].path}: make its folder writable."
            )
        each = -kept
        return Quantity(mean(each, "nats", f"-log p(x), {bound.estimator}"), each)


def some(split: Split, count: int | None) -> Split:
    """`count` examples of a split at random, by a fixed seed; all of them if there are no more."""
    if count is None or count >= len(split):
        return split
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count].sort().values
    return split.part(chosen.to(split.stored.device))


def tenths(say: Say) -> Tell:
    """Says how far a measurement is, ten times at most."""
    said = 0

    def tell(done: int, count: int) -> None:
        nonlocal said
        if 10 * done // count > said and done < count:
            said = 10 * done // count
            say(f"  {done:,} of {count:,} examples")

    return tell


def keeping(run: Run, made: list[Ledger], **settings: Any) -> Callable[[str, Mapping[str, Any]], Ledger]:
    """Makes the ledgers of a run, each also added to `made`; another model, other settings or another seed is another ledger."""
    weights = run.folder.model_fingerprint()

    def keep(name: str, given: Mapping[str, Any]) -> Ledger:
        made.append(Ledger(run.path / FOLDER, name, {"weights": weights, **settings, **given}))
        return made[-1]

    return keep


def _bits(negative: Quantity, dimensions: int) -> Quantity:
    estimate = negative.estimate
    positive = mean(-negative.each, "nats", estimate.estimator) if negative.each is not None else estimate
    factor = bits_per_dimension(positive, dimensions)
    each = None if negative.each is None else negative.each * (factor.value / estimate.value)
    return Quantity(factor, each)


def _latents(model: VAE, split: Split, plan: Plan) -> dict[str, Quantity]:
    """Active units of each level and the rate.

    The mean of a latent that is inferred through another one is taken over draws of that one, as E q(z|x) says.
    """
    means: list[list[Tensor]] = []
    rates: list[Tensor] = []
    draws = Plan(plan.batch_size, _DRAWS if len(model.hierarchy.open()) > 1 else 1, plan.seed)
    with measuring(model):
        for batch in batches(split, draws):
            sums: list[Tensor] = []
            kl = []
            for trace in traces(model, batch, draws):
                kl.append(trace.kl().double())
                parts = [latent.q.mean.double().sum(0).flatten(1) for latent in trace.latents]
                sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
            means.append([part.cpu() / draws.samples for part in sums])
            rates.append(torch.cat(kl).mean(0).cpu())
    levels = [torch.cat(parts) for parts in zip(*means, strict=True)]
    rate = torch.cat(rates)
    found = {"kl": Quantity(mean(rate, "nats", "KL(q(z|x) || p(z))"), rate)}
    for number, level in enumerate(reversed(levels), 1):
        # the first is the level next to the data
        found["active" if number == 1 else f"active.{number}"] = Quantity(active_units(level))
    return found
