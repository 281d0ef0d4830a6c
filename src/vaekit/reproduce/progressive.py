"""A model that grows against the same layers, all open from the first epoch."""

from __future__ import annotations

from vaekit.reproduce.measures import Evidence
from vaekit.reproduce.protocol import Check, Protocol, Variant, arms
from vaekit.reproduce.verdict import Above, Shown

_PAPER = "[Karras et al., 2018](https://arxiv.org/abs/1710.10196), section 2, of generative adversarial networks"

PROGRESSIVE = Protocol(
    name="progressive",
    title="A VAE that grows against the plain one with the same layers, the built-in digits",
    published="growing trains faster and no worse; no number for a VAE",
    source=_PAPER,
    differs=("the paper grows adversarial networks: for a VAE nobody has published a number",),
    quick=Variant(
        arms=arms("growing_digits", {"grown": (), "plain": ("epochs_per_stage=1", "fadein_ratio=0.0")}),
        measure=Evidence(500),
        checks=(
            Check("plain: negative log-likelihood", "plain", Shown()),
            Check("grown: negative log-likelihood", "grown", Shown()),
            Check("gain of growing, at as many epochs", "plain", Above(-1.0), less="grown"),
        ),
        time="about 2 minutes",
        claim="growing loses less than 1 nat at as many epochs, half of them on small images; nothing about large images",
    ),
)
