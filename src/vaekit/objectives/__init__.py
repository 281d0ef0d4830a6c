"""Objectives: from a trace to nats."""

from vaekit.objectives.base import Loss, MeanReduction, Objective, SumReduction, Term
from vaekit.objectives.beta import effective_beta
from vaekit.objectives.kl import KL, MonteCarloKL
from vaekit.objectives.reconstruction import Reconstruction

__all__ = [
    "KL",
    "Loss",
    "MeanReduction",
    "MonteCarloKL",
    "Objective",
    "Reconstruction",
    "SumReduction",
    "Term",
    "effective_beta",
]
