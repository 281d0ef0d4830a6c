"""How well the scores of a run tell its own data from others: numbers, the scores of every example, and a picture of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from vaekit.data import Dataset, Split
from vaekit.errors import ConfigError
from vaekit.evaluation.each import Tell
from vaekit.evaluation.ood import Keep, ood_scores
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.separation import Scores, ranked, write_scores
from vaekit.evaluation.units import Estimate
from vaekit.report.ood import Separation, separations
from vaekit.runs import Run

NAMES = {
    "negative_bound": "Negative bound",
    "typicality": "Typicality",
    "complexity": "Input complexity",
    "likelihood_ratio": "Likelihood ratio",
    "regret": "Likelihood regret",
    "mahalanobis": "Latent Mahalanobis",
    "reconstruction": "Reconstruction error",
}


@dataclass(frozen=True)
class Told:
    """What was measured and written.

    Attributes:
        metrics: `ood_SCORE_auroc`, `_auprc` and `_fpr95`.
        left_out: Scores that there are not, and why.
        scores: The file with the scores of every example.
        figure: The PNG.
    """

    metrics: dict[str, Estimate]
    left_out: dict[str, str]
    scores: Path
    figure: Path


def tell_apart(
    run: Run,
    inside: Split,
    outside: Split,
    called: str,
    plan: Plan,
    *,
    background: Run | None = None,
    keep: Keep | None = None,
    tell: Tell | None = None,
) -> Told:
    """Score examples of a run's own data and others, and write the scores and a picture of them into its folder.

    Arguments:
        run: Finished, with its own data.
        inside: Examples of its own data that it was not trained on.
        outside: Others, whose values are alike: `must_be_alike`.
        called: The others: a name, or the path of a file.
        plan: How.
        background: A run on the same data that knows the background only, for the likelihood ratio.
        keep: Gives the files in which what is done is kept.
        tell: Called with how many examples are done, of how many.

    Raises:
        ConfigError: If the others do not fit the model, or the background run is not of the same data.
    """
    own, beside = run.dataset, None if background is None else background.model
    called = " ".join(Path(called).name.split()) or "other data"  # where a file lies is nobody else's business
    scores = ood_scores(
        run.model, inside, outside, own.train, plan, keep=keep, tell=tell,
        background=beside, levels=own.levels, counts=own.counts, against=called,
    )  # fmt: skip
    metrics = ranked(scores)
    name = f"ood_{_plain(called)}"
    file = write_scores(scores, run.path / "evaluation" / f"{name}.csv")
    figure = run.path / "figures" / f"{name}.png"
    drawn = [_drawn(scores, metrics, score) for score in scores.inside]
    separations(drawn, figure, _caption(scores), (own.name, called))
    return Told(metrics, dict(scores.left_out), file, figure)


def must_be_alike(own: Dataset, other: Dataset, given: str) -> None:
    """Raise unless the values of both are of one kind: a difference of scale would be told apart with no model at all.

    Raises:
        ConfigError: With both kinds.
    """
    kinds = [_kind(dataset) for dataset in (own, other)]
    if kinds[0] != kinds[1]:
        raise ConfigError(
            f"--ood {given}: its values are {kinds[1]}, and those of {own.name} are {kinds[0]}, so that anything would tell them "
            "apart: give data with values of that kind."
        )


def _kind(dataset: Dataset) -> str:
    if dataset.counts:
        return "counts"
    if dataset.binary or dataset.levels is not None:
        return "0 and 1" if dataset.binary else f"of {dataset.levels} levels in [0, 1]"
    return "in [0, 1]" if dataset.low >= 0.0 and dataset.high <= 1.0 else "real numbers"


def _plain(name: str) -> str:
    """A name as part of that of a file."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "other"


def _drawn(scores: Scores, metrics: Mapping[str, Estimate], name: str) -> Separation:
    inside, outside = scores.of(name)
    area = metrics[f"ood_{name}_auroc"]
    curve = torch.stack(scores.curve(name)).numpy()
    return Separation(NAMES[name], inside.numpy(), outside.numpy(), curve, area.value, area.standard_error)


def _caption(scores: Scores) -> str:
    n, m = (len(next(iter(side.values()))) for side in (scores.inside, scores.outside))
    return f"Scores of {n:,} examples inside and {m:,} outside; a larger score means outside. Share of each set by its score"
