"""Priors: conditionals that only make sense as p(z)."""

from vaekit.priors.standard import StandardNormal

__all__ = ["StandardNormal"]
