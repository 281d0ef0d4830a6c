"""Likelihoods: conditionals that only make sense as p(x | .)."""

from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.bernoulli import Bernoulli
from vaekit.likelihoods.normal import LearnedScaleNormal, Normal, OptimalScaleNormal

__all__ = ["Bernoulli", "LearnedScaleNormal", "Likelihood", "Normal", "OptimalScaleNormal"]
