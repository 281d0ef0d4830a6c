"""Faults of the likelihood: too wide or too narrow for its errors, or of another kind than the data."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vaekit.evaluation.doctor.case import Case
from vaekit.evaluation.doctor.finding import Finding
from vaekit.evaluation.doctor.words import CONSEQUENCES

# likelihoods that are probabilities of discrete values, and no densities
DISCRETE = (
    "Bernoulli", "BernoulliFromMeans", "Categorical", "DiscretizedLogistic", "DiscretizedLogisticMixture", "PixelLogistic",
)  # fmt: skip
# a sigma of twice the residual, or half of it, costs 0.32 or 0.81 nats for every value of an example; presets are within a fifth
SIGMA_FACTOR = 2.0
# (x - mean)^2 / variance of Poisson counts; 1 if they are such, and half as much again is beyond any chance in thousands of counts
OVERDISPERSED = 1.5


def density_on_binary(case: Case) -> Iterator[Finding]:
    """A density of two points."""
    if "kl" not in case.metrics:  # the loss of an autoencoder is no density to begin with
        return
    density = next((kind for kind in case.likelihoods if kind not in DISCRETE), None)
    setting = case.config["data"].get("binarisation")
    binary = setting not in (None, "none") or (case.value("data_binary") == 1.0 and _bounded(case))
    if density is None or not binary or density in ("Poisson", "Columns") or "Binomial" in density:
        return
    every = f"data.binarisation={setting}: every" if setting not in (None, "none") else "Every"
    grey = ("data.binarisation=none",) if setting not in (None, "none") else ()
    yield Finding(
        "warning",
        "A density on binary data",
        f"{every} value is 0 or 1, and {density} is a density.",
        "A density at two points can be made as high as one likes, so these nats say nothing and cannot be compared.",
        case.remedies(*(("likelihood=bernoulli", *grey) if density == case.likelihood else grey)),
        "density_on_binary",
        ("training_unfinished", "kl_too_light", *CONSEQUENCES),
    )


def sigma_too_large(case: Case) -> Iterator[Finding]:
    """A likelihood so tolerant that the latent does not pay."""
    sigma, residual = _sigma(case, most=1.0), case.value("residual")
    if sigma is None or not residual or not sigma > SIGMA_FACTOR * residual:
        return
    values = int(case.config["input_dim"])
    lost = values * (math.log(sigma / residual) - 0.5 * (1.0 - (residual / sigma) ** 2))
    collapsed = (case.value("kl") or 0.0) < 0.5
    yield Finding(
        "warning",
        "Sigma too large",
        f"{_named(case, sigma)}, and the residuals have a root mean square of {case.told('residual')}: {lost:.3g} nats for each "
        f"example are given away{_kl(case)}.",
        "The likelihood is so tolerant of error that what the latent could say is worth fewer nats than it costs."
        if collapsed
        else "The likelihood is wider than the errors, so the latent is used less than the data deserve.",
        case.remedies("likelihood=normal_optimal", *_own_sigma(case, residual), "likelihood=normal_learned")
        if case.likelihood == "Normal"
        else case.remedies("likelihood=laplace_learned"),
        "sigma_too_large",
        ("kl_too_heavy", "training_unfinished", *CONSEQUENCES),
    )


def sigma_too_small(case: Case) -> Iterator[Finding]:
    """A likelihood that takes noise for signal."""
    sigma, residual = _sigma(case, most=math.inf), case.value("residual")
    if sigma is None or not residual or not residual > SIGMA_FACTOR * sigma:
        return
    if case.config.get("kld_weight") is not None:
        return  # a loss that was chosen as such, whose weight has a rule of its own where codes lie far off
    yield Finding(
        "warning",
        "Sigma too small",
        f"{_named(case, sigma)}, and the residuals have a root mean square of {case.told('residual')}, {residual / sigma:.3g} "
        f"times as much{_kl(case)}.",
        "The likelihood takes noise for signal, so a nat of KL weighs nothing beside it and the codes lie far from the prior.",
        case.remedies("likelihood=normal_optimal", *_own_sigma(case, residual), "likelihood=normal_learned")
        if case.likelihood == "Normal"
        else case.remedies("likelihood=laplace_learned"),
        "sigma_too_small",
        ("kl_too_light", "overstretched", "far_from_prior", "training_unfinished", "overfitting", "one_posterior"),
    )


def overdispersed(case: Case) -> Iterator[Finding]:
    """Counts that vary more than a Poisson's."""
    ratio = case.symptoms.get("pearson")
    if case.likelihood != "Poisson" or ratio is None or ratio.value - 3.0 * ratio.standard_error < OVERDISPERSED - 0.5:
        return
    if ratio.value < OVERDISPERSED:
        return
    yield Finding(
        "warning",
        "Counts vary more than the likelihood allows",
        f"The squared errors are {case.told('pearson')} times the variance of the Poisson, which should be 1.",
        "A Poisson's variance is its mean, and these counts have more, so that noise is taken for signal.",
        case.remedies("likelihood=negative_binomial", "likelihood=zinb"),
        "overdispersed",
        ("far_from_prior", "overstretched", "overfitting", "training_unfinished"),
    )


def grey_bernoulli(case: Case) -> Iterator[Finding]:
    """Grey values under a probability of 0 and 1."""
    binary = case.value("data_binary")
    kinds = ("Bernoulli", "BernoulliFromMeans")
    if case.likelihood not in kinds or case.config["data"].get("binarisation") != "none" or binary == 1.0:
        return
    share = f" {1.0 - binary:.0%} of the values are neither 0 nor 1." if binary is not None else ""
    yield Finding(
        "note",
        "Real-valued data under a Bernoulli likelihood",
        f"data.binarisation=none: values between 0 and 1 are scored with the cross-entropy.{share}",
        "That is a loss, not a density, so these numbers cannot be compared with those of binarised data, nor across data sets.",
        case.remedies("data.binarisation=dynamic", "likelihood=normal_optimal"),
        "grey_bernoulli",
    )


def _sigma(case: Case, most: float) -> float | None:
    """The sigma that the weight of the KL leaves of a given one: beta at sigma is 1 at sigma x sqrt(beta), up to a factor."""
    beta = case.value("effective_beta")
    if case.sigma is None or "kl" not in case.metrics:
        return None
    return case.sigma * math.sqrt(min(1.0 if beta is None or beta <= 0.0 else beta, most))


def _named(case: Case, sigma: float) -> str:
    name = "sigma" if case.likelihood == "Normal" else "scale"
    given = f"The likelihood has a {name} of {case.sigma:g}"
    beta = case.value("effective_beta")
    if beta is None or math.isclose(sigma, case.sigma or 0.0, rel_tol=1e-6):
        return given
    return f"{given} beside a beta of {beta:.3g}, as one of {sigma:.3g} beside 1"


def _own_sigma(case: Case, residual: float) -> tuple[str, ...]:
    # beside a kld_weight sigma has to be 1
    return () if case.config.get("kld_weight") is not None else (f"sigma={residual:.2g}",)


def _bounded(case: Case) -> bool:
    return case.value("data_low") == 0.0 and case.value("data_high") == 1.0


def _kl(case: Case) -> str:
    return f"; the KL is {case.told('kl')} nats" if case.value("kl") is not None else ""
