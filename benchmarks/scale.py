"""What a step costs against the size of the data, the width, the draws of each example and the latent; and 1 and 2 processes.

    python benchmarks/scale.py [--case data|width|samples|latent|processes] [--rounds 3] [--steps 20] [--json FILE]

The model is 784-400-20, batch 128, Adam, one thread, on made-up images; one size at a time is changed. The sizes of a table take
turns. CPU time a step, median, least and most over the rounds; of the data also that of a whole epoch. The exponent p of a cost
that grows as size^p is fitted to all sizes, and given between the last two as well: fixed costs hide in the first and not in the
second.

`processes` trains the same model under torchrun (gloo): vaekit itself knows nothing of other processes, so what makes them one
training is here: each has its part of the examples, and before every step of the optimizer the gradients are averaged. Examples a
second by the wall; at the end the weights of all processes are compared, bit by bit.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import distributed

from ours import train_in_turns
from turns import Taken, Turns, machine, take_turns
from vaekit.compose import compose
from vaekit.data.batch import Dataset, Split
from vaekit.data.stream import Stream
from vaekit.data.transforms import Scale
from vaekit.recipe import make_session, resolved
from vaekit.training import fit
from vaekit.training.device import Generators
from vaekit.training.memory import keep_freed_memory
from vaekit.training.session import Session

BATCH, IMAGES = 128, 6400
# after so many steps a training has recorded its own
UNDER_WAY = 110


@dataclass(frozen=True)
class Size:
    """One size of a table."""

    value: int
    images: int = IMAGES
    overrides: tuple[str, ...] = ()


def _hidden(width: int) -> tuple[str, ...]:
    return f"network.encoder.hidden_dims=[{width}]", f"network.decoder.hidden_dims=[{width}]"


TABLES: dict[str, tuple[str, tuple[Size, ...]]] = {
    "data": ("examples", tuple(Size(n, images=n) for n in (1_280, 5_120, 20_480, 81_920))),
    "width": (
        "width of the hidden layers",
        tuple(Size(n, overrides=_hidden(n)) for n in (100, 200, 400, 800, 1600, 3200)),
    ),
    "samples": (
        "draws of each example, K",
        tuple(Size(n, overrides=("objective=iwae", f"training.samples={n}")) for n in (1, 2, 5, 10, 20, 50)),
    ),
    "latent": ("latent dimensions", tuple(Size(n, overrides=(f"latent_dim={n}",)) for n in (2, 8, 32, 128, 512))),
}


def session_of(size: Size, batch: int = BATCH) -> Session:
    """A training of that size at its first step."""
    images = np.random.default_rng(0).integers(0, 256, size=(size.images, 1, 28, 28), dtype=np.uint8)
    split = Split(torch.from_numpy(images), (Scale(255),), torch.zeros(len(images), dtype=torch.int64))
    held = split.part(torch.arange(BATCH))
    dataset = Dataset("made up", split, held, held, "value / 255", False, 0.0, 1.0, levels=256)
    given = [f"training.batch_size={batch}", *_hidden(400), "latent_dim=20", *size.overrides]
    return make_session(resolved(compose(given), dataset), dataset, torch.device("cpu"))


def go(session: Session, steps: int) -> None:
    """Some steps of vaekit's own loop, without an end of an epoch."""
    with session.generators.borrowed():
        fit(
            session.model, session.objective, session.players, session.stream, start=session.step,
            steps=session.step + steps, steps_per_epoch=10**9, samples=session.samples, history=session.history,
        )  # fmt: skip
    session.step += steps


def train(turns: Turns, size: Size) -> None:
    """A contestant: vaekit's loop on a size."""
    torch.set_num_threads(1)
    keep_freed_memory()
    train_in_turns(turns, session_of(size))


def measure(sizes: Sequence[Size], rounds: int, steps: int) -> list[list[Taken]]:
    """Seconds a step of each size in each round, all of them in turn."""
    taken = take_turns({str(size.value): (train, (size,)) for size in sizes}, rounds, steps, max(steps, UNDER_WAY))
    return list(taken.values())


def exponents(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """p of cost = a size^p: by least squares of the logarithms, and between the last two."""
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(costs, float))
    fitted = float(np.polyfit(x, y, 1)[0])
    return fitted, float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def table(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print one."""
    words, sizes = TABLES[name]
    # the order of an epoch is made when it begins, so a whole one of the largest has to be gone through
    steps = math.ceil(max(size.images for size in sizes) / BATCH) if name == "data" else options.steps
    taken = measure(sizes, options.rounds, steps)
    cost = [1e3 * statistics.median(one.cpu for one in rounds) for rounds in taken]
    print(
        f"\n{words:<28}{'ms a step':>10}{'min':>9}{'max':>9}{'wall':>9}"
        + (f"{'s an epoch':>12}" if name == "data" else "")
    )
    for size, rounds, middle in zip(sizes, taken, cost, strict=True):
        cpu, wall = [1e3 * one.cpu for one in rounds], 1e3 * statistics.median(one.wall for one in rounds)
        epoch = f"{middle * math.ceil(size.images / BATCH) / 1e3:>12.2f}" if name == "data" else ""
        print(f"{size.value:<28,}{middle:>10.2f}{min(cpu):>9.2f}{max(cpu):>9.2f}{wall:>9.2f}{epoch}")
    values = [float(size.value) for size in sizes]
    found: dict[str, Any] = {"sizes": values, "taken": [[[one.cpu, one.wall] for one in rounds] for rounds in taken]}
    costs = {"step": cost}
    if name == "data":
        costs["epoch"] = [middle * math.ceil(size.images / BATCH) for size, middle in zip(sizes, cost, strict=True)]
    for what, series in costs.items():
        found[f"exponents of a {what}"] = fitted, last = exponents(values, series)
        print(
            f"a{'n' if what == 'epoch' else ''} {what} grows as size^{fitted:.2f}; between the last two as size^{last:.2f}"
        )
    return found


def averaged(session: Session) -> None:
    """From now on every step of an optimizer is made with the gradients of all processes, averaged."""
    parties = distributed.get_world_size()

    def average(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])  # one message in the place of many
        distributed.all_reduce(together)
        together.div_(parties)
        for gradient, mean in zip(gradients, together.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    for player in session.players:
        player.optimizer.register_step_pre_hook(average)


def same_everywhere(session: Session) -> bool:
    """Whether the weights of all processes are the same bits."""
    for weight in session.model.state_dict().values():
        least, most = weight.clone(), weight.clone()
        distributed.all_reduce(least, distributed.ReduceOp.MIN)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        if not torch.equal(least, most):
            return False
    return True


def party(options: argparse.Namespace) -> None:
    """One process of a training: started by torchrun, it prints a line of JSON if it is the first."""
    distributed.init_process_group("gloo")
    rank, parties = distributed.get_rank(), distributed.get_world_size()
    each = options.batch // parties
    session = session_of(Size(IMAGES), each)  # the same seed, and so the same weights to begin with
    mine = session.stream.split.part(torch.arange(rank, IMAGES, parties))
    session.stream, session.generators = Stream(mine, each, seed=rank), Generators(torch.device("cpu"), 1 + rank)
    averaged(session)
    taken = []
    for number in range(options.rounds + 1):
        distributed.barrier()
        began = time.perf_counter()
        go(session, options.steps)
        distributed.barrier()
        if number:
            taken.append((time.perf_counter() - began) / options.steps)
    same = same_everywhere(session)
    if not rank:
        print(json.dumps({"seconds": taken, "same": same}))
    distributed.destroy_process_group()


def started(processes: int, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """A training of so many processes, under torchrun."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        __file__,
    ]
    command += ["--party", "--batch", str(batch), "--rounds", str(options.rounds), "--steps", str(options.steps)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"processes": processes, "batch": batch, **found}


def processes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One and two, with the same batch in all, and with the same batch for each."""
    found = [started(number, batch, options) for number, batch in ((1, BATCH), (2, BATCH), (2, 2 * BATCH))]
    print(
        f"\n{'processes':<12}{'batch in all':>13}{'ms a step':>11}{'min':>9}{'max':>9}{'examples/s':>12}{'of one':>8}  weights"
    )
    first = None
    for row in found:
        milliseconds = [1e3 * seconds for seconds in row["seconds"]]
        rate = row["batch"] / statistics.median(row["seconds"])
        first = first or rate
        line = (
            f"{row['processes']:<12}{row['batch']:>13}{statistics.median(milliseconds):>11.2f}{min(milliseconds):>9.2f}"
        )
        line += f"{max(milliseconds):>9.2f}{rate:>12,.0f}{rate / first:>8.2f}"
        print(f"{line}  {'the same bits' if row['same'] else 'DIFFER'}")
    return found


def main() -> None:
    names = (*TABLES, "processes")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=names, action="append", help="which table (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turn, after one that does not count")
    parser.add_argument("--steps", type=int, default=20, help="in a round; of the data it is an epoch")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--party", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=BATCH, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as `vaekit train` does
    if options.party:
        party(options)
        return
    print(machine())
    found: Mapping[str, Any] = {
        name: processes(options) if name == "processes" else table(name, options) for name in options.case or names
    }
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "steps": options.steps, "tables": found}, indent=2))


if __name__ == "__main__":
    main()
