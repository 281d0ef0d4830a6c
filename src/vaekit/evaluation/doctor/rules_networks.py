"""Faults within the networks and the codebook: units that are never on, averages out of step, too much dropout, codes unused."""

from __future__ import annotations

from collections.abc import Iterator

from vaekit.evaluation.doctor.case import Case
from vaekit.evaluation.doctor.finding import Finding
from vaekit.evaluation.doctor.words import CONSEQUENCES, plural

# ReLU networks lose units in ordinary trainings: four fifths of a wide layer on small data are no harm. With 95 of 100 gone, what
# passes through the rest is next to nothing
DEAD_LAYER = 0.95
# data that lie further from zero than so many times their own spread look all the same to the first layer
FAR_DATA = 20.0
# of the spread over examples: more than anything that batches of ordinary size cost
OUT_OF_STEP = 0.25
# the running averages of batch normalisation keep 0.9 of themselves in a step: after 45 of them a hundredth of the start is left
SETTLED_STEPS = 45
# half of all hidden units is what the method's authors recommend at most (Srivastava et al., 2014)
STRONG_DROPOUT = 0.5
# of the codes that the examples could use, by perplexity: below a tenth the codebook has collapsed
DEAD_CODES = 0.1


def data_far_from_zero(case: Case) -> Iterator[Finding]:
    """Values whose differences drown in what they have in common."""
    low, high, spread = (case.value(name) for name in ("data_low", "data_high", "data_spread"))
    if low is None or high is None or not spread or low * high <= 0.0:
        return
    nearest = min(abs(low), abs(high))
    normed = any(norm != "none" for norm in case.setting("norm"))
    if nearest < FAR_DATA * spread or normed:
        return
    yield Finding(
        "warning",
        "Data far from zero",
        f"All values lie between {low:.4g} and {high:.4g}, while examples differ by {spread:.3g}: {nearest / spread:.0f} times "
        "less than their distance from zero.",
        "To the first layer all examples look alike, so its units are on for all of them or for none, and learning is slow.",
        case.remedies(case.network("norm", "batch"), case.network("activation", "tanh")),
        "data_far_from_zero",
        ("dead_units", "training_unfinished", *CONSEQUENCES),
    )


def dead_units(case: Case) -> Iterator[Finding]:
    """A layer through which nothing passes."""
    found = [(side, case.value(f"dead_{side}") or 0.0) for side in ("encoder", "decoder")]
    side, dead = max(found, key=lambda entry: entry[1])
    if dead < DEAD_LAYER:
        return
    layer = case.symptoms[f"dead_{side}"]
    yield Finding(
        "warning",
        "Dead units",
        f"{dead:.1%} of a layer of the {side}: {layer.estimator}, of {plural(layer.n, 'example')}.",
        "A ReLU unit whose input is negative for every example has no gradient and stays so, and nothing passes through the layer.",
        case.remedies(
            case.network("activation", "silu"), f"optimizer.lr={case.lr / 10:g}", case.network("norm", "batch")
        ),
        "dead_units",
        ("training_unfinished", *CONSEQUENCES),
    )


def batch_norm(case: Case) -> Iterator[Finding]:
    """Evaluation sees another network than training."""
    cost, spread = case.symptoms.get("running_cost"), case.value("spread")
    if cost is None or spread is None or abs(cost.value) < max(OUT_OF_STEP * spread, 3.0 * cost.standard_error):
        return
    few = case.steps is not None and case.steps < SETTLED_STEPS
    size = int(case.config["training"]["batch_size"])
    worse = "worse" if cost.value > 0 else "better"
    had = f", which had {plural(case.steps or 0, 'step')}" if few else ""
    yield Finding(
        "warning",
        "Batch normalisation out of step",
        f"With its running averages the model is {abs(cost.value):.3g} ± {cost.standard_error:.2g} nats {worse} than with the "
        f"averages of a batch, as in training{had}.",
        f"The running averages follow a training slowly, and need some {SETTLED_STEPS} steps to forget where they began."
        if few
        else "The running averages are not those of the activations that the weights make, so evaluation sees another network.",
        case.remedies(
            f"training.batch_size={_smaller(case, size)}" if few and size > 8 else "",
            f"training.epochs={_enough(case)}",
            case.network("norm", "layer"),
        ),
        "batch_norm",
        ("training_unfinished", *CONSEQUENCES),
    )


def dropout(case: Case) -> Iterator[Finding]:
    """So many units left out that little passes."""
    share = case.value("dropout_share")
    if share is None or share <= STRONG_DROPOUT:
        return
    cost = (
        f" It costs {case.told('dropout_cost')} nats an example in training."
        if case.value("dropout_cost") is not None
        else ""
    )
    kl = f" The KL is {case.told('kl')} nats." if case.value("kl") is not None else ""
    yield Finding(
        "warning",
        "Dropout too strong",
        f"A layer leaves out {share:.0%} of its units at each step.{cost}{kl}",
        f"The {1.0 - share:.0%} of the units that are left cannot carry what the decoder needs, so it learns to do without.",
        case.remedies(case.network("dropout", "0.0"), case.network("dropout", "0.1")),
        "dropout",
        ("dead_units", "training_unfinished", *CONSEQUENCES),
    )


def codebook_collapse(case: Case) -> Iterator[Finding]:
    """Most codes are never chosen."""
    size, used, perplexity, choices = (
        case.value(name) for name in ("codes", "codes_used", "codes_perplexity", "code_choices")
    )
    if size is None or used is None or perplexity is None or choices is None:
        return
    if not perplexity < DEAD_CODES * min(size, choices):
        return
    fewer = max(4, 2 ** max(2, int(2.0 * used - 1).bit_length()))
    yield Finding(
        "warning",
        "Codebook collapse",
        f"Training examples choose {used:.0f} of {size:.0f} codes, with a perplexity of {perplexity:.3g}.",
        "Most codes were never the nearest to anything, and the model pays the rate of all of them.",
        case.remedies(
            f"posterior.codebook.codes={fewer}" if fewer < size else "",
            f"training.epochs={3 * case.epochs}",
            "posterior.codebook.revive_below=0.5",
        ),
        "codebook_collapse",
        ("training_unfinished", "posterior_collapse", "decoder_ignores_z", "one_posterior"),
    )


def _smaller(case: Case, size: int) -> int:
    """A batch size with steps enough for the running averages."""
    examples = case.value("data_train") or size
    wanted = examples * case.epochs / (4 * SETTLED_STEPS)
    return max(8, min(128, 2 ** int(wanted).bit_length() // 2 or 8))


def _enough(case: Case) -> int:
    steps = case.steps or 1
    return max(2 * case.epochs, -(-case.epochs * 4 * SETTLED_STEPS // steps))
