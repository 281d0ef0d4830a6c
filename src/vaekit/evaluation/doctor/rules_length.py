"""Faults of the length of a training: schedules too short or too long, a bound still rising, examples learned by heart."""

from __future__ import annotations

from collections.abc import Iterator

from vaekit.evaluation.doctor.case import Case
from vaekit.evaluation.doctor.finding import Finding
from vaekit.evaluation.doctor.words import CONSEQUENCES, GONE, more_training, plural

# a bound that rose by more than this share of its whole rise in the last fifth of the epochs is still rising
STILL_RISING = 0.02
# and above this share the numbers of today say little about the model
STEEP = 0.1
# below it there are no fifths of a training to compare
FEW_EPOCHS = 5
# a weight of the KL whose schedule ends below it: the bound that the model is measured by was never trained
HALF = 0.5
# of the spread over examples: Cohen's medium effect, at which half of the held-out examples are worse than 69% of the others
MEDIUM = 0.5


def lr_gone(case: Case) -> Iterator[Finding]:
    """A learning-rate schedule that ended the training before its time."""
    rates = [row.get("train/lr") for row in case.rows]
    if len(rates) < FEW_EPOCHS or not all(isinstance(rate, (int, float)) for rate in rates):
        return
    moving = sum(1 for rate in rates if float(rate or 0.0) >= GONE * case.lr)
    if moving > len(rates) // 2:
        return
    yield Finding(
        "warning",
        "Learning rate gone too early",
        f"After {moving} of {plural(len(rates), 'epoch')} the rate was below {GONE:.0%} of optimizer.lr, at last {rates[-1]:.2g}.",
        "The schedule of the learning rate has stopped the training long before its last epoch.",
        case.remedies("schedule=constant", "schedule=cosine"),
        "lr_gone",
        ("training_unfinished", *CONSEQUENCES),
    )


def schedule_unfinished(case: Case) -> Iterator[Finding]:
    """The weight of the KL never reached 1, or only after the epoch whose weights were kept."""
    schedule = case.config.get("beta")
    if not isinstance(schedule, dict) or not case.weighs_kl or case.mean_reduction:
        return
    last, beta = _stop(schedule), case.value("effective_beta")
    if last is None or beta is None or not case.kept_epoch:
        return
    kept = f"the weights kept are those of epoch {case.kept_epoch} of {len(case.rows)}"
    if last < HALF:
        yield Finding(
            "warning",
            "KL warm-up ends below 1",
            f"The weight of the KL ends at {last:g}; {kept}.",
            f"The schedule stops at {last:g}, so no epoch was trained with the bound that the model is chosen and measured by.",
            case.remedies(*_whole_warm_up(case), "beta=1.0"),
            "schedule_unfinished",
            ("kl_too_light", "training_unfinished", *CONSEQUENCES),
        )
    elif last <= 1.0 and _end(schedule, case) > case.kept_epoch * (case.steps or 0) / max(1, len(case.rows)):
        yield Finding(
            "note",
            "Weights from within the KL warm-up",
            f"The schedule reaches its final value at step {_end(schedule, case):,.0f}; {kept}.",
            "The model that was best by the bound had not been trained with the full weight of the KL yet.",
            case.remedies(*_whole_warm_up(case), f"training.epochs={2 * case.epochs}"),
            "schedule_unfinished",
            ("training_unfinished",),
        )


def training_unfinished(case: Case) -> Iterator[Finding]:
    """The bound was still rising when the training ended."""
    scores = case.scores
    last = max(1, len(scores) // 5)
    if len(scores) < 2 or not all(row.get("kept") for row in case.rows[-last:]):
        return
    rise, whole = scores[-1] - scores[-1 - last], scores[-1] - scores[0]
    if not rise > max(0.0, STILL_RISING * whole):
        return
    steep = len(scores) < FEW_EPOCHS or rise > STEEP * whole
    epochs = plural(len(scores), "epoch")
    few = f" {plural(case.steps, 'step')} is all it had." if steep and case.steps else ""
    yield Finding(
        "note",
        "Training not finished",
        f"The validation score rose by {rise:.3g} nats in the last {last} of {epochs}, and each was the best so far.{few}",
        "The training ended while the bound was still rising, so its numbers are those of a model on its way.",
        case.remedies(f"training.epochs={_longer(case, steep)}"),
        "training_unfinished",
        # only of a model that has hardly begun can the rest be put down to this
        ("posterior_collapse", "one_posterior", "unused_dimensions", "decoder_ignores_z") if steep else (),
    )


def overfitting(case: Case) -> Iterator[Finding]:
    """Much better on what it was trained on than on anything else."""
    gap, spread = case.value("gap"), case.value("spread")
    found = case.symptoms.get("gap")
    if gap is None or spread is None or found is None or not case.scores or not case.kept_epoch:
        return
    if not (gap > MEDIUM * spread and gap > 3.0 * found.standard_error and _validation_behind(case)):
        return
    fell = max(case.scores) - case.scores[-1]
    later = (
        f" After epoch {case.kept_epoch} of {len(case.scores)} the validation score fell by {fell:.3g} nats."
        if fell > 0
        else ""
    )
    count = case.value("data_train")
    few = f"{count:,.0f} training examples are few for it" if count else "there are few training examples for it"
    yield Finding(
        "warning",
        "Overfitting",
        f"Held-out examples cost {case.told('gap')} nats more than training examples, {gap / spread:.2g} times the spread over "
        f"examples.{later}",
        f"The model has learned its training examples by heart: {few}.",
        case.remedies(case.network("dropout", "0.2"), _narrower(case), _weighed(case)),
        "overfitting",
    )


def _narrower(case: Case) -> str:
    """A quarter of the width, where the networks have one that a setting tells."""
    width, widths = case.config.get("hidden_dim"), case.config.get("hidden_dims")
    if isinstance(widths, list):
        return f"hidden_dims=[{','.join(str(max(8, int(one) // 4)) for one in widths)}]"
    given = [*case.setting("hidden_dim"), *(one for many in case.setting("hidden_dims") for one in many)]
    return f"hidden_dim={max(8, int(width) // 4)}" if isinstance(width, int) and width in given else ""


def _weighed(case: Case) -> str:
    """A weight of the KL above 1, where there is one and it was not asked for already."""
    beta = case.asked_beta
    return "beta=2.0" if case.weighs_kl and (beta is None or beta < 2.0) else ""


def _validation_behind(case: Case) -> bool:
    # a test split can be harder than the others by chance; who has overfitted is worse on both
    row = case.rows[case.kept_epoch - 1]
    train, value = row.get("train/elbo"), row.get("val/elbo")
    return train is None or value is None or float(train) > float(value)


def _longer(case: Case, steep: bool) -> int:
    # a model that has hardly begun needs some thousand steps
    return max(2, min(100, 30 // case.epochs)) * case.epochs if steep else 2 * case.epochs


def _stop(schedule: dict[str, object]) -> float | None:
    inner = schedule.get("schedule")
    if isinstance(inner, dict):
        return _stop(inner)
    knots = schedule.get("knots")
    last = knots[-1][1] if isinstance(knots, list) and knots else schedule.get("stop", schedule.get("value"))
    return float(last) if isinstance(last, (int, float)) else None


def _end(schedule: dict[str, object], case: Case) -> float:
    inner, epoch = schedule.get("schedule"), schedule.get("steps_per_epoch", 1)
    if isinstance(inner, dict):
        return _end(inner, case) * (float(epoch) if isinstance(epoch, (int, float)) else 1.0)
    steps = schedule.get("steps", 0)
    return float(steps) if isinstance(steps, (int, float)) else 0.0


def _whole_warm_up(case: Case) -> tuple[str, ...]:
    return more_training(case)[:1] if case.steps and case.steps > 1 else ()
