"""The pages that say what is proved by what are true: each test that they name exists, nothing is left out, and faults are seen."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from vaekit.builder import build
from vaekit.compose import choices
from vaekit.conditionals import Conditional
from vaekit.objectives import Term

ROOT = Path(__file__).parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "src" / "vaekit"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TRAPS = ("traps.md", "traps.zh-CN.md")
OBJECTIVES = ("objectives.md", "objectives.zh-CN.md")
LETTERS = "abcdefghijklm"
# of what "cannot occur yet": names that the part would have
ABSENT = {
    25: r"(class|def) \w*DIP", 26: r"(class|def) \w*DIP", 27: r"(class|def) \w*(FactorVAE|permute)",
    32: r"class \w*(MMD|Discrepancy)", 33: r"(?i)(class|def) \w*log_?cosh", 39: r"torch\.distributed|DistributedData",
    44: r"(?i)(class|def) \w*(information_?gap|disentangle)", 45: r"(?i)(class|def) \w*(information_?gap|disentangle)",
    57: r"autocast|\.half\(\)|GradScaler", 62: r"torch\.distributed|DistributedData",
}  # fmt: skip
# densities that are no part of the contract of conditionals: where each is shown to sum or integrate to one
DENSITIES = {
    "conditionals.Delta": "tests/conditionals/test_delta.py::test_all_mass_is_on_the_point",
    "conditionals.Quantized": "tests/test_acceptance.py::test_j_codes_and_categories_sum_to_one",
    "conditionals.RelaxedCategorical": "tests/test_acceptance.py::test_j_codes_and_categories_sum_to_one",
    "likelihoods.Columns": "tests/likelihoods/test_columns.py::test_it_sums_and_integrates_to_one",
    "likelihoods.Pyramid": "tests/models/test_residual.py::test_the_likelihood_is_a_density_of_the_tuple",
    "priors.FittedAutoregressive": "tests/priors/test_fitted.py::test_the_autoregressive_prior_sums_to_one_and_its_draws_follow_it",
    "priors.FittedFlow": "tests/priors/test_fitted.py::test_a_density_of_one_dimension_integrates_to_one_and_draws_follow_it",
    "priors.FittedMixture": "tests/priors/test_fitted.py::test_a_density_of_one_dimension_integrates_to_one_and_draws_follow_it",
    "priors.FittedNormal": "tests/priors/test_fitted.py::test_a_density_of_one_dimension_integrates_to_one_and_draws_follow_it",
    "priors.UniformCategorical": "tests/test_acceptance.py::test_j_codes_and_categories_sum_to_one",
    "priors.UniformCodes": "tests/test_acceptance.py::test_j_codes_and_categories_sum_to_one",
    "priors.Vamp": "tests/priors/test_learned.py::test_the_vamp_prior_integrates_to_one_and_samples_are_from_it",
}


@pytest.fixture(scope="module")
def planted() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tests" / "mutation.py"))


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


@cache
def functions_of(file: str) -> frozenset[str]:
    """Names of the tests of a file, which is not imported."""
    path = ROOT / file
    tree = ast.parse(path.read_text("utf-8")) if path.exists() else ast.Module([], [])
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def missing(tests: Any) -> list[str]:
    return [f"{file}::{name}" for file, name in tests if not name.startswith("test_") or name not in functions_of(file)]


@pytest.mark.parametrize("page", [*TRAPS, *OBJECTIVES])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = NAMED.findall(read(page))
    assert len(named) > 20
    assert not missing(named)
    # what looks like a test and is not written as one
    assert len(re.findall(r"tests/[\w/]+\.py::", read(page))) == len(named)


def test_a_test_that_does_not_exist_would_be_seen() -> None:
    assert missing([("tests/test_proofs.py", "test_that_is_none"), ("tests/none.py", "test_a")])
    assert missing([("tests/test_proofs.py", "missing")])  # a function that is no test


@pytest.mark.parametrize("page", TRAPS)
def test_every_trap_is_there_and_has_a_test_or_a_reason(page: str) -> None:
    rows = ROW.findall(read(page))
    assert [int(number) for number, _, _ in rows] == list(range(1, 67))
    without = {
        int(number) for number, _, answer in rows if answer.startswith(("Cannot occur yet: ", "目前不可能出现:"))
    }
    assert without == set(ABSENT)
    assert all(NAMED.search(answer) for number, _, answer in rows if int(number) not in without)


def test_both_languages_name_the_same_tests() -> None:
    for english, chinese in (TRAPS, OBJECTIVES):
        assert NAMED.findall(read(english)) == NAMED.findall(read(chinese))


def test_what_cannot_occur_is_absent() -> None:
    sources = {path: path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    assert len(sources) > 100
    for number, pattern in ABSENT.items():
        found = [path.name for path, source in sources.items() if re.search(pattern, source)]
        assert not found, f"trap {number} can occur now: name its test on docs/traps.md and plant the fault"


def test_every_test_of_a_trap_is_named_for_a_fault_that_is_planted(planted: dict[str, Any]) -> None:
    """So that the page says nothing that `python tests/mutation.py` does not try."""
    seen: dict[int, set[str]] = {}
    for mutant in planted["read"]():
        for number in mutant.traps:
            seen.setdefault(number, set()).update(mutant.tests)
    for number, _, answer in ROW.findall(read("traps.md")):
        if int(number) not in ABSENT:
            named = {f"{file}::{name}" for file, name in NAMED.findall(answer)}
            tried = seen.get(int(number), set())
            assert named <= tried, f"trap {number}: no fault in tests/mutants.toml for {named - tried}"


def test_planted_faults_fit_the_package(planted: dict[str, Any]) -> None:
    mutants = planted["read"]()
    assert len(mutants) >= 60
    for mutant in mutants:
        source = (PACKAGE / mutant.file).read_text("utf-8")
        faulty = mutant.planted(source)
        assert ast.dump(ast.parse(faulty)) != ast.dump(ast.parse(source)), mutant.what
        assert mutant.tests
        assert not missing(test.split("::") for test in mutant.tests), mutant.what


def test_a_fault_that_no_longer_fits_is_named(planted: dict[str, Any]) -> None:
    mutant = planted["Mutant"]("what", "file.py", "a = 1", "a = 2", ("tests/x.py::test_x",))
    assert mutant.planted("a = 1\n") == "a = 2\n"
    for source in ("a = 3\n", "a = 1\na = 1\n"):
        with pytest.raises(ValueError, match=r"expected once: write in tests/mutants\.toml"):
            mutant.planted(source)


@pytest.mark.slow
def test_some_planted_faults_are_seen() -> None:
    """Five of them; `python tests/mutation.py` plants all."""
    words = ["logarithm of a sum", "sign of the KL", "bits per dimension", "wrap around", "own posterior is weighted"]
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "mutation.py", "--jobs", "1", *words],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "5 of 5 faults are seen" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", LETTERS)
def test_every_letter_of_the_acceptance_list_has_its_tests(page: str) -> None:
    (row,) = re.findall(rf"^\| \({page}\) \| .+ \| (.+) \|$", read("traps.md"), re.MULTILINE)
    assert NAMED.search(row)


def test_every_density_is_shown_to_be_one() -> None:
    contract = runpy.run_path(str(ROOT / "tests" / "contracts" / "conftest.py"))
    proved = {key.split(" ")[0] for group in ("CONDITIONALS", "PRIORS", "LIKELIHOODS") for key in contract[group]}
    assert not missing(test.split("::") for test in DENSITIES.values())
    for package in ("conditionals", "priors", "likelihoods"):
        home = import_module(f"vaekit.{package}")
        for name in home.__all__:
            part = getattr(home, name)
            if inspect.isclass(part) and issubclass(part, Conditional) and not inspect.isabstract(part):
                assert f"{package}.{name}" in proved | set(DENSITIES), f"{package}.{name}: show that it sums to 1"


def test_no_except_is_bare() -> None:
    for path in PACKAGE.rglob("*.py"):
        handlers = [
            node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ExceptHandler)
        ]
        assert all(handler.type is not None for handler in handlers), path


def public_terms() -> list[str]:
    home = import_module("vaekit.objectives")
    things = {name: getattr(home, name) for name in home.__all__}
    return [
        name for name, thing in things.items()
        if inspect.isclass(thing) and issubclass(thing, Term) and not inspect.isabstract(thing)
    ]  # fmt: skip


@pytest.mark.parametrize("page", OBJECTIVES)
def test_every_term_is_on_the_page_of_objectives(page: str) -> None:
    found = dict(SECTION.findall(read(page)))
    assert sorted(found) == sorted(public_terms())
    units, paper, proof = (
        ("**Units**", "**Paper**", "**Proof**") if page == OBJECTIVES[0] else ("**单位**", "**论文**", "**证明**")
    )
    for name, text in found.items():
        assert re.search(r"^\$\$.+\$\$$", text, re.MULTILINE), name
        assert f"{units}: " in text, name
        assert re.search(rf"{re.escape(paper)}: .*\(https://", text), name
        assert NAMED.search(text.split(f"{proof}: ")[1]), name
        for block in YAML.findall(text):
            node = yaml.safe_load(block)
            assert node["kind"] == f"objectives.{name}"
            assert type(build(node)).__name__ == name
        assert len(YAML.findall(text)) == 1, name


@pytest.mark.parametrize("page", OBJECTIVES)
def test_every_objective_that_has_a_name_is_on_the_page(page: str) -> None:
    assert set(re.findall(r"`objective=(\w+)`", read(page))) == set(choices("objective"))
