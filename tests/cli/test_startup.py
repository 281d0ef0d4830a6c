"""What a command loads before it does anything: no library that it may never need."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vaekit.cli.loading import loading

SOURCE = Path(__file__).parents[2] / "src"
HEAVY = (
    "torch", "numpy", "scipy", "sklearn", "pandas", "matplotlib", "PIL", "hydra", "omegaconf", "optuna", "rich", "yaml",
    "safetensors", "anndata", "h5py",
)  # fmt: skip
# what only some of the commands, or only the end of one, need
LATER = (
    "scipy", "sklearn", "pandas", "matplotlib", "optuna", "anndata", "h5py", "sympy", "tensorboard", "wandb", "torch._dynamo",
)  # fmt: skip


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of these a fresh interpreter has loaded after that code."""
    asked = f"{code}\nimport sys\nprint('|'.join(name for name in {names} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        check=True,
    )
    return [name for name in done.stdout.splitlines()[-1].split("|") if name]


@pytest.mark.parametrize("argument", ["--help", "--version", "-h"])
def test_help_loads_nothing_heavy(argument: str) -> None:
    assert loaded(f"from vaekit.cli.main import main\nassert main(['{argument}']) == 0", HEAVY) == []


def test_the_package_loads_nothing_heavy() -> None:
    assert loaded("import vaekit\nassert 'train' in dir(vaekit)", HEAVY) == []


def test_the_check_sees_what_is_loaded() -> None:
    assert loaded("import yaml", HEAVY) == ["yaml"]


def test_training_loads_no_pictures_and_no_statistics_before_it_begins() -> None:
    assert loaded("import vaekit\nvaekit.train, vaekit.resume", LATER) == []


def test_a_training_has_loaded_no_other_library_at_its_first_step(tmp_path: Path) -> None:
    code = f"""
from vaekit import api
from vaekit.training.loop import Callback
class Stop(BaseException): pass
class First(Callback):
    def step(self, progress): raise Stop
try:
    api.train("data=digits", "hidden_dim=4", "device=cpu", r"output_dir={tmp_path}", progress=lambda say: First())
    raise AssertionError
except Stop:
    pass
"""
    # torch's own optimizers bring its compiler, and that brings sympy
    assert set(loaded(code, LATER)) <= {"torch._dynamo", "sympy"}


def test_every_public_name_of_the_report_can_be_had_in_any_order() -> None:
    code = """
import vaekit.report.gif, vaekit.report.strip, vaekit.report.tables
from vaekit import report
assert sorted(report.__all__) == dir(report) == sorted(report._HOMES)
for name in report.__all__:
    assert callable(getattr(report, name)), name
"""
    assert "matplotlib" in loaded(code, HEAVY)
    assert loaded("from vaekit import report\nreport.write_page, report.plain_table", ("matplotlib",)) == []


def test_loading_turns_the_collector_off_and_on_again_where_torch_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    monkeypatch.delitem(sys.modules, "torch")

    def fails() -> None:
        with loading():
            assert not gc.isenabled()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert gc.isenabled()
    assert frozen == [False]


def test_loading_leaves_a_process_alone_that_has_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("frozen"))
    monkeypatch.setitem(sys.modules, "torch", sys)
    with loading():
        assert gc.isenabled()


def test_loading_does_not_turn_on_what_the_user_has_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(gc, "isenabled", lambda: False)
    monkeypatch.setattr(gc, "enable", lambda: pytest.fail("enabled"))
    with loading():
        pass
