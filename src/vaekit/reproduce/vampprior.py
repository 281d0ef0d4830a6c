"""The VampPrior against the standard normal prior."""

from __future__ import annotations

from vaekit.reproduce.measures import Evidence
from vaekit.reproduce.protocol import Arm, Check, Protocol, Variant, arms
from vaekit.reproduce.verdict import Above, Near, Shown

_PAPER = "[Tomczak and Welling, 2018](https://arxiv.org/abs/1705.07120), table 1, VAE with L = 1"
_DIFFERS = (
    "Adam in the place of Adam on gradients divided by their norm",
    "2,000 epochs and the weights of the best of them, where the paper stops after 50 epochs without improvement",
    "pseudo-inputs begin as training examples and are held to the range of the data by a sigmoid",
)
_STANDARD = ("prior=standard",)


def _arms(experiment: str, pseudo_inputs: int) -> tuple[Arm, ...]:
    vamp = ("prior=vamp",) if pseudo_inputs == 500 else ("prior=vamp", f"prior.components={pseudo_inputs}")
    return arms(experiment, {"standard": _STANDARD, "vamp": vamp})


CALTECH = Protocol(
    name="vampprior_caltech",
    title="VampPrior against the standard prior, Caltech 101 Silhouettes",
    published="123.43 nats with a standard prior, 114.55 with a VampPrior",
    source=_PAPER,
    differs=_DIFFERS,
    full=Variant(
        arms=_arms("vampprior_caltech", 500),
        measure=Evidence(5000),
        checks=(
            Check(
                "standard prior: negative log-likelihood",
                "standard",
                Near(123.43, 2.0, True),
                published=123.43,
                source=_PAPER,
            ),
            Check(
                "VampPrior: negative log-likelihood", "vamp", Near(114.55, 2.0, True), published=114.55, source=_PAPER
            ),
            Check("gain of the VampPrior", "standard", Above(2.0), less="vamp", published=8.88, source=_PAPER),
        ),
        time="about 4 hours on 2 cores, by the time of its first epochs",
        claim="both numbers within 2 nats (nobody has published a second run), and a gain above 2 nats",
    ),
    quick=Variant(
        arms=_arms("vampprior_caltech_quick", 50),
        measure=Evidence(5000, 200),
        checks=(
            Check("standard prior: negative log-likelihood", "standard", Shown()),
            Check("VampPrior of 50 pseudo-inputs: negative log-likelihood", "vamp", Shown()),
            Check("gain of the VampPrior", "standard", Above(1.0), less="vamp", published=8.88, source=_PAPER),
        ),
        time="about 4 minutes",
        claim="after 40 epochs, with 50 pseudo-inputs for 500, the VampPrior is ahead by more than 1 nat; not by how much it ends",
    ),
)

# 0.06 bits of each of 560 pixels
_FREY_NATS = 23.3
FREY = Protocol(
    name="vampprior_frey",
    title="VampPrior against the standard prior, Frey Face",
    published="4.63 bits per dimension with a standard prior, 4.57 with a VampPrior",
    source=_PAPER,
    differs=(
        *_DIFFERS,
        "a random split of its own sizes, as the paper's order is not known",
        "a likelihood whose levels sum to 1",
    ),
    full=Variant(
        arms=_arms("vampprior_frey", 500),
        measure=Evidence(5000),
        checks=(
            Check(
                "standard prior: bits per dimension", "standard.bits", Near(4.63, 0.05), published=4.63, source=_PAPER
            ),
            Check("VampPrior: bits per dimension", "vamp.bits", Near(4.57, 0.05), published=4.57, source=_PAPER),
            Check(
                "gain of the VampPrior, in nats",
                "standard",
                Above(2.0),
                less="vamp",
                published=_FREY_NATS,
                source=_PAPER,
            ),
        ),
        time="about 2 hours on 2 cores, by the time of its first epochs",
        claim="both numbers within 0.05 bits per dimension (nobody has published a second run), and a gain above 2 nats",
    ),
    quick=Variant(
        arms=_arms("vampprior_frey_quick", 50),
        measure=Evidence(5000, 100),
        checks=(
            Check("standard prior: bits per dimension", "standard.bits", Shown()),
            Check("VampPrior of 50 pseudo-inputs: bits per dimension", "vamp.bits", Shown()),
            Check(
                "gain of the VampPrior, in nats",
                "standard",
                Above(2.0),
                less="vamp",
                published=_FREY_NATS,
                source=_PAPER,
            ),
        ),
        time="about 4 minutes",
        claim="after 120 epochs, with 50 pseudo-inputs for 500, the VampPrior is ahead by more than 2 nats, not how far it gets",
    ),
)
