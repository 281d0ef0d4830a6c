"""Largest memory of a training against the size of the data and of the model, and that of a wide model beside its bar.

    python benchmarks/memory.py [--case data|model|wide|command] [--json FILE]

- data: 784-400-20 on more and more 8-bit images of 28 x 28;
- model: 784-H-20 on 4,000 of them;
- wide: 28,231 features of which 5 % are not zero, layers of 2048, 1024 and 512, batch 128, Adam, on more and more cells. Its bar:
  weights x 4 (weights, gradient, the two moments of Adam), the data as compressed rows, and 300 MiB, above what Python with torch,
  vaekit and what reads the file takes before it has any data. No column is rarer than another, so that a batch uses all of them:
  of real cells it takes less;
- command: the wide model once more, but all of `vaekit train`: checkpoints, evaluation, pictures and report.

Each is a process of its own that opens a file as `vaekit train` does and takes a few steps. MiB resident at most (VmHWM), what
loading Python, torch and vaekit takes, and what the training takes above it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from turns import machine

MIB = 2.0**20
FEATURES, NOT_ZERO, SPARE = 28_231, 0.05, 300.0
STEPS = 6
IMAGES = "data.scale=255", "network.encoder.hidden_dims=[{0}]", "network.decoder.hidden_dims=[{0}]"


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        size: In words.
        overrides: Of vaekit's configuration, without the file.
        rows: Of the data.
        cells: Whether these are counts of cells, else images.
        whole: Whether all of `vaekit train` is run, else a few steps.
    """

    size: str
    overrides: tuple[str, ...]
    rows: int
    cells: bool = False
    whole: bool = False


def cases(chosen: str) -> Iterator[Case]:
    """Of a table."""
    if chosen == "data":
        for rows in (1_000, 4_000, 16_000, 64_000, 256_000):
            yield Case(f"{rows:,} images", tuple(one.format(400) for one in IMAGES), rows)
    elif chosen == "model":
        for width in (100, 400, 1600, 6400):
            yield Case(f"hidden layer of {width:,}", tuple(one.format(width) for one in IMAGES), 4_000)
    else:
        wide = ("model=vae", "expression=log1p", "training.epochs=1")
        for rows in (1_280, 5_120, 20_480) if chosen == "wide" else (640,):
            yield Case(f"{rows:,} cells", wide, rows, cells=True, whole=chosen == "command")


def write(case: Case, file: Path) -> float:
    """Made-up data; MiB of them as they are kept."""
    numbers = np.random.default_rng(0)
    if not case.cells:
        images = numbers.integers(0, 256, (case.rows, 28, 28), dtype=np.uint8)
        np.save(file, images)
        return images.nbytes / MIB
    from scipy import sparse

    each = round(NOT_ZERO * FEATURES)
    # one column out of each of so many groups: in order, and none twice
    group = np.arange(each, dtype=np.int32) * (FEATURES // each)
    columns = (group + numbers.integers(0, FEATURES // each, (case.rows, each), dtype=np.int32)).ravel()
    counts = numbers.geometric(0.5, case.rows * each).astype(np.float32)
    starts = np.arange(case.rows + 1, dtype=np.int64) * each
    sparse.save_npz(file, sparse.csr_matrix((counts, columns, starts), (case.rows, FEATURES)), compressed=False)
    return (counts.nbytes + columns.nbytes + starts.nbytes) / MIB


def largest() -> float:
    """MiB of this process, resident at most so far."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text("utf-8"))
    return math.nan if found is None else int(found[1]) / 1024


def alone(overrides: list[str], whole: bool) -> dict[str, float]:
    """What this process takes: with everything loaded, with the data, and in a training."""
    import torch
    import torch._dynamo  # torch's optimizers load it

    from vaekit import api
    from vaekit.compose import compose, data_node
    from vaekit.recipe import make_session, open_data, resolved
    from vaekit.training import fit
    from vaekit.training.memory import keep_for, keep_freed_memory

    if "data=cells" in overrides:
        importlib.import_module("scipy.sparse")  # reads the file
    torch.set_num_threads(1)
    keep_freed_memory()  # as `vaekit train` does
    found = {"loaded": largest()}
    if whole:
        run = api.train(*overrides)
        weights = sum(parameter.nbytes for parameter in run.model.parameters())
        return {**found, "weights": weights / MIB, "peak": largest()}
    composed = compose(overrides)
    dataset = open_data(data_node(composed))
    found["data"] = largest()
    config = resolved(composed, dataset)
    session = make_session(config, dataset, torch.device("cpu"))
    weights = sum(parameter.nbytes for parameter in session.model.parameters())
    keep_for(weights)
    with session.generators.borrowed():
        fit(
            session.model, session.objective, session.players, session.stream, steps=STEPS, steps_per_epoch=10**9,
            samples=session.samples, history=session.history,
        )  # fmt: skip
    return {**found, "weights": weights / MIB, "peak": largest()}


def measure(case: Case) -> dict[str, Any]:
    """In a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "data.npz" if case.cells else "data.npy")
        kept = write(case, file)
        given = [
            f"data={'cells' if case.cells else 'array'}",
            f"data.path={file}",
            f"output_dir={folder}",
            *case.overrides,
        ]
        command = [sys.executable, __file__, "--alone", *(["--whole"] if case.whole else []), *given]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        found = json.loads(done.stdout.splitlines()[-1])
    bar = {"bar": 4 * found["weights"] + kept + SPARE} if case.cells else {}
    return {"size": case.size, "kept": kept, **found, **bar}


def as_line(row: Mapping[str, Any]) -> str:
    """One row of a table."""
    above = row["peak"] - row["loaded"]
    beyond = above - 4 * row["weights"] - row["kept"]
    numbers = (row["kept"], row["weights"], row["loaded"], row["peak"], above, beyond)
    line = f"{row['size']:<24}" + "".join(f"{number:>9.0f}" for number in numbers)
    if "bar" not in row:
        return line
    return f"{line}   above at most {row['bar']:,.0f}: {'holds' if above <= row['bar'] else 'MISSED'}"


def main() -> None:
    tables = ("data", "model", "wide", "command")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=tables, action="append", help="which (default: all)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(alone(options.overrides, options.whole)))
        return
    print(machine())
    found: dict[str, list[dict[str, Any]]] = {}
    for chosen in options.case or tables:
        print(f"\n{'MiB':<24}{'data':>9}{'weights':>9}{'loaded':>9}{'peak':>9}{'above':>9}{'beyond':>9}   ({chosen})")
        for case in cases(chosen):
            row = measure(case)
            print(as_line(row), flush=True)
            found.setdefault(chosen, []).append(row)
    print("\nabove: peak without what is loaded; beyond: above without weights x 4 and data")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "tables": found}, indent=2))


if __name__ == "__main__":
    main()
