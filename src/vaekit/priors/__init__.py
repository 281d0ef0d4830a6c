"""Priors: conditionals that only make sense as p(z)."""

from vaekit.priors.autoregressive import FittedAutoregressive
from vaekit.priors.fitted import Fitted, FittedNormal
from vaekit.priors.fitted_flow import FittedFlow
from vaekit.priors.fitted_mixture import FittedMixture
from vaekit.priors.mixture import Mixture
from vaekit.priors.standard import StandardNormal
from vaekit.priors.uniform import UniformCategorical, UniformCodes
from vaekit.priors.vamp import Vamp

__all__ = [
    "Fitted",
    "FittedAutoregressive",
    "FittedFlow",
    "FittedMixture",
    "FittedNormal",
    "Mixture",
    "StandardNormal",
    "UniformCategorical",
    "UniformCodes",
    "Vamp",
]
