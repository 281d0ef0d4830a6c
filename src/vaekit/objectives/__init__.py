"""Objectives: from a trace to nats."""

from vaekit.objectives.base import Loss, MeanReduction, Objective, SumReduction, Term
from vaekit.objectives.beta import effective_beta, equivalent_beta
from vaekit.objectives.bound import Bound
from vaekit.objectives.codebook import Penalty
from vaekit.objectives.dreg import DReG
from vaekit.objectives.importance import ImportanceBound
from vaekit.objectives.kl import KL, MonteCarloKL
from vaekit.objectives.path import PathKL
from vaekit.objectives.penalties import DecoderGradient, DecoderWeights, LatentL1, LatentL2
from vaekit.objectives.reconstruction import Reconstruction
from vaekit.objectives.renyi import LargestWeight, RenyiBound
from vaekit.objectives.tighter import CIWAE, MIWAE, PIWAE
from vaekit.objectives.wrappers import Capacity, Constrained, FreeBits

__all__ = [
    "CIWAE",
    "KL",
    "MIWAE",
    "PIWAE",
    "Bound",
    "Capacity",
    "Constrained",
    "DReG",
    "DecoderGradient",
    "DecoderWeights",
    "FreeBits",
    "ImportanceBound",
    "LargestWeight",
    "LatentL1",
    "LatentL2",
    "Loss",
    "MeanReduction",
    "MonteCarloKL",
    "Objective",
    "PathKL",
    "Penalty",
    "Reconstruction",
    "RenyiBound",
    "SumReduction",
    "Term",
    "effective_beta",
    "equivalent_beta",
]
