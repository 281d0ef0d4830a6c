"""Conditionals: from a context to a distribution. Priors and likelihoods are conditionals with a role of their own."""

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.conditionals.bounded_normal import BoundedNormal
from vaekit.conditionals.categorical import RelaxedCategorical
from vaekit.conditionals.codebook import Codebook, EMACodebook, GradientCodebook
from vaekit.conditionals.delta import Delta
from vaekit.conditionals.normal import Normal
from vaekit.conditionals.quantized import Quantized

__all__ = [
    "BoundedNormal",
    "Codebook",
    "Conditional",
    "Consulted",
    "Delta",
    "EMACodebook",
    "GradientCodebook",
    "Normal",
    "Quantized",
    "RelaxedCategorical",
]
