"""N models of one shape trained together, as `vaekit sweep --together N` does, beside the same ones after another.

The models are perceptrons 64-H-H-10 on the 8x8 digits, one seed each, batch 128, Adam. Two things are measured, in CPU time of one
thread, the contestants taking turns within one process: the training steps alone, once both have got under way; and the whole
training, from the first step to the last, with all that comes before the steps can be made together, and after each epoch the
validation, the log and the choice of the best weights.

    OMP_NUM_THREADS=1 python benchmarks/together.py [--models 1 2 4 8 16 32] [--hidden 32 64 128] [--epochs 30]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from turns import Stopwatch, Taken, Turns, machine, ratios, take_turns
from vaekit.builder import build
from vaekit.compose import compose, data_node
from vaekit.data import Dataset
from vaekit.recipe import make_session, open_data, resolved, validate
from vaekit.training.callbacks import Checkpoints, Rows, Validation
from vaekit.training.checkpoint import save
from vaekit.training.loop import Callback, Progress
from vaekit.training.session import Session
from vaekit.training.together import Fit, fit_together

ALONE, TOGETHER = "one after another", "together"
# after so many steps a training alone has recorded its own
UNDER_WAY = 110


class Since(Callback):
    """The time from the end of one step to that of another."""

    def __init__(self, first: int) -> None:
        self.first, self.began, self.taken = first, (0.0, 0.0), Taken(0.0, 0.0)

    def step(self, progress: Progress) -> None:
        now = time.process_time(), time.perf_counter()
        if progress.step == self.first:
            self.began = now
        self.taken = Taken(now[0] - self.began[0], now[1] - self.began[1])


def session_of(dataset: Dataset, hidden: int, seed: int, epochs: int) -> Session:
    settings = (f"hidden_dim={hidden}", "latent_dim=10", f"seed={seed}", f"training.epochs={epochs}", "device=cpu")
    config = resolved(compose(["data=digits", *settings]), dataset)
    return make_session(config, dataset, torch.device("cpu"))


def steps_alone(turns: Turns, hidden: int, count: int) -> None:
    """Steps of all models, one after another."""
    dataset = digits()

    def one(seed: int, steps: int) -> Taken:
        since = Since(UNDER_WAY)
        Fit(session_of(dataset, hidden, seed, 1000), UNDER_WAY + steps, [since]).alone()
        return since.taken

    def run(steps: int) -> Taken:
        taken = [one(seed, steps) for seed in range(count)]
        return Taken(sum(each.cpu for each in taken), sum(each.wall for each in taken))

    turns.serve(run)


def steps_together(turns: Turns, hidden: int, count: int) -> None:
    """Steps of all models at once."""
    dataset = digits()

    def run(steps: int) -> Taken:
        since = Since(UNDER_WAY)
        sessions = [session_of(dataset, hidden, seed, 1000) for seed in range(count)]
        jobs = [Fit(session, UNDER_WAY + steps, [since][session is not sessions[-1] :]) for session in sessions]
        ended_well(fit_together(jobs))
        return since.taken

    turns.serve(run)


def runs_alone(turns: Turns, hidden: int, count: int) -> None:
    """Whole trainings, one after another."""
    whole_runs(turns, hidden, count, lambda jobs: [job.alone() for job in jobs])


def runs_together(turns: Turns, hidden: int, count: int) -> None:
    """Whole trainings at once."""
    whole_runs(turns, hidden, count, lambda jobs: ended_well(fit_together(jobs)))


def whole_runs(turns: Turns, hidden: int, count: int, train: Callable[[list[Fit]], object]) -> None:
    dataset = digits()

    def run(epochs: int) -> Taken:
        with tempfile.TemporaryDirectory() as folder:
            jobs = []
            for seed in range(count):
                place = Path(folder) / str(seed)
                place.mkdir()
                jobs.append(whole(session_of(dataset, hidden, seed, epochs), dataset, place, epochs))
            watch = Stopwatch()
            train(jobs)
            return watch.taken()

    turns.serve(run)


def whole(session: Session, dataset: Dataset, folder: Path, epochs: int) -> Fit:
    """A training as `vaekit train` makes it: with validation, rows, best weights and checkpoints, and without pictures."""
    plan = build(session.config["evaluation"], where="evaluation")
    callbacks = [
        Validation(session, lambda: validate(session, dataset, plan)),
        Rows(lambda row: None),
        Checkpoints(lambda step: save(folder, session.capture(step), 2), 30.0),
    ]
    return Fit(session, epochs * session.stream.steps_per_epoch, callbacks)


def digits() -> Dataset:
    torch.set_num_threads(1)
    return open_data(data_node(compose(["data=digits"])))


def ended_well(errors: Sequence[BaseException | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


def measured(hidden: int, count: int, options: argparse.Namespace) -> dict[str, Any]:
    shape = (hidden, count)
    steps = {ALONE: (steps_alone, shape), TOGETHER: (steps_together, shape)}
    runs = {ALONE: (runs_alone, shape), TOGETHER: (runs_together, shape)}
    return {
        "steps": take_turns(steps, options.rounds, options.steps, 1),
        "runs": take_turns(runs, max(1, options.rounds - 2), options.epochs, 1),
    }


def row(hidden: int, count: int, found: dict[str, Any]) -> str:
    """A line of the table: milliseconds a model and step, and what together gains."""
    cells = [f"{hidden:>6}{count:>8}"]
    for part in ("steps", "runs"):
        both = found[part]
        middle = {name: sorted(one.cpu for one in rounds)[len(rounds) // 2] for name, rounds in both.items()}
        share, least, most = ratios(both, TOGETHER)[ALONE]
        cells.append(
            f"{1e3 * middle[ALONE] / count:>10.2f}{1e3 * middle[TOGETHER] / count:>10.2f}{1 / share:>7.2f}x"
            f" ({1 / most:.2f} to {1 / least:.2f})"
        )
    return "".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="N (1 2 4 8 16 32)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 64, 128], help="H (32 64 128)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (5)")
    parser.add_argument("--steps", type=int, default=60, help="steps in a turn (60)")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of the whole training (30)")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    print(machine())
    print("CPU ms: steps, of one model and step; whole, of one model and epoch; how many times the throughput together")
    print(f"{'hidden':>6}{'models':>8}{'steps alone':>10}{'together':>10}{'':<22}{'whole alone':>10}{'together':>10}")
    figures = {}
    for hidden in options.hidden:
        for count in options.models:
            found = measured(hidden, count, options)
            print(row(hidden, count, found), flush=True)
            figures[f"{hidden}x{count}"] = {
                part: {name: [[one.cpu, one.wall] for one in rounds] for name, rounds in both.items()}
                for part, both in found.items()
            }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
