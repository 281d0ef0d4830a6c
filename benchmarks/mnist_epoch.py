"""An epoch of MNIST with vaekit beside the plain PyTorch script that people write, on all cores of the machine.

Both train 784-400-400-20 and back with batches of 128 and Adam. The script holds 8-bit images in memory and turns each of them into
a float tensor on its own, as the usual image data sets do. Each is a process of its own, and they take turns, an epoch each.

    VAEKIT_DATA=FOLDER python benchmarks/mnist_epoch.py [--epochs 3] [--workers 0] [--threads 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch

from ours import session_of, train_in_turns
from plain import mlp, script
from turns import Turns, as_json, as_table, machine, ratios, take_turns
from vaekit.recipe import open_data
from vaekit.training.memory import keep_freed_memory

OURS, PLAIN = "vaekit", "plain DataLoader script"
BATCH, STEPS = 128, 461  # of an epoch of 59,000 images


def vaekit_epochs(turns: Turns, threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    dataset = open_data({"kind": "data.named", "name": "mnist"})
    train_in_turns(turns, session_of(["data=mnist", "model=mlp"], dataset))


def plain_epochs(turns: Turns, threads: int, workers: int) -> None:
    torch.set_num_threads(threads)
    dataset = open_data({"kind": "data.named", "name": "mnist"}).train
    assert dataset.labels is not None
    images, labels = dataset.dense[:, 0].numpy(), dataset.labels.numpy()
    loop = script(mlp((400, 400), 20), images, labels, BATCH, workers)
    turns.serve(lambda count: loop(count) and None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--epochs", type=int, default=3, help="of each, in turn, after one that does not count (default 3)"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes of the DataLoader (default 0)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch (default: as many as cores)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    contestants = {OURS: (vaekit_epochs, (options.threads,)), PLAIN: (plain_epochs, (options.threads, options.workers))}
    taken = take_turns(contestants, options.epochs, STEPS)
    print(as_table(taken, OURS))
    middle, least, most = ratios(taken, OURS, wall=True)[PLAIN]
    print(f"{OURS} / {PLAIN}, wall, pair by pair: {middle:.2f} ({least:.2f} to {most:.2f})")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "steps": STEPS, "taken": as_json(taken)}, indent=2))


if __name__ == "__main__":
    main()
