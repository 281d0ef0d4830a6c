"""Plant faults in the package, one at a time, and see whether the tests that are named for each of them fail.

    python tests/mutation.py                  all of tests/mutants.toml
    python tests/mutation.py 7 vq             those whose number of a trap, or whose words, are among these
    python tests/mutation.py --jobs 4
    python tests/mutation.py --sound          no fault: all of these tests have to pass

A fault is planted in a copy of the package in a temporary folder; nothing here is touched.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "mutants.toml"
BAR = 0.95  # of the faults must be seen
_COPIED = ("src", "tests", "docs", "benchmarks", "pyproject.toml", "README.md", "README.zh-CN.md")
_SECONDS = 300
_NOT_RUN = 99
# what is imported already is no plugin of this run
_PYTEST = (
    "-q", "-x", "-p", "no:cacheprovider", "-m", "slow or not slow", "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip
_FORK: Any = multiprocessing.get_context("fork")
_PRELOADED = (
    "torch", "torch.distributions", "torch.utils.flop_counter", "scipy.stats", "scipy.special", "sklearn.decomposition",
    "hypothesis", "mpmath", "yaml", "hydra", "omegaconf", "safetensors.torch", "PIL.Image", "rich", "torchmetrics",
    "matplotlib.figure",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A fault and the tests that should see it.

    Attributes:
        what: Goes wrong, in words.
        file: Below src/vaekit.
        before: A text that stands exactly once in the file.
        after: What it becomes.
        tests: Each of these fails, such as tests/math/test_importance.py::test_it_is_the_log_of_the_mean_weight.
        traps: Numbers on docs/traps.md that it is a case of.
    """

    what: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    traps: tuple[int, ...] = ()

    def planted(self, source: str) -> str:
        """The source with the fault."""
        if source.count(self.before) != 1:
            raise ValueError(
                f"{self.file} has the text {self.before!r} {source.count(self.before)} times, expected once: write in "
                f"tests/mutants.toml what stands there now (the fault: {self.what})."
            )
        return source.replace(self.before, self.after)


def read(path: Path = LIST) -> list[Mutant]:
    """The faults of a list."""
    entries = tomllib.loads(path.read_text("utf-8"))["mutant"]
    return [
        Mutant(**{**entry, "tests": tuple(entry["tests"]), "traps": tuple(entry.get("traps", ()))}) for entry in entries
    ]


@contextmanager
def copy() -> Iterator[Path]:
    """A copy of the package and its tests, to plant faults in."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for name in _COPIED:
            there = Path(folder, name)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, there, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            elif (ROOT / name).exists():
                shutil.copy(ROOT / name, there)
        yield Path(folder)


def warm() -> None:
    """Import what the tests will, so that a test need not: of the package itself nothing, it is another one each time."""
    for name in _PRELOADED:
        with suppress(ImportError):
            import_module(name)


def outcome(folder: Path, test: str) -> int:
    """What pytest says of a test in that copy: 0 passed, 1 failed, others for a test that cannot be run."""
    child = _FORK.Process(target=_tested, args=(folder, test))
    child.start()
    child.join(_SECONDS)
    if child.is_alive():  # a test that no longer ends does not pass
        child.kill()
        child.join()
        return 1
    return int(child.exitcode or 0)


def _tested(folder: Path, test: str) -> None:
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder / "src")
    sys.path.insert(0, str(folder / "src"))
    sys.dont_write_bytecode = True
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    code = _NOT_RUN
    try:
        code = int(pytest.main([*_PYTEST, test]))
    finally:
        os._exit(code)  # a process that ends with an exception has the code of a test that fails


def survivors(mutant: Mutant, folder: Path) -> list[str]:
    """Those of its tests that do not fail with the fault."""
    path = folder / "src" / "vaekit" / mutant.file
    source = path.read_text("utf-8")
    faulty = mutant.planted(source)
    compile(faulty, mutant.file, "exec")  # a fault that is no Python is seen by everything, and proves nothing
    path.write_text(faulty, "utf-8")
    try:
        codes = {test: outcome(folder, test) for test in mutant.tests}
        return [f"{test}{f' (exit code {code})' if code else ''}" for test, code in codes.items() if code != 1]
    finally:
        path.write_text(source, "utf-8")


def run(mutants: Sequence[Mutant], jobs: int = 1) -> list[list[str]]:
    """Plant each, and say as it goes; gives for each the tests that did not fail."""
    warm()
    queue = _FORK.SimpleQueue()
    workers = [
        _FORK.Process(target=_share, args=(mutants, range(first, len(mutants), jobs), queue)) for first in range(jobs)
    ]
    for worker in workers:
        worker.start()
    found: dict[int, list[str]] = {}
    while len(found) < len(mutants) and (any(worker.is_alive() for worker in workers) or not queue.empty()):
        number, alive = queue.get()
        found[number] = alive
        verdict = f"SURVIVED {', '.join(alive)}" if alive else "killed"
        print(f"{len(found)}/{len(mutants)} {verdict}: {mutants[number].what} ({mutants[number].file})", flush=True)
    for worker in workers:
        worker.join()
    return [found.get(number, list(mutant.tests)) for number, mutant in enumerate(mutants)]


def _share(mutants: Sequence[Mutant], numbers: Sequence[int], queue: Any) -> None:
    with copy() as folder:
        for number in numbers:
            queue.put((number, survivors(mutants[number], folder)))


def sound(tests: Iterable[str]) -> int:
    """Run the tests in a copy without a fault; 0 if all of them pass."""
    warm()
    with copy() as folder:
        failing = [test for test in sorted(tests) if outcome(folder, test) != 0]
    print("\n".join(f"fails without a fault: {test}" for test in failing) or "All of them pass without a fault.")
    return int(bool(failing))


def chosen(mutants: Sequence[Mutant], words: Sequence[str]) -> list[Mutant]:
    """Those of a trap with one of these numbers, or with one of these words in what goes wrong or where."""

    def wanted(mutant: Mutant) -> bool:
        text = f"{mutant.what} {mutant.file}".lower()
        return any(int(word) in mutant.traps if re.fullmatch(r"\d+", word) else word.lower() in text for word in words)

    return [mutant for mutant in mutants if not words or wanted(mutant)]


def main() -> int:
    """Run the list; 0 if enough of the faults are seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="numbers of traps, or words")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sound", action="store_true", help="plant nothing: each of the tests has to pass")
    given = parser.parse_args()
    mutants = chosen(read(), given.words)
    if given.sound:
        return sound({test for mutant in mutants for test in mutant.tests})
    found = run(mutants, max(1, min(given.jobs, len(mutants))))
    alive = [(mutant, tests) for mutant, tests in zip(mutants, found, strict=True) if tests]
    print(f"{len(mutants) - len(alive)} of {len(mutants)} faults are seen by every test that is named for them.")
    for mutant, tests in alive:
        print(f"  not by {', '.join(tests)}: {mutant.what}")
    return 0 if mutants and len(alive) <= (1 - BAR) * len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
