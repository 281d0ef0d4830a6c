"""One training step of a wide VAE (32,738 - 2048 - 1024 - 512 - 64 and back, batch 128, Adam) on counts of which most are zero.

Three take turns within one process, so that a noisy machine disturbs all of them, on one thread and over the same batches:

- vaekit's own loop, from the sparse matrix: gather, log1p, model, objective, gradients, Adam;
- the same model as a plain script on dense tensors that are in memory already: torch.nn, autograd, fused Adam;
- the floor: the matrix products of that model alone, forward and backward, on dense tensors in memory.

    python benchmarks/wide_step.py [--likelihood normal|nb] [--data pbmc3k] [--steps 10] [--features 32738] [--batch 128]

The counts are made up (genes of very unequal expression, about 2,400 molecules a cell) unless --data names a data set. The memory
of each is measured in a process of its own: --alone vaekit|plain|floor.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaekit.compose import compose, data_node
from vaekit.data.batch import Dataset, Split
from vaekit.data.rows import Sparse
from vaekit.recipe import make_session, open_data, resolved
from vaekit.training import fit
from vaekit.training.memory import keep_freed_memory

HIDDEN, LATENT, CELLS = (2048, 1024, 512), 64, 1280
NETWORK = {"activation": "gelu", "dropout": "0.1", "norm": "none"}
ENCODER = {"hidden_dims": f"[{','.join(map(str, HIDDEN))}]", **NETWORK}
DECODER = {"hidden_dims": f"[{','.join(map(str, reversed(HIDDEN)))}]", **NETWORK}
OVERRIDES = {
    "normal": ["model=vae", "expression=log1p"],
    "nb": [
        "model=scvi",
        f"latent_dim={LATENT}",
        *(f"network.encoder.network.{key}={value}" for key, value in ENCODER.items()),
        *(f"network.decoder.network.network.{key}={value}" for key, value in DECODER.items()),
    ],
}


@dataclass(frozen=True)
class Case:
    """What all of them train on: sparse counts (N, F)."""

    likelihood: str
    counts: Sparse
    batch: int

    @property
    def features(self) -> int:
        return self.counts.width

    def dense(self, step: int) -> Tensor:
        first = step * self.batch % (len(self.counts) - self.batch + 1)
        return self.counts.index_select(0, torch.arange(first, first + self.batch))


def made_up(features: int) -> Sparse:
    """Counts of cells: log-normal mean expression, two fifths of the genes silent."""
    numbers = torch.Generator().manual_seed(0)
    mean = torch.exp(2.2 * torch.randn(features, generator=numbers) - 4.6)
    mean[torch.randperm(features, generator=numbers)[: 2 * features // 5]] = 0.0
    mean *= 2400.0 / mean.sum()
    counts = [torch.poisson(mean.expand(64, features), generator=numbers).to_sparse() for _ in range(CELLS // 64)]
    whole = torch.cat(counts).coalesce()
    row, column = whole.indices()
    starts = torch.cat([row.new_zeros(1), torch.bincount(row, minlength=CELLS).cumsum(0)])
    return Sparse(starts, column.int(), whole.values(), features)


def vaekit_step(case: Case) -> Callable[[int], None]:
    logarithm = (torch.log1p,) if case.likelihood == "normal" else ()
    until = torch.cat([torch.zeros(1), case.counts.values.double().cumsum(0)])[case.counts.starts]
    # the conditions of a cell begin with the logarithm of its number of molecules
    split = Split(case.counts, logarithm, conditions=until.diff().log().float()[:, None])
    dataset = Dataset("cells", split, split, split, "counts", False, 0.0, 1e4, counts=case.likelihood == "nb")
    config = resolved(compose([*OVERRIDES[case.likelihood], f"training.batch_size={case.batch}"]), dataset)
    session = make_session(config, dataset, torch.device("cpu"))

    def step(number: int) -> None:
        with session.generators.borrowed():
            fit(
                session.model, session.objective, session.players, session.stream, start=number, steps=number + 1,
                steps_per_epoch=10**9, history=session.history,
            )  # fmt: skip

    return step


class PlainVAE(nn.Module):
    """The same network, written as scripts write it."""

    def __init__(self, features: int, likelihood: str) -> None:
        super().__init__()
        self.encoder = self._layers([features, *HIDDEN])
        self.mu, self.logvar = nn.Linear(HIDDEN[-1], LATENT), nn.Linear(HIDDEN[-1], LATENT)
        self.decoder = self._layers([LATENT, *reversed(HIDDEN)])
        self.out = nn.Linear(HIDDEN[0], features)
        self.log_dispersion = nn.Parameter(torch.zeros(features if likelihood == "nb" else 0))

    @staticmethod
    def _layers(widths: list[int]) -> nn.Sequential:
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            parts += [nn.Linear(before, after), nn.GELU(), nn.Dropout(0.1)]
        return nn.Sequential(*parts)

    def loss(self, x: Tensor, counts: Tensor) -> Tensor:
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        out = self.out(self.decoder(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)))
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        if not len(self.log_dispersion):
            return (0.5 * functional.mse_loss(out, x, reduction="sum") + kl) / len(x)
        log_mean = functional.log_softmax(out, -1) + counts.sum(1, keepdim=True).log()
        theta = self.log_dispersion.exp()
        log_sum = torch.logaddexp(log_mean, self.log_dispersion)
        log_px = torch.lgamma(counts + theta) - torch.lgamma(theta) - torch.lgamma(counts + 1)
        log_px = log_px + theta * (self.log_dispersion - log_sum) + counts * (log_mean - log_sum)
        return (kl - log_px.sum()) / len(x)


def plain_step(case: Case) -> Callable[[int], None]:
    torch.manual_seed(0)
    model = PlainVAE(case.features, case.likelihood)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batches = [(counts.log1p(), counts) for counts in (case.dense(step) for step in range(2))]

    def step(number: int) -> None:
        optimizer.zero_grad()
        model.loss(*batches[number % 2]).backward()
        optimizer.step()

    return step


def floor_step(case: Case) -> Callable[[int], None]:
    """x W^T of each layer, and for its backward g^T x, and g W but for the first, into memory that is there."""
    widths = [case.features, *HIDDEN, 2 * LATENT], [LATENT, *reversed(HIDDEN), case.features]
    layers = []
    for shapes in widths:
        for before, after in pairwise(shapes):
            x, gradient = torch.randn(case.batch, before), torch.randn(case.batch, after)
            weight, of_weight = torch.randn(after, before), torch.empty(after, before)
            layers.append((x, gradient, weight, of_weight, torch.empty_like(x), torch.empty_like(gradient)))

    def step(number: int) -> None:
        for place, (x, gradient, weight, of_weight, of_x, out) in enumerate(layers):
            torch.mm(x, weight.t(), out=out)
            torch.mm(gradient.t(), x, out=of_weight)
            if place:
                torch.mm(gradient, weight, out=of_x)

    return step


CONTESTANTS = {"vaekit": vaekit_step, "plain script, dense": plain_step, "floor: products, dense": floor_step}


def timed(step: Callable[[int], None], number: int) -> float:
    before = time.process_time()
    step(number)
    return time.process_time() - before


def memory(name: str, options: argparse.Namespace) -> float:
    """Largest resident memory of four steps, MiB, in a process of its own."""
    command = [sys.executable, __file__, "--alone", name, "--likelihood", options.likelihood]
    command += ["--features", str(options.features), "--batch", str(options.batch)]
    command += ["--data", options.data] if options.data else []
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def largest() -> float:
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return math.nan if found is None else int(found[1]) / 1024


def opened(options: argparse.Namespace) -> Case:
    if not options.data:
        return Case(options.likelihood, made_up(options.features), options.batch)
    stored = open_data(data_node(compose([f"data={options.data}", "expression=counts"]))).train.stored
    assert isinstance(stored, Sparse)
    return Case(options.likelihood, stored, options.batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--likelihood", choices=tuple(OVERRIDES), default="normal")
    parser.add_argument("--data", help="a data set of cells, such as pbmc3k")
    parser.add_argument(
        "--steps", type=int, default=10, help="of each, in turn, after two that do not count (default 10)"
    )
    parser.add_argument("--features", type=int, default=32_738)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--alone", choices=tuple(CONTESTANTS), help="only print the largest memory of this one")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as `vaekit train` does, and so for all
    case = opened(options)
    if options.alone:
        step = CONTESTANTS[options.alone](case)
        for number in range(4):
            step(number)
        print(largest())
        return
    steps = {name: make(case) for name, make in CONTESTANTS.items()}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.steps + 2):
        for name, step in steps.items():
            seconds = timed(step, number)
            if number > 1:
                taken[name].append(seconds)
    peaks = {name: memory(name, options) for name in steps}
    share = len(case.counts.values) / (len(case.counts) * case.features)
    print(f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}")
    print(f"{options.likelihood}, {case.features:,} features, {share:.1%} not zero, batch {case.batch}")
    print(f"{'':<26}{'CPU ms':>8}{'min':>8}{'max':>8}{'MiB':>8}")
    for name, runs in taken.items():
        ms = [1e3 * seconds for seconds in runs]
        print(f"{name:<26}{statistics.median(ms):>8.0f}{min(ms):>8.0f}{max(ms):>8.0f}{peaks[name]:>8.0f}")
    for other in list(steps)[1:]:
        ratios = [a / b for a, b in zip(taken["vaekit"], taken[other], strict=True)]
        print(
            f"vaekit / {other}, pair by pair: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    if options.json:
        options.json.write_text(json.dumps({"taken": taken, "peaks": peaks}, indent=2))


if __name__ == "__main__":
    main()
