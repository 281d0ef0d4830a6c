"""The optimal scale of a normal likelihood against a scale of 1."""

from __future__ import annotations

from vaekit.reproduce.measures import Evidence
from vaekit.reproduce.protocol import Check, Protocol, Variant, arms
from vaekit.reproduce.verdict import Above, Shown

_PAPER = "[Rybkin, Daniilidis and Levine, 2021](https://arxiv.org/abs/2006.13202)"

OPTIMAL_SIGMA = Protocol(
    name="optimal_sigma",
    title="The optimal scale of the decoder's noise against a scale of 1, Frey Face",
    published="better samples and bounds on all data sets of the paper; no number for these data",
    source=_PAPER,
    differs=("Frey faces and fully connected networks; the paper has larger images and convolutions",),
    quick=Variant(
        arms=arms("optimal_sigma", {"fixed": ("likelihood=normal",), "optimal": ()}),
        measure=Evidence(500),
        checks=(
            Check("scale 1: negative log-likelihood, a density's", "fixed", Shown()),
            Check("optimal scale: negative log-likelihood, a density's", "optimal", Shown()),
            Check("gain of the optimal scale", "fixed", Above(100.0), less="optimal"),
            Check("scale 1: KL", "fixed.kl", Shown()),
            Check("optimal scale: KL", "optimal.kl", Above(5.0)),
            Check("KL that the optimal scale adds", "optimal.kl", Above(0.0), less="fixed.kl"),
        ),
        time="about 2 minutes",
        claim="the optimal scale is worth more than 100 nats, and its latents say more than 5 nats and more than at a scale of 1",
    ),
)
