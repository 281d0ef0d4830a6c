"""What held a training up, and what would help: one line, from what was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from vaekit.data.backed import Backed
from vaekit.networks.linear import Linear
from vaekit.training.clock import Clock
from vaekit.training.device import SMALL_STEP, threads
from vaekit.training.progress import duration
from vaekit.training.session import Session

# a step of less is made of many small operations; the processor spends more on starting each than on doing it
_SHORT = 5e-3
_HALF = 0.5


@dataclass(frozen=True)
class Facts:
    """What decides beside the shares.

    Attributes:
        host: Whether the model is on the host's processor.
        step: Seconds of forward and backward in a step.
        products: Share of those seconds that the matrix products and convolutions need at the speed of this processor, or None.
        behind: How often the device was found behind the host, from 0 to 1, or None.
        idle_cores: Processor cores that torch does not use although the steps are large enough.
        backed: Whether the data are read from a file while the training goes on.
        validation: Share of the measuring that was done while the training went on.
    """

    host: bool = True
    step: float = 0.0
    products: float | None = None
    behind: float | None = None
    idle_cores: int = 0
    backed: bool = False
    validation: float = 0.0


def facts_of(clock: Clock, session: Session, validated: float = 0.0) -> Facts:
    """What a training that has ended says of itself. On a processor it multiplies a few matrices, to know how fast that is here.

    Arguments:
        clock: Of the whole training, to its end.
        session: Of it.
        validated: Seconds of measuring when the last step was done.
    """
    seconds, host = clock.seconds(), session.generators.device.type == "cpu"
    network = seconds["forward"] + seconds["backward"]
    needed = None
    if host and session.products and network > 0:
        with threads(session.threads):
            needed = clock.steps * session.products / _products_per_second()
    large = session.flops >= SMALL_STEP
    return Facts(
        host=host,
        step=network / max(clock.steps, 1),
        products=None if needed is None else min(needed / network, 1.0),
        behind=None if clock.lag is None else clock.lag.share,
        idle_cores=max(0, _cores() - session.threads) if host and large else 0,
        backed=isinstance(session.stream.split.stored, Backed),
        validation=validated / seconds["evaluation"] if seconds["evaluation"] > 0 else 0.0,
    )


def line(seconds: Mapping[str, float], facts: Facts, since: int = 0) -> str:
    """The whole report: how long, where it went, and what would help.

    Arguments:
        seconds: Of each part.
        facts: What else is known.
        since: Steps that other processes have done before this one, whose seconds are not among these.
    """
    parts = shares(seconds)
    told = ", ".join(f"{percent} % {part}" for part, percent in percentages(parts).items())
    scope = f" since step {since:,}" if since else ""
    return f"Time{scope}: {duration(sum(seconds.values()))}, {told}; {advice(parts, facts)}."


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Of each part, adding up to 1; no part where no time has gone."""
    whole = sum(seconds.values())
    return {part: value / whole for part, value in seconds.items()} if whole > 0 else {}


def percentages(parts: Mapping[str, float]) -> dict[str, int]:
    """Shares as whole percents that add up to 100, largest first: rounded down, and the largest remainders up."""
    exact = {part: 100.0 * share for part, share in parts.items()}
    whole = {part: int(value) for part, value in exact.items()}
    short = round(sum(exact.values())) - sum(whole.values())
    for part in sorted(exact, key=lambda name: whole[name] - exact[name])[:short]:
        whole[part] += 1
    return {part: whole[part] for part in sorted(whole, key=lambda name: -exact[name]) if whole[part]}


def advice(parts: Mapping[str, float], facts: Facts) -> str:
    """By what a training with these shares was bound, and what would help, as the end of a sentence."""
    network = {"network": parts.get("forward", 0.0) + parts.get("backward", 0.0)}
    candidates = {part: share for part, share in parts.items() if part not in {"forward", "backward"}} | network
    most = max(candidates, key=candidates.__getitem__)
    return _REMEDIES[most] if most in _REMEDIES else _DEPENDS[most](facts)


_REMEDIES = {
    "optimizer": "bound by the optimizer, whose work is the same for any batch: a larger batch would help",
    "pictures": "bound by drawing pictures, of which there is a certain number at most: a longer training spends less on them",
    "checkpoints": "bound by writing checkpoints: a larger training.checkpoint_seconds would help, or a faster disk",
    "recording": "bound by recording or compiling the step, which is done once: a longer training spends less on it",
    "rest": "bound by what goes on around the steps: a larger batch, and so fewer steps, would help",
}


def _network(facts: Facts) -> str:
    if not facts.host:
        return _device(facts)
    threads = "more threads (OMP_NUM_THREADS), " if facts.idle_cores > 0 else ""
    if facts.products is None:
        return f"bound by the network: {threads}a GPU or a smaller network would help"
    if facts.products >= _HALF:
        return f"bound by the matrix products: {threads}a GPU or a smaller network would help"
    if facts.step < _SHORT:
        return "bound by starting many small operations: a larger batch would help"
    return f"bound by the work around the matrix products, which moves memory: {threads}a GPU would help"


def _device(facts: Facts) -> str:
    if facts.behind is None:
        return "bound by the network: a larger batch or a smaller network would help"
    if facts.behind >= _HALF:
        return "bound by the device, which was never idle: a smaller network or a faster device would help"
    return "bound by the host, which starts the device's operations one by one: a larger batch would help"


def _data(facts: Facts) -> str:
    if facts.backed:
        return "bound by reading the data from the file: a larger data.memory or a faster disk would help"
    return "bound by making the batches: smaller examples (data.resolution, data.features) or fewer augmentations would help"


def _evaluation(facts: Facts) -> str:
    if facts.validation >= _HALF:
        return "bound by measuring the validation split after every epoch: a smaller one would help"
    return "bound by measuring the test split at the end: fewer evaluation.samples would help"


def _waiting(facts: Facts) -> str:
    if not facts.host:
        return "bound by the device, for which the host waited: a smaller network or a faster device would help"
    if facts.backed:
        return "bound by waiting for the disk that the data are on, or for processor cores that other programs had"
    return "bound by waiting for processor cores that other programs had: fewer of them at a time would help"


_DEPENDS = {"network": _network, "data": _data, "waiting": _waiting, "evaluation": _evaluation}


def _cores() -> int:
    """That this process may use, where the system says it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _products_per_second(side: int = 512, times: int = 5) -> float:
    """Floating point operations of the three products of a linear layer per second, float32, on the threads in force.

    They are those of the layer itself, which chooses a library for each: its output, and the gradients of its input and its weight.
    The best of a few times is given.
    """
    with torch.random.fork_rng(devices=[]):  # who only asks for the speed draws no numbers of anybody's
        layer = Linear(side, side, bias=False)
    x = torch.ones(side, side, requires_grad=True)
    best = float("inf")
    with torch.enable_grad():
        for _ in range(times):
            began = time.perf_counter()
            out = layer(x)
            out.backward(out.detach())
            best = min(best, time.perf_counter() - began)
    return 6.0 * side**3 / max(best, 1e-9)
