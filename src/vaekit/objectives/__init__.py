"""Objectives: from a trace to nats."""

from vaekit.objectives.base import Loss, MeanReduction, Objective, SumReduction, Term
from vaekit.objectives.beta import effective_beta, equivalent_beta
from vaekit.objectives.codebook import Penalty
from vaekit.objectives.importance import ImportanceBound
from vaekit.objectives.kl import KL, MonteCarloKL
from vaekit.objectives.penalties import DecoderGradient, DecoderWeights, LatentL1, LatentL2
from vaekit.objectives.reconstruction import Reconstruction
from vaekit.objectives.wrappers import Capacity, Constrained, FreeBits

__all__ = [
    "KL",
    "Capacity",
    "Constrained",
    "DecoderGradient",
    "DecoderWeights",
    "FreeBits",
    "ImportanceBound",
    "LatentL1",
    "LatentL2",
    "Loss",
    "MeanReduction",
    "MonteCarloKL",
    "Objective",
    "Penalty",
    "Reconstruction",
    "SumReduction",
    "Term",
    "effective_beta",
    "equivalent_beta",
]
