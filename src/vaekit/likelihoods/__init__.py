"""Likelihoods: conditionals that only make sense as p(x | .)."""

from vaekit.likelihoods.base import Likelihood
from vaekit.likelihoods.bernoulli import Bernoulli
from vaekit.likelihoods.bernoulli_from_means import BernoulliFromMeans
from vaekit.likelihoods.categorical import Categorical
from vaekit.likelihoods.columns import Columns
from vaekit.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vaekit.likelihoods.counts import (
    GivenNegativeBinomial,
    GivenZeroInflatedNegativeBinomial,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
)
from vaekit.likelihoods.discretized_logistic import DiscretizedLogistic, DiscretizedLogisticMixture
from vaekit.likelihoods.laplace import Laplace, LearnedScaleLaplace
from vaekit.likelihoods.normal import LearnedScaleNormal, Normal, OptimalScaleNormal
from vaekit.likelihoods.pixel_logistic import PixelLogistic
from vaekit.likelihoods.pixel_normal import PixelNormal
from vaekit.likelihoods.pyramid import Pyramid

__all__ = [
    "Bernoulli",
    "BernoulliFromMeans",
    "Categorical",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "GivenNegativeBinomial",
    "GivenZeroInflatedNegativeBinomial",
    "Laplace",
    "LearnedScaleLaplace",
    "LearnedScaleNormal",
    "Likelihood",
    "NegativeBinomial",
    "Normal",
    "OptimalScaleNormal",
    "PixelLogistic",
    "PixelNormal",
    "Poisson",
    "Pyramid",
    "ZeroInflatedNegativeBinomial",
]
