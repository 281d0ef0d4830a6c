"""Evaluation: numbers about a model, each with its standard error, unit and count."""

from vaekit.evaluation.aggregate import active_units, kl_per_dimension
from vaekit.evaluation.annealed import ais_estimates, bidirectional_estimates
from vaekit.evaluation.doctor import Finding, diagnose
from vaekit.evaluation.gaps import gap_estimates, overfitting_estimates
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.rate_distortion import BoundTerms, bound_estimates, bound_terms
from vaekit.evaluation.rate_split import rate_split_estimates
from vaekit.evaluation.units import Estimate, bits_per_dimension

__all__ = [
    "BoundTerms",
    "Estimate",
    "Finding",
    "Plan",
    "active_units",
    "ais_estimates",
    "bidirectional_estimates",
    "bits_per_dimension",
    "bound_estimates",
    "bound_terms",
    "diagnose",
    "gap_estimates",
    "kl_per_dimension",
    "overfitting_estimates",
    "rate_split_estimates",
]
