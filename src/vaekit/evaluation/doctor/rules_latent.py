"""Faults of the latent: unused, ignored, weighed wrongly, or far from the prior."""

from __future__ import annotations

from collections.abc import Iterator

from vaekit.evaluation.doctor.case import Case
from vaekit.evaluation.doctor.finding import Finding
from vaekit.evaluation.doctor.words import CONSEQUENCES, half_the_weight, more_training
from vaekit.training.watch import COLLAPSED_NATS, STRETCHED_NATS

# above it a KL near zero is beta's doing, and a beta that nobody asked for is far from 1
HEAVY_BETA = 2.0
LIGHT_BETA = 0.5
# a beta so light asks for an autoencoder; what follows is no accident of the training
FEATHER_BETA = 0.1
# nats a dimension by which mean, variance and correlations of the codes alone differ from the prior's: a standard normal and one of
# 2.2 times the width have 0.8; trainings of the presets, also short ones, stay below 0.6
FAR_NATS = 0.8
# a decoder that uses z loses about as many nats as z carries when it is given another's
IGNORED_SHARE = 0.05
# most of the latent unused: the same model with a quarter of the dimensions would do
MOSTLY_UNUSED = 0.7


def mean_reduction(case: Case) -> Iterator[Finding]:
    """A beta that the reduction made."""
    beta = case.value("effective_beta")
    if beta is None or not case.mean_reduction or LIGHT_BETA <= beta <= HEAVY_BETA:
        return
    yield Finding(
        "warning",
        "The reduction changes beta",
        f"reduction=mean makes the effective beta {beta:.4g}{_kl(case)}.",
        f"Each term is divided by its own number of elements, which weighs a nat of KL {beta:.4g} times a nat of reconstruction.",
        case.remedies("objective.reduction.kind=objectives.SumReduction"),
        "mean_reduction",
        ("kl_too_light", "training_unfinished", *CONSEQUENCES),
    )


def kl_too_heavy(case: Case) -> Iterator[Finding]:
    """A weight of the KL at which using the latent does not pay."""
    beta, kl = case.value("effective_beta"), case.value("kl")
    if beta is None or kl is None or kl >= COLLAPSED_NATS or beta <= HEAVY_BETA or case.mean_reduction:
        return
    weight = case.config.get("kld_weight")
    lighter = f"kld_weight={2.0 / case.config['input_dim']:.1g}" if weight is not None else "beta=1.0"
    yield Finding(
        "warning",
        "The KL weighs too much",
        f"With {_weight(case, beta)} the KL is {case.told('kl')} nats: the latent carries nothing.",
        f"A nat of KL costs as much as {beta:.4g} nats of reconstruction, so using the latent does not pay.",
        case.remedies(lighter, *more_training(case)),
        "kl_too_heavy",
        ("training_unfinished", "posterior_collapse", "unused_dimensions", "decoder_ignores_z"),
    )


def kl_too_light(case: Case) -> Iterator[Finding]:
    """A weight of the KL that leaves the codes free to lie anywhere."""
    beta, kl, size = case.value("effective_beta"), case.value("kl"), case.config.get("latent_dim")
    if beta is None or kl is None or not isinstance(size, int) or beta >= FEATHER_BETA or case.mean_reduction:
        return
    far = case.value("prior_gap") or 0.0
    if not (far > FAR_NATS * size or kl > STRETCHED_NATS * size):
        return
    weight, residual = case.config.get("kld_weight"), case.value("residual")
    remedies: list[str] = []
    if weight is not None and residual:
        # beta = residual^2 at sigma 1 is the bound of a normal likelihood whose sigma is the residual
        remedies += [f"kld_weight={2.0 * residual**2 / case.config['input_dim']:.2g}", "likelihood=normal_optimal"]
    elif case.asked_beta is not None:
        remedies += ["beta=1.0", f"beta={min(1.0, 10 * case.asked_beta):g}"]
    yield Finding(
        "warning",
        "The KL weighs too little",
        f"With {_weight(case, beta)} the KL is {case.told('kl')} nats for {size} dimensions, of which {far:.3g} are only for where "
        "all codes together lie.",
        "So light a KL does not hold the codes to the prior, whose samples fall where the decoder has seen none.",
        case.remedies(*remedies),
        "kl_too_light",
        ("sigma_too_small", "overstretched", "far_from_prior", "training_unfinished", "overfitting"),
    )


def decoder_ignores_z(case: Case) -> Iterator[Finding]:
    """Another example's z does just as well."""
    swap, kl = case.symptoms.get("swap_z"), case.value("kl")
    if swap is None or kl is None:
        return
    # beside a light weight of the KL a nat of reconstruction is worth many of the KL
    worth = min(1.0, case.value("effective_beta") or 1.0) * kl
    # a few examples may leave that open: it takes a rise that is surely small, and not one that is not surely large
    ignored = swap.value + 2.0 * swap.standard_error <= IGNORED_SHARE * worth
    context, collapsed = case.symptoms.get("swap_context"), kl < COLLAPSED_NATS
    told = collapsed and context is not None and context.value > max(COLLAPSED_NATS, 3.0 * context.standard_error)
    if not told and (collapsed or not ignored):
        return  # a collapse without a condition has a rule of its own
    evidence = f"With the z of another example -log p(x|z) rises by {case.told('swap_z')} nats{_kl(case)}."
    if told:
        yield Finding(
            "warning",
            "The decoder ignores z",
            f"{evidence} With another's condition it rises by {case.told('swap_context')}.",
            "The condition tells the decoder what it needs, and what z could add is worth less than it costs.",
            case.remedies(*more_training(case)),
            "decoder_ignores_z",
            ("posterior_collapse", "one_posterior", "unused_dimensions"),
        )
        return
    yield Finding(
        "warning",
        "The decoder ignores z",
        evidence,
        "The decoder puts out the same whatever z is, so the KL is paid for nothing: what z says is lost on its way.",
        case.remedies(case.network("activation", "silu"), *reversed(more_training(case))),
        "decoder_ignores_z",
        ("one_posterior", "far_from_prior", "overstretched"),
    )


def posterior_collapse(case: Case) -> Iterator[Finding]:
    """The latent carries nothing, and no cause of its own was found."""
    kl = case.value("kl")
    if kl is None or not kl < COLLAPSED_NATS:
        return
    yield Finding(
        "warning",
        "Posterior collapse",
        f"The KL is {case.told('kl')} nats: the latent carries no information about the data.",
        _why_collapsed(case),
        case.remedies(*more_training(case), half_the_weight(case)),
        "posterior_collapse",
        ("unused_dimensions",),
    )


def one_posterior(case: Case) -> Iterator[Finding]:
    """The codes cost nats and tell nothing."""
    kl, units = case.value("kl"), case.value("active_units")
    if kl is None or units is None or kl < COLLAPSED_NATS or units > 0:
        return
    yield Finding(
        "warning",
        "One posterior for all examples",
        f"The KL is {kl:.3g} nats, but no latent dimension is active: the posterior means hardly differ between examples.",
        "q(z|x) has moved away from the prior without telling examples apart, as models do early in training.",
        case.remedies(*reversed(more_training(case))),
        "one_posterior",
        ("unused_dimensions", "far_from_prior"),
    )


def overstretched(case: Case) -> Iterator[Finding]:
    """More nats a dimension than a prior has room for."""
    kl, size = case.value("kl"), case.config.get("latent_dim")
    flat = case.config["architecture"]["kind"] == "models.flat"
    if kl is None or not isinstance(size, int) or not flat or not kl > STRETCHED_NATS * size:
        return
    yield Finding(
        "warning",
        "Overstretched latent",
        f"The KL is {kl:.4g} nats, {kl / size:.1f} for each of {size} latent dimensions.",
        "So many nats in so few dimensions put the codes where the prior is not, so samples from it will be bad.",
        case.remedies(*_heavier(case), f"latent_dim={4 * size}"),
        "overstretched",
        ("far_from_prior",),
    )


def far_from_prior(case: Case) -> Iterator[Finding]:
    """All codes together are not where the prior draws from."""
    gap, size = case.value("prior_gap"), case.config.get("latent_dim")
    # of several latents the gap is that of the first, whose size the configuration does not tell
    flat = case.config["architecture"]["kind"] == "models.flat"
    if gap is None or not isinstance(size, int) or not flat or not gap > FAR_NATS * size:
        return
    heavier = _heavier(case) if "kl" in case.metrics else ()
    other = "prior=fitted_flow" if "kl" not in case.metrics else "prior=vamp"
    yield Finding(
        "warning",
        "Codes far from the prior",
        f"Normals with the moments of all codes and of the prior are {gap:.3g} nats apart, {gap / size:.2g} for each of {size} "
        f"dimensions{_kl(case)}.",
        "The codes as a whole lie where the prior hardly draws, so samples from it will be bad.",
        case.remedies(*(("prior=fitted_normal",) if "kl" not in case.metrics else ()), other, *heavier),
        "far_from_prior",
    )


def unused_dimensions(case: Case) -> Iterator[Finding]:
    """Some dimensions have collapsed, while others carry something."""
    share, kl, size = case.value("unused_dimensions"), case.value("kl"), case.config.get("latent_dim")
    if share is None or kl is None or kl < COLLAPSED_NATS or share < MOSTLY_UNUSED or not isinstance(size, int):
        return
    used = round((1.0 - share) * size)
    if size < 2:
        return
    yield Finding(
        "note",
        "Most latent dimensions are unused",
        f"{size - used} of {size} dimensions have a KL below 0.01 nats; the others carry {kl:.3g} nats.",
        "The data need fewer dimensions at this weight of the KL, and the posterior of the others is the prior.",
        case.remedies(f"latent_dim={max(1, used)}", *more_training(case)[:1]),
        "unused_dimensions",
    )


def _why_collapsed(case: Case) -> str:
    if case.weighs_kl and isinstance(case.config.get("beta"), dict):
        return "Even with the KL's schedule the decoder gains less from the latent than it costs, so q(z|x) has gone to the prior."
    if case.weighs_kl and case.plain_kl:
        return "The KL weighs in full from the first step, when the decoder cannot use the latent, so q(z|x) has gone to the prior."
    return "What the decoder gains from the latent is less than it costs, so q(z|x) has gone to the prior."


def _weight(case: Case, beta: float) -> str:
    weight = case.config.get("kld_weight")
    return f"beta {beta:.3g}" if weight is None else f"kld_weight {weight:g}, which is a beta of {beta:.3g},"


def _heavier(case: Case) -> tuple[str, ...]:
    weight = next((name for name in ("kld_weight", "beta") if isinstance(case.config.get(name), (int, float))), "")
    return (f"{weight}={10 * case.config[weight]:g}",) if weight and case.weighs_kl else ()


def _kl(case: Case) -> str:
    return f", and the KL is {case.told('kl')} nats" if case.value("kl") is not None else ""
