"""Words and prescriptions that several rules share."""

from __future__ import annotations

from vaekit.evaluation.doctor.case import Case

# the rate that every preset starts from unless its paper says otherwise
USUAL_LR = 1e-3
# a rate below this share of the configured one moves nothing any more
GONE = 0.01
# in fewer steps no weight of the KL has been warmed up: Adam's steps of 1e-3 have moved a weight by a tenth at most
SHORT = 100
# what follows from almost any fault of the training: named beside one, these would only distract
CONSEQUENCES = (
    "decoder_ignores_z", "posterior_collapse", "one_posterior", "overstretched", "far_from_prior", "unused_dimensions",
    "sigma_too_large", "sigma_too_small", "kl_too_heavy", "codebook_collapse", "overfitting", "overdispersed", "dropout",
)  # fmt: skip


def plural(count: float, what: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{count:,.0f} {what}{'' if count == 1 else 's'}"


def more_training(case: Case) -> tuple[str, ...]:
    """A warm-up of the KL over the first half of the training, where that is long enough; then a longer training.

    It ends at the weight that the KL has now, if that is below 1: a remedy never makes it heavier.
    """
    warm_up = f"'beta={{kind: schedules.Linear, start: 0.0, stop: {case.weight:.3g}, steps: {(case.steps or 0) // 2}}}'"
    longer = f"training.epochs={3 * case.epochs}"
    return (warm_up, longer) if (case.steps or 0) >= SHORT and case.weighs_kl else (longer,)


def half_the_weight(case: Case) -> str:
    """Half of the weight that the KL has now, or of 1; empty where the objective weighs no KL."""
    if not case.weighs_kl:
        return ""
    given = case.config.get("kld_weight")
    return f"beta={0.5 * case.weight:.3g}" if given is None else f"kld_weight={0.5 * given:.3g}"
