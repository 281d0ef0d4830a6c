"""One training step of vaekit beside other libraries and beside the floor: the matrix products of the same model alone.

    python benchmarks/train_step.py [--case mlp] [--rounds 5] [--steps 50] [--json FILE]

All take turns, each in a process of its own on one thread, over the same made-up images (what is in them costs nothing). CPU time
a step: median, least and most over the rounds, and the ratios pair by pair. What comes before the first turn, such as compiling or
recording, is not in it. Libraries that are not installed are left out and named:
`pip install --group bench` has them (pip 25.1 or newer).
"""

from __future__ import annotations

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import argparse
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

import cells
from others import jax_steps, lightning_steps, pythae_steps
from ours import session_of, train_in_turns
from plain import PlainVAE, convolutional, dense_script, mlp, progressive, script, wide
from products import floor_of
from turns import Contestant, Turns, as_json, as_table, machine, take_turns
from vaekit.data.batch import Dataset, Split
from vaekit.data.transforms import Scale
from vaekit.training.memory import keep_freed_memory
from vaekit.training.session import Session

IMAGES = 12800
MOST_STEPS = IMAGES // 128
# vaekit looks at a hundred steps before it writes a program for them
WARM_UP = 100
OURS, COMPILED = "vaekit", "vaekit, training.compile=true"
FLOOR, SCRIPT = "floor: its products alone", "plain DataLoader script"


@dataclass(frozen=True)
class Case:
    """A model.

    Attributes:
        about: In words.
        overrides: Of vaekit's configuration.
        side: Of the images.
        batch: Examples in a step.
        plain: The same model of torch's layers; None where no script is compared.
        widths: Of the hidden layers and the latent, for libraries that are given a perceptron.
        cells: Whether the data are counts of cells: vaekit has them sparse, the others dense in memory.
        most: Steps in a turn, for models of which one takes long.
        compiles: Whether vaekit takes part a second time, with compiled steps.
    """

    about: str
    overrides: tuple[str, ...]
    side: int = 28
    batch: int = 128
    plain: Callable[[], PlainVAE] | None = None
    widths: tuple[tuple[int, ...], int] | None = field(default=None)
    cells: bool = False
    most: int = MOST_STEPS
    compiles: bool = False


def _hidden(*widths: int) -> tuple[str, ...]:
    listed = ",".join(map(str, widths))
    return f"network.encoder.hidden_dims=[{listed}]", f"network.decoder.hidden_dims=[{listed}]"


CASES = {
    "mlp": Case(
        "784-400-20, batch 128", ("latent_dim=20", *_hidden(400)), plain=lambda: mlp((400,), 20), widths=((400,), 20),
        compiles=True,
    ),
    "mlp2": Case(
        "784-400-400-20, batch 128", ("latent_dim=20", *_hidden(400, 400)), plain=lambda: mlp((400, 400), 20),
        widths=((400, 400), 20), compiles=True,
    ),
    "conv": Case(
        "convolutions of 32 and 64 channels, 28 x 28, batch 128", ("model=cnn", "latent_dim=20"),
        plain=lambda: PlainVAE(*convolutional(20)), most=20,
    ),
    "progressive": Case(
        "the growing network at its last stage, 32 x 32, batch 128",
        ("model=progressive", "epochs_per_stage=1", "latent_dim=20"), side=32, plain=lambda: PlainVAE(*progressive(20)),
        most=10,
    ),
    "iwae": Case(
        "importance weighted, K = 50, 784-200-200-50, tanh, batch 20",
        ("model=iwae", "latent_dim=50", *_hidden(200, 200), "network.encoder.activation=tanh", "network.decoder.activation=tanh"),
        batch=20, plain=lambda: mlp((200, 200), 50, 50, nn.Tanh), compiles=True,
    ),
    "wide": Case(
        f"{cells.GENES:,} features, 5 % not zero, layers of 2048, 1024 and 512, batch 128", ("model=vae", "expression=log1p"),
        plain=lambda: PlainVAE(*wide(cells.GENES), density="normal"), cells=True, most=5,
    ),
    "vqvae": Case("VQ-VAE, maps of 7 x 7 codes, 28 x 28, batch 128", ("model=vqvae",), most=10),
}  # fmt: skip


def images_of(case: Case) -> np.ndarray:
    """Made-up images, (N, H, W) in 8 bits."""
    return np.random.default_rng(0).integers(0, 256, size=(IMAGES, case.side, case.side), dtype=np.uint8)


def dataset_of(case: Case) -> Dataset:
    """Made-up images, or cells."""
    if case.cells:
        return cells.dataset(cells.counts())
    images = images_of(case)
    split = Split(torch.from_numpy(images).unsqueeze(1), (Scale(255),), torch.zeros(len(images), dtype=torch.int64))
    return Dataset("made up", split, split, split, "value / 255", False, 0.0, 1.0, levels=256)


def train_vaekit(turns: Turns, name: str, *overrides: str) -> None:
    """vaekit's own loop, as `vaekit train` runs it."""
    torch.set_num_threads(1)
    keep_freed_memory()
    train_in_turns(turns, _session(name, *overrides))


def run_floor(turns: Turns, name: str) -> None:
    """The products of vaekit's model."""
    torch.set_num_threads(1)
    keep_freed_memory()
    session = _session(name)
    batch = session.stream(session.step)
    turns.serve(floor_of(lambda: session.model(batch.x, session.samples), session.model)[0])


def run_other(turns: Turns, name: str, library: str) -> None:
    """The same model in another library."""
    torch.set_num_threads(1)
    case = CASES[name]
    if case.cells:
        x = cells.dataset(cells.counts()).train.batch(torch.arange(cells.CELLS)).x
        if library == SCRIPT:
            loop = dense_script(case.plain(), x, case.batch)
            turns.serve(lambda count: loop(count) and None)
        else:
            turns.serve(lightning_steps(case.plain(), x, case.batch))
        return
    images = images_of(case)
    if library == SCRIPT:
        loop = script(case.plain(), images, np.zeros(len(images), np.int64), case.batch)
        turns.serve(lambda count: loop(count) and None)
    elif library == "Lightning":
        x = torch.from_numpy(images).float().div(255).unsqueeze(1)
        turns.serve(lightning_steps(case.plain(), x, case.batch))
    elif library == "pythae":
        turns.serve(pythae_steps(*case.widths, images, case.batch))
    else:
        turns.serve(jax_steps(*case.widths, images, case.batch))


def _session(name: str, *overrides: str) -> Session:
    case = CASES[name]
    return session_of([f"training.batch_size={case.batch}", *case.overrides, *overrides], dataset_of(case))


def contestants(name: str) -> tuple[dict[str, Contestant], list[str]]:
    """Who takes part, and who is not installed."""
    case = CASES[name]
    made: dict[str, Contestant] = {OURS: (train_vaekit, (name,)), FLOOR: (run_floor, (name,))}
    if case.compiles:
        made[COMPILED] = (train_vaekit, (name, "training.compile=true"))
    takes_part = {SCRIPT: case.plain, "Lightning": case.plain, "pythae": case.widths, "JAX, lax.scan": case.widths}
    missing = []
    for library, given in takes_part.items():
        module = library.split(",")[0].lower()
        if given is None:
            continue
        if library != SCRIPT and importlib.util.find_spec(module) is None:
            missing.append(library)
        else:
            made[library] = (run_other, (name, library))
    return made, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=tuple(CASES), action="append", help="which (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turn, after one that does not count")
    parser.add_argument("--steps", type=int, default=50, help="in a round")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    if options.steps > MOST_STEPS:
        parser.error(f"--steps is {options.steps}, expected at most {MOST_STEPS}: some of them do an epoch in a turn")
    torch.set_num_threads(1)
    print(machine())
    found = {}
    for name in options.case or CASES:
        made, missing = contestants(name)
        steps = min(options.steps, CASES[name].most)
        taken = take_turns(made, options.rounds, steps, steps if CASES[name].cells else WARM_UP)
        print(f"\n{name}: {CASES[name].about}")
        print(as_table(taken, OURS))
        if missing:
            print(f"not installed, and left out: {', '.join(missing)}")
        found[name] = as_json(taken)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "steps": options.steps, "cases": found}, indent=2))


if __name__ == "__main__":
    main()
