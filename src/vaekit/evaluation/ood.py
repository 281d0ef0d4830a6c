"""Out-of-distribution scores: how unlike the training data an example is, and how well that tells two data sets apart.

Every score is larger for examples that are more out. What is learned of the data, be it a mean, a covariance or a model, is learned
of the training split alone.
"""

# N examples inside, M outside, K samples, B batch, D values of an example, L latent dimensions

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vaekit.data.augment import Augmentation
from vaekit.data.batch import Batch, Split
from vaekit.data.rows import Rows
from vaekit.errors import ConfigError
from vaekit.evaluation.complexity import compressed_bits
from vaekit.evaluation.each import Ledger, Measure, Tell, each
from vaekit.evaluation.gaps import searched
from vaekit.evaluation.passes import Plan, traces
from vaekit.evaluation.separation import Scores, ranked
from vaekit.evaluation.units import Estimate
from vaekit.likelihoods import Bernoulli, Pyramid
from vaekit.math.importance import importance_bound
from vaekit.math.mahalanobis import mahalanobis
from vaekit.models.vae import VAE

Keep = Callable[[str, Mapping[str, Any]], Ledger]

# training examples that means and covariances are taken over, at random
TRAIN_EXAMPLES = 10_000
# steps of the search for the best posterior of an example, and draws that it is judged by; and examples of each set that it is
# asked of: it takes as long as all other scores of a thousand examples
REGRET_STEPS, REGRET_DRAWS, REGRET_EXAMPLES = 100, 64, 500
# examples that are searched together
_SEARCHED = 50
# a covariance of more latent dimensions is neither known from so many examples nor quickly inverted
_MOST_DIMENSIONS = 2_048


def ood_estimates(
    model: VAE,
    inside: Split,
    outside: Split,
    train: Split,
    plan: Plan,
    *,
    keep: Keep | None = None,
    tell: Tell | None = None,
    background: VAE | None = None,
    levels: int | None = None,
    counts: bool = False,
    against: str = "",
) -> dict[str, Estimate]:
    """How well each score tells the outside from the inside: `ood_SCORE_auroc`, `_auprc` and `_fpr95`.

    The arguments are those of `ood_scores`, the numbers those of `ranked`.
    """
    given: dict[str, Any] = {"background": background, "levels": levels, "counts": counts, "against": against}
    return ranked(ood_scores(model, inside, outside, train, plan, keep=keep, tell=tell, **given))


def ood_scores(
    model: VAE,
    inside: Split,
    outside: Split,
    train: Split,
    plan: Plan,
    *,
    keep: Keep | None = None,
    tell: Tell | None = None,
    background: VAE | None = None,
    levels: int | None = None,
    counts: bool = False,
    against: str = "",
    train_examples: int = TRAIN_EXAMPLES,
    regret_examples: int = REGRET_EXAMPLES,
) -> Scores:
    r"""The scores of every example. With :math:`L_K(x)` the importance-weighted bound on log p(x):

    - `negative_bound`: :math:`-L_K(x)`.
    - `typicality`: :math:`|L_K(x) - \bar L_K|`, with the mean over training examples (Nalisnick et al., 2019).
    - `complexity`: :math:`-L_K(x) / \log 2 - C(x)`, with the bits C of a lossless compressor (Serra et al., 2020).
    - `likelihood_ratio`: :math:`L^0_K(x) - L_K(x)`, with the bound of a background model (Ren et al., 2019).
    - `regret`: :math:`L[q^*] - L[q]`, what the ELBO of the example gains by a posterior of its own (Xiao et al., 2020).
    - `mahalanobis`: :math:`\sqrt{(\mu(x) - \bar\mu)^T S^{-1} (\mu(x) - \bar\mu)}` of posterior means, with their mean and shrunk
      covariance over training examples (Lee et al., 2018; in latents, Denouden et al., 2018).
    - `reconstruction`: mean squared error of the reconstruction at the posterior mean, over the values of an example.

    A model whose ELBO bounds nothing has the last two only. A score that is not a number, as from a model that overflows far from
    its data, is taken for infinite: out.

    Arguments:
        model: On the device of the splits.
        inside: Examples of the data that the model was trained on, which it was not trained on.
        outside: Other examples, of the same shape, scale and binarisation.
        train: What the model was trained on. Augmentations are left off.
        plan: `plan.samples` is K.
        keep: Gives the ledger of a measurement by its name and settings, so that a killed one goes on.
        tell: Called with how many examples are done, of how many.
        background: A model of the same data that knows their background only, such as one trained on examples with noise.
        levels: M where every value of the data is one of 0, 1/(M-1), ..., 1; None otherwise.
        counts: Whether every value of the data is a number of things that were counted.
        against: What the outside is called, for the words.
        train_examples: Most training examples that are looked at; a random part of them, the same every time.
        regret_examples: Most examples of each set whose regret is measured, likewise; 0 to leave it out.

    Raises:
        ConfigError: If examples do not have the shape that the model takes, or the background model is none of the same data.

    References:
        | Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality (Nalisnick et al., 2019), equation 4
          with a single input, https://arxiv.org/abs/1906.02994
        | Input Complexity and Out-of-distribution Detection with Likelihood-based Generative Models (Serra et al., 2020), equation
          1, https://arxiv.org/abs/1909.11480
        | Likelihood Ratios for Out-of-Distribution Detection (Ren et al., 2019), equation 5, https://arxiv.org/abs/1906.02845
        | Likelihood Regret: An Out-of-Distribution Detection Score for Variational Auto-encoder (Xiao et al., 2020), equation 6
          https://arxiv.org/abs/2003.02977
        | A Simple Unified Framework for Detecting Out-of-Distribution Samples (Lee et al., 2018), https://arxiv.org/abs/1807.03888
        | Improving Reconstruction Autoencoder Out-of-distribution Detection with Mahalanobis Distance (Denouden et al., 2018)
          https://arxiv.org/abs/1812.02765
    """
    _must_fit(model, {"inside": inside, "outside": outside, "training": train})
    if background is not None:
        _must_be_of_the_same(model, background)
    sides, seen = {"inside": inside, "outside": outside}, _some(_unchanged(train), train_examples)
    left_out = _left_out(model, levels, counts=counts, background=background is not None)
    passes = (1 if background is None else 2) * (len(inside) + len(outside)) + len(seen)
    asked = _Asked(plan, keep, tell, passes)

    looked = partial(_numbers, levels=levels, compressed="complexity" not in left_out)
    found = {name: asked.each(name, model, split, looked, levels=levels) for name, split in sides.items()}
    trained = asked.each("train", model, seen, partial(_numbers, levels=None, compressed=False))
    beside: dict[str, dict[str, Tensor]] = {name: {} for name in sides}
    if "likelihood_ratio" not in left_out and background is not None:
        beside = {name: asked.each(f"background_{name}", background, split, _bounds) for name, split in sides.items()}
    regrets: dict[str, Tensor] = {}
    if not regret_examples:
        left_out["regret"] = "it was asked of no example"
    if "regret" not in left_out:
        try:
            asked.anew(sum(min(len(split), regret_examples) for split in sides.values()))
            regrets = {name: asked.regret(name, model, split, regret_examples) for name, split in sides.items()}
        except ConfigError as error:
            left_out["regret"] = str(error)
    quanta = _quanta(model, levels)
    scored = {
        name: _scored(numbers, trained, beside[name], regrets.get(name), quanta) for name, numbers in found.items()
    }
    if "negative_bound" in scored["inside"] and "typicality" not in scored["inside"]:
        left_out["typicality"] = "the bounds of training examples are not all finite, and have no mean"
    if "mahalanobis" not in scored["inside"]:
        left_out["mahalanobis"] = (
            "posterior means of training examples do not vary, are not finite, or have too many dimensions"
        )
    outside_of = f", against {against}" if against else ""
    words = {name: f"{text}{outside_of}" for name, text in _words(plan.samples, len(seen)).items()}
    return Scores(scored["inside"], scored["outside"], words, left_out)


class _Asked:
    """Passes over splits under one plan: each keeps what it has done, and all count their examples together."""

    def __init__(self, plan: Plan, keep: Keep | None, tell: Tell | None, total: int) -> None:
        self.plan, self._keep, self._tell, self._total, self._done = plan, keep, tell, total, 0

    def anew(self, total: int) -> None:
        """Count from 0 again: what follows takes another time for an example."""
        self._total, self._done = total, 0

    def each(self, name: str, model: VAE, split: Split, measure: Measure, **settings: Any) -> dict[str, Tensor]:
        """`each` of a measure that depends on these settings."""
        ledger = self._ledger(name, model, split, {"samples": self.plan.samples, **settings})
        return each(model, split, self.plan, measure, ledger=ledger, tell=self._from_here(split))

    def regret(self, name: str, model: VAE, split: Split, most: int) -> Tensor:
        """What a posterior of its own gains for a random part of the examples, nan for the others: (N,)."""
        index = _some_index(len(split), most)
        part = split.part(index.to(split.stored.device))
        given = {"steps": REGRET_STEPS, "samples": REGRET_DRAWS}
        ledger = self._ledger(f"regret_{name}", model, part, given)
        few = replace(self.plan, batch_size=min(self.plan.batch_size, _SEARCHED))  # to be heard of, and to be kept
        found = searched(model, part, few, **given, ledger=ledger, tell=self._from_here(part))
        gained = torch.full((len(split),), math.nan, dtype=torch.float64)
        gained[index] = _known(found["elbo_optimised"] - found["elbo"])
        return gained

    def _ledger(self, name: str, model: VAE, split: Split, settings: Mapping[str, Any]) -> Ledger | None:
        if self._keep is None:
            return None
        made_from = {"data": _fingerprint(split), "weights": _weights(model), "seed": self.plan.seed}
        return self._keep(f"ood_{name}", {**made_from, **settings})

    def _from_here(self, split: Split) -> Tell | None:
        before, told, total = self._done, self._tell, self._total
        self._done += len(split)
        return None if told is None else lambda done, _: told(before + done, total)


def _must_fit(model: VAE, splits: Mapping[str, Split]) -> None:
    for name, split in splits.items():
        shape = split.stored.shape[1:]
        if not len(split):
            raise ConfigError(f"There are no {name} examples to score.")
        if shape != model.event_shape:
            raise ConfigError(
                f"The {name} examples have the shape {tuple(shape)}, and the model takes {tuple(model.event_shape)}: name data "
                "that are of this shape, or become so by the run's own data.resolution."
            )
        if model.conditional and split.labels is None and split.conditions is None:
            raise ConfigError(f"The model is conditional, and the {name} examples have nothing to be conditioned on.")


def _must_be_of_the_same(model: VAE, background: VAE) -> None:
    if not background.bounded:
        raise ConfigError(
            "The background model has no density q(z|x), so that its ELBO bounds nothing; name another run."
        )
    theirs, ours = ((part.event_shape, part.likelihood.discrete) for part in (background, model))
    if theirs != ours:
        kinds = {True: "a probability", False: "a density"}
        raise ConfigError(
            f"The background model is {kinds[theirs[1]]} of examples of shape {tuple(theirs[0])}, the model {kinds[ours[1]]} of "
            f"examples of shape {tuple(ours[0])}: name a run on the same data with the same likelihood."
        )


def _left_out(model: VAE, levels: int | None, *, counts: bool, background: bool) -> dict[str, str]:
    """Scores that this model and these data do not have, and why."""
    if not model.bounded:
        of_the_bound = ("negative_bound", "typicality", "complexity", "likelihood_ratio", "regret")
        return dict.fromkeys(of_the_bound, "the ELBO of this model bounds nothing")
    found = {} if background else {"likelihood_ratio": "it needs a background model"}
    if isinstance(model.likelihood, Pyramid):
        found["complexity"] = (
            "the bound is on several views of an image together, and its bits are no code of the image"
        )
    elif levels is None and not counts:
        found["complexity"] = "values are continuous, and no code of finitely many bits holds them"
    elif isinstance(model.likelihood, Bernoulli) and levels != 2:
        found["complexity"] = "nats of a Bernoulli likelihood of grey values are no code length of these values"
    return found


def _quanta(model: VAE, levels: int | None) -> float:
    """Nats that turn a density of values between 0 and 1 into a probability of their M levels: D log(M - 1)."""
    size = float(model.event_shape.numel())
    return 0.0 if model.likelihood.discrete or levels is None else size * math.log(levels - 1)


def _unchanged(train: Split) -> Split:
    """Training examples as they are, and not as an augmentation shows them."""
    plain = tuple(change for change in train.transforms if not isinstance(change, Augmentation))
    return replace(train, transforms=plain)


def _some(split: Split, most: int) -> Split:
    if len(split) <= most:
        return split
    return split.part(_some_index(len(split), most).to(split.stored.device))


def _some_index(n: int, most: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most].sort().values


def _bounds(model: VAE, batch: Batch, plan: Plan) -> dict[str, Tensor]:
    log_w = torch.cat([trace.log_w.double() for trace in traces(model, batch, plan)])
    return {"bound": importance_bound(log_w)}


def _numbers(model: VAE, batch: Batch, plan: Plan, *, levels: int | None, compressed: bool) -> dict[str, Tensor]:
    found = _bounds(model, batch, plan) if model.bounded else {}
    error = model.reconstruct(batch.x, batch.context).double() - batch.x.double()
    found["error"] = error.square().flatten(1).mean(1)
    if compressed:
        found["bits"] = compressed_bits(batch.x, levels)
    means = model.encode(batch.x, batch.context)
    return found if means.shape[1] > _MOST_DIMENSIONS else {**found, "means": means}


def _scored(
    numbers: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    beside: Mapping[str, Tensor],
    regret: Tensor | None,
    quanta: float,
) -> dict[str, Tensor]:
    scores = {}
    if "bound" in numbers:
        bound = numbers["bound"]
        scores["negative_bound"] = -bound
        if bool(trained["bound"].isfinite().all()):
            scores["typicality"] = (bound - trained["bound"].mean()).abs()
        if "bits" in numbers:
            scores["complexity"] = (quanta - bound) / math.log(2.0) - numbers["bits"]
        if beside:
            scores["likelihood_ratio"] = beside["bound"] - bound
    if "means" in numbers:
        distance = mahalanobis(numbers["means"], trained["means"])
        if distance is not None:
            scores["mahalanobis"] = distance
    scores["reconstruction"] = numbers["error"]
    scores = {name: _known(score) for name, score in scores.items()}
    return scores if regret is None else {**scores, "regret": regret}


def _known(score: Tensor) -> Tensor:
    return torch.where(score.isnan(), math.inf, score)


def _words(samples: int, trained: int) -> dict[str, str]:
    bound = f"importance-weighted bound on log p(x), K = {samples}"
    return {
        "negative_bound": f"minus the {bound}",
        "typicality": f"distance of the {bound}, from its mean over {trained:,} training examples",
        "complexity": f"bits by the {bound}, less bits by PNG or zlib, whichever is shorter",
        "likelihood_ratio": f"{bound}, of the background model less that of the model",
        "regret": f"ELBO with the best of {REGRET_STEPS} steps to a posterior of its own, less that with the encoder's",
        "mahalanobis": f"posterior mean, by mean and Ledoit-Wolf covariance of {trained:,} training examples",
        "reconstruction": "mean squared error at the posterior mean",
    }


def _fingerprint(split: Split) -> str:
    """Equal exactly if the examples are, as far as a model sees them."""
    # a transform that is no dataclass has no setting, and where in memory it lies says nothing
    seen = [repr(change) if is_dataclass(change) else type(change).__qualname__ for change in split.transforms]
    digest = hashlib.sha256(repr((str(split.stored.dtype), tuple(split.stored.shape), seen)).encode())
    if isinstance(split.stored, Rows):
        split.stored.digest(digest.update)
    else:
        digest.update(_bytes(split.stored))
    for context in (split.labels, split.conditions):
        if context is not None:
            digest.update(_bytes(context))
    return digest.hexdigest()


def _weights(model: VAE) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(values: Tensor) -> memoryview:
    return values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
