"""Faults of the steps of a training: it broke off, some were left out, or they were too large or too small."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from vaekit.evaluation.doctor.case import Case
from vaekit.evaluation.doctor.finding import Finding
from vaekit.evaluation.doctor.words import CONSEQUENCES, USUAL_LR, plural
from vaekit.training.watch import BLOWN_UP

# Adam's customary rate is 1e-3; ten times that is where the presets of this library have been seen to come apart
LARGE_LR = 1e-2
# of a layer of ReLU units: as good as all
DEAD = 0.99
# Adam moves a weight by about the rate in a step at most: steps x rate below this share of the weights' size leave the initial
# weights in place, which know nothing
MOVED = 0.1
# largest value over the 99th percentile: counts and prices reach thousands, broken units and missing-value codes go beyond
OUTLIER = 1e6


def broken_off(case: Case) -> Iterator[Finding]:
    """There is no model."""
    if case.state == "finished":
        return
    done = f"{len(case.rows)} of {plural(case.epochs, 'epoch')} were finished"
    if case.state == "stopped":
        yield Finding(
            "error",
            "Training was interrupted",
            f"{done}, and there are no final weights.",
            "A signal, a kill or a full disk has stopped it before its last step.",
            (f"vaekit resume {case.path}",),
            "interrupted",
            CONSEQUENCES,
        )
        return
    outlier = _outlier(case)
    cause = (
        "One example lies so far from all others that its loss is beyond floating point."
        if outlier
        else f"The steps were too large for this model: optimizer.lr is {case.lr:g}."
        if case.lr > LARGE_LR
        else "The loss or its gradient ran into the limits of floating point."
    )
    yield Finding(
        "error",
        "Training broke off",
        f"{done}: the loss or a gradient was not finite for {case.config['training'].get('skip_limit', 10)} steps in a row."
        f"{outlier}",
        cause,
        _calmer(case, outlier),
        "broke_off",
        CONSEQUENCES,
    )


def skipped_steps(case: Case) -> Iterator[Finding]:
    """Some steps were not finite."""
    skipped = int(sum(row.get("train/skipped_steps", 0) for row in case.rows))
    if not skipped or case.state != "finished":
        return
    outlier = _outlier(case)
    of_all = f" of {case.steps:,}" if case.steps else ""
    yield Finding(
        "warning",
        "Steps left out",
        f"{plural(skipped, 'step')}{of_all} had a loss or a gradient that was not finite, and moved nothing.{outlier}",
        "One example lies so far from all others that its loss is beyond floating point; train.log gives its number."
        if outlier
        else "The weights or the data run into the limits of floating point; train.log names the term and the examples.",
        _calmer(case, outlier),
        "skipped_steps",
        ("training_unfinished", *CONSEQUENCES),
    )


def lr_too_large(case: Case) -> Iterator[Finding]:
    """Steps so large that learning was undone."""
    if case.lr < LARGE_LR or case.state != "finished":
        return
    losses = [-score for score in case.scores]
    # the median, as the loss of a density may be near zero, or on either side of it
    blown = bool(losses) and max(losses) - min(losses) > BLOWN_UP * median(map(abs, losses))
    dead = max((case.value(name) or 0.0 for name in ("dead_encoder", "dead_decoder")), default=0.0)
    if not blown and dead < DEAD:
        return
    weight = case.value("weight")
    size = f" The weights have a root mean square of {weight:.2g}." if weight is not None else ""
    fate = f" {dead:.0%} of the ReLU units of a layer are never on." if dead >= DEAD else ""
    course = (
        f" The validation loss of an epoch was {max(losses):.3g}, and {min(losses):.3g} in the best one."
        if blown
        else ""
    )
    yield Finding(
        "error",
        "Learning rate too large",
        f"optimizer.lr is {case.lr:g}, {case.lr / USUAL_LR:g} times the usual {USUAL_LR:g}.{course}{size}{fate}",
        "Each step throws the weights so far that what was learned is lost, and units end where no gradient reaches them.",
        case.remedies(f"optimizer.lr={USUAL_LR:g}", f"optimizer.lr={USUAL_LR / 10:g}", "training.gradient_clip=1"),
        "lr_too_large",
        ("dead_units", "data_far_from_zero", "training_unfinished", *CONSEQUENCES),
    )


def lr_too_small(case: Case) -> Iterator[Finding]:
    """Steps so small that the weights are still those of the beginning."""
    weight = case.value("weight")
    if weight is None or not case.steps or case.lr >= USUAL_LR or "Adam" not in str(case.config["optimizer"]["kind"]):
        return
    moved = case.lr * case.steps / weight
    if not moved < MOVED:
        return
    yield Finding(
        "warning",
        "Learning rate too small",
        f"optimizer.lr is {case.lr:g}: {plural(case.steps, 'step')} can have moved a weight by {moved:.2%} of the weights' size, "
        f"{weight:.2g}, at most.",
        "The steps are so small that the weights are still nearly those that they were initialised with.",
        case.remedies(f"optimizer.lr={USUAL_LR:g}", f"optimizer.lr={10 * case.lr:g}"),
        "lr_too_small",
        ("training_unfinished", *CONSEQUENCES),
    )


def _outlier(case: Case) -> str:
    usual, high, low = (case.value(name) for name in ("data_usual", "data_high", "data_low"))
    if usual is None or high is None or low is None or not max(abs(high), abs(low)) > OUTLIER * max(usual, 1e-12):
        return ""
    return f" The data reach {max(high, low, key=abs):.3g}, while 99% of the values are within {usual:.3g}."


def _calmer(case: Case, outlier: str) -> tuple[str, ...]:
    rate = USUAL_LR if case.lr > LARGE_LR else case.lr / 10
    gentle = (f"optimizer.lr={rate:g}", "training.gradient_clip=1")
    return case.remedies(
        *(("likelihood=laplace_learned",) if outlier and not case.config["data"].get("counts") else ()), *gentle
    )
