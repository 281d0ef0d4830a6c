"""Cells left in their file beside the same cells in memory: cells a second and peak memory, for the same epochs.

Writes an .h5ad file of sparse counts (gzip, as anndata writes it), and reads it through both ways, each in a process of its own so
that its peak is its own. An epoch here is its batches, dense on the device: what a training waits for, without a model. On a busy
machine, look at the cells by second of the CPU. Opening is timed too: reading the file for the one, a survey of it for the other.
What Python, torch and h5py take by themselves is told beside the peaks.

    python benchmarks/backed.py [--cells 60000] [--genes 4000] [--memory 64] [--epochs 2] [--device cpu]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

_AT_ONCE = 2000  # cells that are made and written together


def write(path: Path, cells: int, genes: int, density: float) -> int:
    """Counts of `density` non-zero ones, shape (cells, genes); returns how many bytes they take as sparse rows in memory."""
    import h5py

    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "shape": (cells, genes)})
        resizable = {"maxshape": (None,), "chunks": (2**16,), "compression": "gzip", "compression_opts": 1}
        values = group.create_dataset("data", (0,), "f4", **resizable)
        columns = group.create_dataset("indices", (0,), "i4", **resizable)
        starts = [0]
        for first in range(0, cells, _AT_ONCE):
            there = generator.random((min(_AT_ONCE, cells - first), genes), dtype=np.float32) < density
            rows, found = np.nonzero(there)
            counts = generator.geometric(0.5, len(found))
            for data, part in ((values, counts), (columns, found)):
                data.resize(starts[-1] + len(found), axis=0)
                data[starts[-1] :] = part
            starts += (starts[-1] + np.cumsum(np.bincount(rows, minlength=len(there)))).tolist()
        group["indptr"] = np.array(starts)
        for name, size in (("obs", cells), ("var", genes)):
            node = file.create_group(name)
            node.attrs["_index"] = "_index"
            node["_index"] = np.array([f"{name}{n}" for n in range(size)], dtype="S")
    return starts[-1] * 8 + cells * 8


def measured(path: Path, options: argparse.Namespace, *, backed: bool) -> dict[str, Any]:
    """Seconds to open, cells a second, and MiB, of this process."""
    from vaekit import data

    device = torch.device(options.device)
    alone = _peak()
    start = time.perf_counter()
    cells = data.cells(path, backed=backed, memory=options.memory).to(device)
    opened = time.perf_counter() - start
    rates, of_cpu = [], []
    for number in range(options.epochs):
        start, cpu = time.perf_counter(), time.process_time()
        order = cells.train.order(torch.Generator().manual_seed(number)).to(device)
        for index in order.split(options.batch):
            cells.train.batch(index)
        if device.type == "cuda":
            torch.cuda.synchronize()
        rates.append(len(order) / (time.perf_counter() - start))
        of_cpu.append(len(order) / (time.process_time() - cpu))
    start = time.perf_counter()
    for index in torch.arange(len(cells.validation), device=device).split(options.batch):
        cells.validation.batch(index)
    in_order = len(cells.validation) / (time.perf_counter() - start)
    return {
        "open s": opened,
        "cells/s": max(rates),
        "cells/CPU s": max(of_cpu),
        "in order /s": in_order,
        "peak MiB": _peak(),
        "of these alone": alone,
    }


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=60_000)
    parser.add_argument("--genes", type=int, default=4000)
    parser.add_argument("--density", type=float, default=0.07, help="of values that are not zero (default 0.07)")
    parser.add_argument("--memory", type=int, default=64, help="MiB for the backed way (default 64)")
    parser.add_argument("--epochs", type=int, default=2, help="the fastest counts (default 2)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--path", type=Path, help="an .h5ad file of your own, instead of one that is made")
    parser.add_argument("--one", choices=["backed", "in memory"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measured(options.path, options, backed=options.one == "backed")))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.path or Path(folder) / "cells.h5ad"
        if options.path is None:
            held = write(path, options.cells, options.genes, options.density)
            print(
                f"{options.cells:,} cells, {options.genes:,} genes, {held / 2**20:.0f} MiB of float32 sparse rows,",
                end=" ",
            )
        print(f"{path.stat().st_size / 2**20:.0f} MiB on disk; data.memory={options.memory}, batch {options.batch}")
        print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {options.device}")
        results = {name: _in_process(name, path, options) for name in ("in memory", "backed")}
    print(f"{'':<12}" + "".join(f"{name:>16}" for name in results["backed"]))
    for name, numbers in results.items():
        print(f"{name:<12}" + "".join(f"{value:>16,.1f}" for value in numbers.values()))


def _in_process(name: str, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    given = [f"--{key}={getattr(options, key)}" for key in ("memory", "epochs", "batch", "device")]
    command = [sys.executable, __file__, "--one", name, "--path", str(path), *given]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    numbers: dict[str, Any] = json.loads(said)
    return numbers


if __name__ == "__main__":
    main()
