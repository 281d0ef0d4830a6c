"""Imports point one way, and nothing in the package can run what a stranger wrote."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "vaekit"

# a module imports from its own layer and those before it
LAYERS = (
    "errors", "files", "math", "distributions", "schedules", "networks", "conditionals", "priors", "likelihoods", "models",
    "objectives", "data", "training", "evaluation", "report", "builder", "settings", "compose",
    "gallery", "snapshots", "recipe", "runs", "other_data", "out_of_distribution", "measurements", "api", "reproduce", "diagnosis",
    "sweep", "comparison", "second_stage", "exports", "cli", "__main__", "estimator",
)  # fmt: skip
FREE = "_version"  # of everyone


def modules(package: Path) -> list[Path]:
    """Every module but the package's own `__init__`, which is the face and names them all."""
    return sorted(path for path in package.rglob("*.py") if path != package / "__init__.py")


def layer_of(dotted: str) -> str:
    """`math` for vaekit.math.philox; `vaekit` for the package itself."""
    return [*dotted.split("."), "vaekit"][1]


def imports(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, at the top or later, under TYPE_CHECKING or by name at run time."""
    here = ("vaekit", *path.relative_to(package).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: -node.level], node.module] if node.level else [node.module]
            start = ".".join(part for part in base if part)
            # `from vaekit import data` imports vaekit.data; elsewhere the last name does not change the layer
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"} and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def faults(package: Path) -> list[str]:
    """Every import that points upwards and every module without a place, one line each."""
    found = []
    for path in modules(package):
        relative = path.relative_to(package)
        own = relative.with_suffix("").parts[0]
        if own == FREE:
            continue
        if own not in LAYERS:
            found.append(
                f"vaekit/{relative}: {own!r} is no layer yet: give it a place in LAYERS of tests/test_layers.py"
            )
            continue
        for line, name in imports(path, package):
            other = layer_of(name)
            if name.split(".")[0] != "vaekit" or other == FREE:
                continue
            if other not in LAYERS:
                found.append(
                    f"vaekit/{relative}:{line}: imports {name}, and {other!r} is no layer: import it from its home"
                )
            elif LAYERS.index(other) > LAYERS.index(own):
                found.append(f"vaekit/{relative}:{line}: layer {own!r} imports {name} of the later layer {other!r}")
    return found


def test_imports_point_one_way() -> None:
    assert modules(PACKAGE), f"no modules below {PACKAGE}"
    assert not faults(PACKAGE), "\n" + "\n".join(faults(PACKAGE))


PLANTED = {
    "at the top": ("math/a.py", "import os\nfrom vaekit.models import VAE\n", 2, "models"),
    "import": ("networks/a.py", "import vaekit.priors.standard\n", 1, "priors"),
    "in a function": ("objectives/a.py", "def f():\n    from vaekit.data.batch import Batch\n", 2, "data"),
    "for types": (
        "data/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vaekit.api import Run\n", 3, "api",
    ),
    "relative": ("priors/deep/a.py", "from ...models.vae import VAE\n", 1, "models"),
    "relative package": ("priors/a.py", "from .. import models\n", 1, "models"),
    "from the package": ("schedules.py", "from vaekit import networks\n", 1, "networks"),
    "by name": ("compose.py", "from importlib import import_module\nimport_module('vaekit.cli.main')\n", 2, "cli"),
    "the face": ("cli/a.py", "from vaekit import train\n", 1, "train"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "text", "line", "later"), PLANTED.values(), ids=PLANTED.keys())
def test_the_checker_sees_a_planted_arrow(tmp_path: Path, file: str, text: str, line: int, later: str) -> None:
    path = tmp_path / "vaekit" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (found,) = faults(tmp_path / "vaekit")
    assert f"vaekit/{file}:{line}:" in found
    assert repr(later) in found


def test_the_checker_accepts_what_is_allowed_and_sees_a_stranger(tmp_path: Path) -> None:
    package = tmp_path / "vaekit"
    (package / "models").mkdir(parents=True)
    allowed = (
        "from vaekit._version import __version__\nfrom vaekit.math.philox import philox\nfrom .trace import Trace\n"
    )
    (package / "models" / "vae.py").write_text(allowed)
    (package / "__init__.py").write_text("from vaekit.estimator import Estimator\n")
    assert faults(package) == []
    (package / "utils.py").write_text("")
    assert ["'utils' is no layer" in line for line in faults(package)] == [True]


def of_report() -> list[Path]:
    return [path for path in modules(PACKAGE) if path.is_relative_to(PACKAGE / "report")]


def test_report_imports_neither_torch_nor_a_model() -> None:
    # the doctor reads numbers, not models; the page asks it when it is drawn and not when it is imported
    asked_later = ("vaekit.evaluation.doctor.", "vaekit.evaluation.units.")
    for path in of_report():
        for line, name in imports(path, PACKAGE):
            top = name.split(".")[0]
            assert top not in {"torch", "hydra", "safetensors", "sklearn"}, f"{path}:{line} imports {name}"
            if top == "vaekit" and not name.startswith(asked_later):
                assert layer_of(name) in {"report", "errors", "files", FREE}, f"{path}:{line} imports {name}"


def test_report_loads_where_torch_is_missing() -> None:
    names = [".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for path in of_report()]
    code = f"""
        import importlib, sys
        sys.modules["torch"] = None
        for name in {names}:
            importlib.import_module(name)
        print(sorted(name for name in sys.modules if name.split(".")[:2] in (["vaekit", "models"], ["vaekit", "data"])))
    """
    assert run(code).strip() == "[]"


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(SOURCE), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not (PACKAGE / "__init__.py").exists(), reason="vaekit/__init__.py is not written yet")
def test_importing_vaekit_is_light_and_changes_nothing() -> None:
    before_and_after = """
        import decimal, locale, logging, os, random, signal, sys, warnings
        def state():
            return (
                dict(os.environ), os.getcwd(), logging.getLogger().level, list(logging.getLogger().handlers),
                list(warnings.filters), locale.setlocale(locale.LC_ALL), sys.getrecursionlimit(), random.getstate(),
                signal.getsignal(signal.SIGINT), sys.excepthook, list(sys.path), list(sys.meta_path), decimal.getcontext().prec,
            )
        before = state()
        import vaekit
        assert state() == before, "importing vaekit changes the state of the process"
        heavy = {"torch", "hydra", "omegaconf", "numpy", "matplotlib", "sklearn", "rich", "PIL", "safetensors"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert run(before_and_after).strip() == "[]"


def test_importing_the_core_leaves_torch_as_it_was() -> None:
    code = """
        import torch
        def state():
            return (
                torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
                torch.is_grad_enabled(), torch.get_float32_matmul_precision(), torch.random.initial_seed(),
                torch.get_rng_state().tolist(), torch.distributions.Distribution._validate_args,
            )
        before = state()
        import vaekit.objectives, vaekit.models, vaekit.likelihoods, vaekit.priors, vaekit.networks, vaekit.schedules
        assert state() == before
        print("same")
    """
    assert run(code).strip() == "same"


# what executes or unpickles what somebody else wrote
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
    "hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_object", "hydra.utils.get_method",
    "pandas.read_pickle", "tempfile.mktemp", "shutil.unpack_archive",
}  # fmt: skip


def unsafe(path: Path) -> list[str]:
    """Every forbidden import and call of a module, with aliases followed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: dict[str, str] = {}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
            found += [f"{path}:{node.lineno}: imports {a.name}" for a in node.names if _forbidden(a.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            whole = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            found += [f"{path}:{node.lineno}: imports {name}" for name in whole if _forbidden(name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _dotted(node.func, names)
            keywords = {k.arg: k.value for k in node.keywords}
            shell = keywords.get("shell")
            if name in FORBIDDEN_CALLS and not _reads_tensors_only(path, name, keywords):
                found.append(f"{path}:{node.lineno}: calls {name}")
            if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
                found.append(f"{path}:{node.lineno}: calls {name} with shell")
            if name in {"numpy.load", "numpy.lib.npyio.NpzFile"} and not _is_false(keywords.get("allow_pickle")):
                found.append(f"{path}:{node.lineno}: calls {name} without allow_pickle=False")
            elif "allow_pickle" in keywords and not _is_false(keywords["allow_pickle"]):
                found.append(f"{path}:{node.lineno}: calls {name} with allow_pickle")
        if isinstance(node, ast.Attribute) and node.attr in {"extractall", "instantiate"}:
            found.append(f"{path}:{node.lineno}: uses {node.attr}")
    return found


# the one module that reads a pickle: of tensors alone, from bytes whose SHA-256 it knows
READS_WEIGHTS = PACKAGE / "evaluation" / "features.py"


def _reads_tensors_only(path: Path, name: str, keywords: Mapping[str | None, ast.expr]) -> bool:
    flag = keywords.get("weights_only")
    return path == READS_WEIGHTS and name == "torch.load" and isinstance(flag, ast.Constant) and flag.value is True


def _forbidden(name: str) -> bool:
    return name.split(".")[0] in FORBIDDEN_MODULES or name in FORBIDDEN_CALLS


def _is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return "?"


def test_no_module_runs_what_a_stranger_wrote() -> None:
    found = [line for path in PACKAGE.rglob("*.py") for line in unsafe(path)]
    assert not found, "\n" + "\n".join(found)


UNSAFE = (
    "import pickle", "from pickle import loads", "import cloudpickle as c", "eval('1')", "exec('1')",
    "import torch\ntorch.load('a')", "from torch import load", "import torch as t\nt.load('a', weights_only=True)",
    "import yaml\nyaml.load('a', Loader=None)", "import subprocess\nsubprocess.run('ls', shell=True)",
    "import numpy as np\nnp.load('a')", "import numpy\nnumpy.load('a', allow_pickle=True)", "from numpy import load\nload('a')",
    "import tarfile\ntarfile.open('a').extractall()", "import os\nos.system('ls')", "from hydra.utils import instantiate",
)  # fmt: skip
SAFE = (
    "model.eval()", "import numpy as np\nnp.load('a', allow_pickle=False)", "import re\nre.compile('a')",
    "import json\njson.load(f)", "import yaml\nyaml.safe_load('a')", "import torch\ntorch.compile(f)",
)  # fmt: skip


@pytest.mark.parametrize("code", UNSAFE)
def test_the_checker_sees_unsafe_code(tmp_path: Path, code: str) -> None:
    (tmp_path / "a.py").write_text(code)
    assert unsafe(tmp_path / "a.py")


@pytest.mark.parametrize(
    ("code", "faults"),
    [
        ("torch.load(f, weights_only=True)", 0), ("torch.load(f)", 1), ("torch.load(f, weights_only=False)", 1),
        ("torch.load(f, weights_only=flag)", 1), ("torch.load(f, **{'weights_only': True})", 1), ("torch.jit.load(f)", 1),
    ],
)  # fmt: skip
def test_the_module_of_the_weights_may_read_tensors_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, faults: int
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "READS_WEIGHTS", tmp_path / "features.py")
    for name, expected in (("features.py", faults), ("other.py", 1)):
        (tmp_path / name).write_text(f"import torch\n{code}")
        assert len(unsafe(tmp_path / name)) == expected


@pytest.mark.parametrize("code", SAFE)
def test_the_checker_accepts_safe_code(tmp_path: Path, code: str) -> None:
    (tmp_path / "a.py").write_text(code)
    assert not unsafe(tmp_path / "a.py")
