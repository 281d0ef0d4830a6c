"""One training step of vaekit beside other libraries and beside the floor: the matrix products of the same model alone.

    python benchmarks/train_step.py [--case mlp] [--rounds 5] [--steps 50] [--json FILE]

All take turns within one process, on one thread, over the same made-up images (what is in them costs nothing). CPU time a step:
median, least and most over the rounds, and the ratios pair by pair. Libraries that are not installed are left out and named:
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
from typing import Any

import numpy as np
import torch
from torch import nn

from others import jax_steps, lightning_steps, pythae_steps
from plain import PlainVAE, convolutional, perceptron, progressive, script
from products import floor_of
from turns import Steps, as_json, as_table, machine, take_turns
from vaekit.compose import compose
from vaekit.data.batch import Dataset, Split
from vaekit.data.transforms import Scale
from vaekit.recipe import make_session, resolved
from vaekit.schedules import advance, last_end
from vaekit.training import fit

IMAGES = 6400
OURS = "vaekit"


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
    """

    about: str
    overrides: tuple[str, ...]
    side: int = 28
    batch: int = 128
    plain: Callable[[], PlainVAE] | None = None
    widths: tuple[tuple[int, ...], int] | None = field(default=None)


def _perceptron(widths: tuple[int, ...], latent: int, samples: int = 1, act: type[nn.Module] = nn.ReLU) -> PlainVAE:
    encoder = perceptron([784, *widths, 2 * latent], act)
    return PlainVAE(encoder, perceptron([latent, *reversed(widths), 784], act, (1, 28, 28)), samples)


def _hidden(*widths: int) -> tuple[str, ...]:
    listed = ",".join(map(str, widths))
    return f"network.encoder.hidden_dims=[{listed}]", f"network.decoder.hidden_dims=[{listed}]"


CASES = {
    "mlp": Case(
        "784-400-20, batch 128", _hidden(400), plain=lambda: _perceptron((400,), 20), widths=((400,), 20)
    ),
    "mlp2": Case(
        "784-400-400-20, batch 128", _hidden(400, 400), plain=lambda: _perceptron((400, 400), 20), widths=((400, 400), 20)
    ),
    "conv": Case(
        "convolutions of 32 and 64 channels, 28 x 28, batch 128", ("model=cnn",), plain=lambda: PlainVAE(*convolutional(20))
    ),
    "progressive": Case(
        "the growing network at its last stage, 32 x 32, batch 128", ("model=progressive", "epochs_per_stage=1"), side=32,
        plain=lambda: PlainVAE(*progressive(20)),
    ),
    "iwae": Case(
        "importance weighted, K = 50, 784-200-200-50, tanh, batch 20",
        ("model=iwae", "latent_dim=50", *_hidden(200, 200), "network.encoder.activation=tanh", "network.decoder.activation=tanh"),
        batch=20, plain=lambda: _perceptron((200, 200), 50, 50, nn.Tanh),
    ),
    "vqvae": Case("VQ-VAE, maps of 7 x 7 codes, 28 x 28, batch 128", ("model=vqvae",)),
}  # fmt: skip


def vaekit_steps(case: Case, images: np.ndarray) -> tuple[Steps, Any]:
    """vaekit's own loop, as `vaekit train` runs it, and its session."""
    split = Split(torch.from_numpy(images).unsqueeze(1), (Scale(255),), torch.zeros(len(images), dtype=torch.int64))
    dataset = Dataset("made up", split, split, split, "value / 255", False, 0.0, 1.0, levels=256)
    overrides = [f"training.batch_size={case.batch}", "latent_dim=20", *case.overrides]
    config = resolved(compose(overrides), dataset)
    session = make_session(config, dataset, torch.device("cpu"))
    session.step = last_end(nn.ModuleList([session.model, session.objective]))  # a growing model at its last stage
    advance(session.model, session.step)

    def steps(count: int) -> None:
        with session.generators.borrowed():
            fit(
                session.model, session.objective, session.players, session.stream, start=session.step,
                steps=session.step + count, steps_per_epoch=10**9, samples=session.samples, history=session.history,
            )  # fmt: skip
        session.step += count

    return steps, session


def contestants(case: Case) -> tuple[dict[str, Steps], list[str]]:
    """Who takes part, and who is not installed."""
    images = np.random.default_rng(0).integers(0, 256, size=(IMAGES, case.side, case.side), dtype=np.uint8)
    labels = np.zeros(IMAGES, np.int64)
    ours, session = vaekit_steps(case, images)
    batch = session.stream(session.step)
    floor, _ = floor_of(lambda: session.model(batch.x, session.samples), session.model)
    made: dict[str, Steps] = {OURS: ours, "floor: its products alone": floor}
    missing = []
    if case.plain is not None:
        loop = script(case.plain(), images, labels, case.batch)
        made["plain DataLoader script"] = lambda count: loop(count) and None
    for name, make in {
        "Lightning": None if case.plain is None else lambda: lightning_steps(case.plain(), images, case.batch),
        "pythae": None if case.widths is None else lambda: pythae_steps(*case.widths, images, case.batch),
        "JAX, lax.scan": None if case.widths is None else lambda: jax_steps(*case.widths, images, case.batch),
    }.items():
        if make is None:
            continue
        if importlib.util.find_spec(name.split(",")[0].lower()) is None:
            missing.append(name)
        else:
            made[name] = make()
    return made, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=tuple(CASES), action="append", help="which (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turn, after one that does not count")
    parser.add_argument("--steps", type=int, default=50, help="in a round")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    found = {}
    for name in options.case or CASES:
        made, missing = contestants(CASES[name])
        taken = take_turns(made, options.rounds, options.steps)
        print(f"\n{name}: {CASES[name].about}")
        print(as_table(taken, OURS))
        if missing:
            print(f"not installed, and left out: {', '.join(missing)}")
        found[name] = as_json(taken)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "steps": options.steps, "cases": found}, indent=2))


if __name__ == "__main__":
    main()
