"""Conditionals: from a context to a distribution. Priors and likelihoods are conditionals with a role of their own."""

from vaekit.conditionals.base import Conditional, Consulted
from vaekit.conditionals.normal import Normal

__all__ = ["Conditional", "Consulted", "Normal"]
