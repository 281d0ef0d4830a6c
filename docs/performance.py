"""Make docs/performance.md and its picture of the files in docs/performance: `python docs/performance.py`.

    python docs/performance.py --measure [NAME ...]

measures first: each name is a script in benchmarks/, of which the figures in docs/performance are. On a busy machine ratios within
one run are what counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaekit.files import write_atomically

DOCS = Path(__file__).parent
FOLDER, PICTURE = DOCS / "performance", DOCS / "figures" / "performance.png"
SCRIPTS: dict[str, list[str]] = {
    "train_step": ["--rounds", "7", "--steps", "60"],
    "mnist_epoch": ["--epochs", "3"],
    "together": ["--hidden", "32", "64", "128", "--models", "1", "4", "16", "--rounds", "3"],
    "startup": [],
    "memory": [],
    "scale": [],
}
OURS, COMPILED = "vaekit", "vaekit, training.compile=true"
FLOOR, SCRIPT = "floor: its products alone", "plain DataLoader script"
Rounds = Sequence[Sequence[float]]

CASES = {
    "mlp": "784-400-20, batch 128",
    "mlp2": "784-400-400-20, batch 128",
    "conv": "convolutions, 32 and 64 channels, 28 x 28",
    "progressive": "progressive network, last stage, 32 x 32",
    "iwae": "IWAE, K = 50, 784-200-200-50, batch 20",
    "wide": "28,231 features, 5 % not zero, [2048, 1024, 512]",
    "vqvae": "VQ-VAE, 7 x 7 codes",
}
# what a step is to reach: of which contestant's CPU time at most which share
BARS = {
    "mlp": {FLOOR: 1.35, "pythae": 0.6, "Lightning": 0.55, "JAX, lax.scan": 0.95},
    "conv": {SCRIPT: 0.6},
    "progressive": {SCRIPT: 0.6},
    "iwae": {FLOOR: 1.4},
    "wide": {"Lightning": 0.6},
}


def middle(rounds: Rounds, place: int = 0) -> float:
    """Milliseconds, the median; `place` 0 is CPU time, 1 the wall."""
    return 1e3 * statistics.median(each[place] for each in rounds)


def share(taken: Mapping[str, Rounds], other: str, place: int = 0, who: str = OURS) -> tuple[float, float, float]:
    """vaekit's time over another's, pair by pair within a round: median, least, most."""
    pairs = [mine[place] / its[place] for mine, its in zip(taken[who], taken[other], strict=True)]
    return statistics.median(pairs), min(pairs), max(pairs)


def verdict(value: float, most: float) -> str:
    """Whether a bar holds."""
    return f"at most {most:g}: {'holds' if value <= most else '**missed**'}"


def steps(figures: Mapping[str, Any]) -> Iterator[str]:
    """The tables of training steps."""
    for name, taken in figures["cases"].items():
        yield f"\n### {CASES[name]}\n"
        yield "| CPU ms a step, one thread | median | least | most | vaekit's share of it | |"
        yield "|---|---:|---:|---:|---:|---|"
        for who, rounds in taken.items():
            cells = [f"{middle(rounds):.2f}", *(f"{1e3 * end(each[0] for each in rounds):.2f}" for end in (min, max))]
            if who == OURS:
                yield f"| **vaekit** | {' | '.join(cells)} | | |"
                continue
            ratio, least, most = share(taken, who)
            bar = BARS.get(name, {}).get(who)
            told = "" if bar is None else verdict(ratio, bar)
            yield f"| {who} | {' | '.join(cells)} | {ratio:.2f} ({least:.2f} to {most:.2f}) | {told} |"
        if COMPILED in taken:
            others = [who for who in taken if who not in (OURS, COMPILED, SCRIPT)]
            said = {who: "the floor" if who == FLOOR else who for who in others}
            told = ", ".join(f"{share(taken, who, who=COMPILED)[0]:.2f} of {name}" for who, name in said.items())
            yield f"\nWith compiled steps, `training.compile=true`: {told}."


def epoch(figures: Mapping[str, Any]) -> Iterator[str]:
    """An epoch of MNIST."""
    taken, count = figures["taken"], figures["steps"]
    yield "\n## An epoch of MNIST on all cores\n"
    yield f"784-400-400-20, 59,000 images, {figures['machine']}.\n"
    yield "| seconds an epoch | wall | CPU |\n|---|---:|---:|"
    for who, rounds in taken.items():
        yield f"| {who} | {count * middle(rounds, 1) / 1e3:.2f} | {count * middle(rounds) / 1e3:.2f} |"
    ratio, least, most = share(taken, SCRIPT, 1)
    yield f"\nWall, pair by pair: {ratio:.2f} ({least:.2f} to {most:.2f}) of the script; {verdict(ratio, 0.333)}."


def together(figures: Mapping[str, Any]) -> Iterator[str]:
    """Many models at once."""
    yield "\n## Many models at once\n"
    yield "`vaekit sweep ... --together N` on the 8x8 digits: perceptrons 64-H-H-10, a seed each, batch 128, one thread. How many"
    yield "times the throughput of one after another, in CPU time; median, least and most.\n"
    yield "| H | models | training steps | whole training, 30 epochs with validation |\n|---:|---:|---:|---:|"
    for key, found in figures.items():
        hidden, count = key.split("x")
        cells = []
        for part in ("steps", "runs"):
            alone, one = found[part]["one after another"], found[part]["together"]
            gains = [a[0] / b[0] for a, b in zip(alone, one, strict=True)]
            cells.append(f"{statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})")
        yield f"| {hidden} | {count} | {' | '.join(cells)} |"


def startup(figures: Mapping[str, Any]) -> Iterator[str]:
    """How long a person waits."""
    yield "\n## Start\n\n| seconds | wall | CPU |\n|---|---:|---:|"
    for who, rounds in figures["taken"].items():
        yield f"| {who} | {middle(rounds, 1) / 1e3:.2f} | {middle(rounds) / 1e3:.2f} |"
    told = [
        f"{words}: {bar['value']:.2f}, {verdict(bar['value'], bar['most'])}" for words, bar in figures["bars"].items()
    ]
    yield "\n" + "; ".join(told) + "."


def memory(figures: Mapping[str, Any]) -> Iterator[str]:
    """Largest memory."""
    yield "\n## Memory\n"
    yield "Largest resident memory of a process, MiB, above that of one that has only imported the same.\n"
    yield "| | data as kept | weights | largest, above the imports | |\n|---|---:|---:|---:|---|"
    names = {
        "wide": "wide model, steps",
        "command": "wide model, all of `vaekit train`",
        "data": "784-400-20",
        "model": "784-H-20",
    }
    for table, rows in figures["tables"].items():
        for row in rows:
            above = row["peak"] - row["loaded"]
            bar = (
                f"at most {row['bar']:,.0f}: {'holds' if above <= row['bar'] else '**missed**'}" if "bar" in row else ""
            )
            yield f"| {names[table]}, {row['size']} | {row['kept']:,.0f} | {row['weights']:,.0f} | {above:,.0f} | {bar} |"
    yield "\nThe bar of the wide model is weights x 4 (with gradient and both averages of Adam), the data in CSR, and 300 MiB."
    yield "Without taking off the imports (some 320 MiB, torch's most of all) none of its rows would hold."


def power(exponent: float) -> str:
    """In two digits, and without the sign of a 0."""
    return f"size^{round(exponent, 2) + 0.0:.2f}"


def scale(figures: Mapping[str, Any]) -> Iterator[str]:
    """How costs grow."""
    words = {"data": "examples", "width": "width", "samples": "draws K", "latent": "latent dimensions"}
    yield "\n## How a step grows\n\n784-400-20, one size changed at a time; CPU ms a step.\n"
    yield "| | sizes | ms a step | grows as | between the last two |\n|---|---|---|---|---|"
    for name, told in words.items():
        table = figures["tables"].get(name)
        if table:
            cost = ", ".join(f"{middle(rounds):.2f}" for rounds in table["taken"])
            whole, last = table["exponents of a step"]
            sizes = ", ".join(f"{size:,.0f}" for size in table["sizes"])
            yield f"| {told} | {sizes} | {cost} | {power(whole)} | {power(last)} |"
    rows = figures["tables"].get("processes")
    if rows:
        yield "\nUnder torchrun (gloo), the gradients averaged before each step by the benchmark: vaekit has no such mode yet.\n"
        yield "| processes | batch in all | examples a second | weights at the end |\n|---:|---:|---:|---|"
        for row in rows:
            rate = row["batch"] / statistics.median(row["seconds"])
            yield f"| {row['processes']} | {row['batch']} | {rate:,.0f} | {'the same bits' if row['same'] else 'differ'} |"


PARTS = {"mnist_epoch": epoch, "together": together, "startup": startup, "memory": memory, "scale": scale}


def page(figures: Mapping[str, Any]) -> str:
    """The page."""
    lines = [
        f"{HEAD}\nMeasured on: {figures['train_step']['machine']}.\n\n![{ALT}](figures/{PICTURE.name})\n\n## A training step"
    ]
    lines += steps(figures["train_step"])
    for name, part in PARTS.items():
        if name in figures:
            lines += part(figures[name])
    return "\n".join([*lines, NOTES])


def picture(figures: Mapping[str, Any], file: Path) -> None:
    """Each case's contestants, as multiples of the floor."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    cases = [name for name in CASES if name in figures["cases"]]
    colors = {
        OURS: "#1b6ca8",
        COMPILED: "#6aa5d0",
        SCRIPT: "#b0b0b0",
        "Lightning": "#8d6cab",
        "pythae": "#c98a3a",
        "JAX, lax.scan": "#5a9e6f",
    }
    figure, axis = plt.subplots(figsize=(9, 0.42 * sum(len(figures["cases"][name]) for name in cases) + 1))
    place, ticks = 0.0, []
    for name in cases:
        taken = figures["cases"][name]
        floor = middle(taken[FLOOR])
        first = place
        for who in [who for who in colors if who in taken]:
            ratio = middle(taken[who]) / floor
            axis.barh(-place, ratio, color=colors[who], height=0.86)
            axis.text(ratio + 0.03, -place, f"{who}  {ratio:.2f}", va="center", fontsize=8)
            place += 1
        ticks.append((-(first + place - 1) / 2, CASES[name]))
        place += 0.8
    axis.axvline(1.0, color="black", lw=1)
    axis.set_yticks([y for y, _ in ticks], [name.replace(", ", ",\n", 1) for _, name in ticks], fontsize=8)
    axis.set_xlabel(
        "CPU time of a training step, as a multiple of its matrix products and convolutions alone (one thread)"
    )
    axis.set_xlim(0, 1.18 * max(middle(r) / middle(t[FLOOR]) for t in figures["cases"].values() for r in t.values()))
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def read() -> dict[str, Any]:
    """The figures of each script that has been run."""
    return {
        name: json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
        for name in SCRIPTS
        if (FOLDER / f"{name}.json").exists()
    }


def measure(names: Sequence[str]) -> None:
    """Run the scripts."""
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        command = [sys.executable, str(DOCS.parent / "benchmarks" / f"{name}.py"), *SCRIPTS[name]]
        subprocess.run([*command, "--json", str(FOLDER / f"{name}.json")], check=True)  # noqa: S603 - scripts of this repository


def main() -> None:
    """Measure if asked to, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--measure", nargs="*", choices=tuple(SCRIPTS), help="run these scripts first (without a name: all)"
    )
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.measure or tuple(SCRIPTS))
    figures = read()
    picture(figures["train_step"], PICTURE)
    write_atomically(DOCS / "performance.md", page(figures).encode())


ALT = "CPU time of a training step as a multiple of its products alone: vaekit, scripts and other libraries"
HEAD = """# Performance

How fast vaekit trains, beside what people run today and beside the floor: the matrix products and convolutions of the same model
alone, each by the fastest kernel that torch brings. The tables are made by `python docs/performance.py --measure` (after
`pip install --group bench`), which runs the scripts of `benchmarks/`. Each table is of one run, and not all of them of the same.

The contestants of a table take turns, a few dozen steps each, in processes of their own on one thread, over the same data. What
counts is the ratio within a turn: the machine is a shared one, and its times vary by a fifth. Before the first turn everybody warms
up, so compiling (JAX) and recording (vaekit) are not in it. Lightning, pythae and the scripts run as their documentation has them.
"""
NOTES = """
## What makes it fast

- **The data are in memory in their storage type**, and a batch is one gather and its transforms.
- **A step is recorded.** After a hundred steps of the same shapes the operations of forward and backward are written down once, and
  from then on played without modules, distributions and autograd (`training/program.py`). They are the same operations in the same
  order, so the numbers are the same bits: it is checked in the first such step, and a training may be stopped and resumed anywhere.
  What decides by a value is not recorded, and is trained as before.
  What changes nothing goes before that, by rules that leave the same numbers (`training/simplify.py`), and Adam's kernel is called
  without the search for its operands (`training/adam.py`).
- **Products by the faster library**: on AMD processors with 512-bit vectors those of oneDNN (`networks/linear.py`).
- **The convolutions of a decoder at the smaller size**: pixels doubled and then convolved are four small kernels on the image as it
  was, 4/9 of the multiplications (`networks/phases.py`); and images lie with their channels side by side.
- **Likelihoods from logits** in as few passes over memory as it takes, importance samples as part of the batch, what is the same
  for all of them worked out once (`distributions/normal.py`), and no look at a number of the device within an interval.
- **Counts of cells** stay sparse until the first layer, which multiplies the columns in use (`networks/sparse.py`); the memory of a
  large gradient is used again (`networks/reuse.py`).
- **Float32 products are float32**: nothing sets TF32 or bfloat16 behind the user's back.

## What stands in the way of the bars that are missed

- **784-400-20 against JAX.** The products take three quarters of a step of 6 to 7 ms, a little more than in the floor's loop, whose
  operands are still in the cache when they come round again. Adam takes 0.5 to 0.6 ms, twice what it takes in a loop of its own,
  because 10 MB of weights and averages pass through the cache at each step. The loss and its gradient take 0.3 ms, most of it
  `softplus`; some ninety small operations 2 to 5 microseconds each, and the gather of the batch 0.15 ms. JAX compiles all of the
  small ones into a few. In three runs of this comparison the median was 1.19, before the last of what is above, and 1.00 and 1.06
  with it. Against the floor this table's run is just below its bar; another, with busier neighbours, was just above (1.37).
- **An epoch on two cores.** With two threads the script takes 14 to 15 ms a step and the products alone 4.3 to 4.7, so a third of
  the script's time is the floor. vaekit takes 7 ms there: its small operations do not get faster with a second thread.

## What was tried and did not pay

- Compiling a step. `training.compile=true` does it (`training/compiled.py`; off by default): `torch.compile` makes a few loops of
  the many small operations, with a line where it cannot, and as compiled steps round differently they are all compiled, from the
  first on, so that a resumed run has the same bits. It takes 20 to 60 seconds with g++ 12. Once recording was shortened to what it
  is now, nothing was left for perceptrons, and a twentieth for importance-weighted ones: see the lines below their tables.
- Huge pages for the heap (glibc's `hugetlb`), and a heap that never gives memory back: no difference within the noise for
  784-400-20. The second is on all the same, for convolutions gain a quarter.
- Binary cross-entropy through `sigmoid` computed once for both passes: `log1p` of it costs what `softplus` costs.
- Images flattened with their channels side by side, without a copy: 2 ms of 60 with convolutions, but stored models would mean
  something else by the same weights.
- A transposed convolution with many output channels at the smaller size: 64 to 32 channels took 18.0 ms forward and backward,
  torch's own 14.4. With one output channel it takes 3.8 ms in place of 7.5, so it is done there alone.
- Compressed sparse rows times a dense weight: twice the time of the dense product. `embedding_bag` is as fast as the gathered
  columns, on a weight that lies transposed.

## Not measured

No GPU was at hand: whole-step CUDA graphs, bfloat16 and stacked models on a GPU are not measured. The bars that need one (MNIST in
30 epochs, IWAE beside a captured graph, sixteen stacked models) stay open.
"""

if __name__ == "__main__":
    main()
