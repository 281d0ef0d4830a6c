"""`vaekit doctor`: what it prints, its exit codes, its JSON, and a remedy that it starts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from vaekit import api
from vaekit.data.errors import DataNotFoundError

pytestmark = pytest.mark.usefixtures("no_pictures_here")
OWN = ("beta=50", "hidden_dim=32", "training.epochs=8", "optimizer.lr=3e-3", "device=cpu", "evaluation.samples=2")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose KL weighs 50 times too much."""
    folder = tmp_path_factory.mktemp("broken")
    return api.train(*OWN, f"output_dir={folder}", "name=run").path


def test_a_finding_is_evidence_cause_and_commands(broken: Path, vaekit: Any) -> None:
    said = vaekit("doctor", broken)
    assert said.code == 1, said.err
    assert said.out.startswith("warning: The KL weighs too much. With beta 50 the KL is ")
    assert "\n  try: vaekit train hidden_dim=32 " in said.out
    assert "Looked for: " in said.out
    assert said.last.endswith(f"vaekit doctor {broken} --fix")
    assert vaekit("doctor", broken, "--split", "validation").code == 1


def test_json_is_all_there_is_and_says_the_same(broken: Path, vaekit: Any) -> None:
    said = vaekit("doctor", broken, "--json")
    told = json.loads(said.out)
    assert said.code == 1
    assert told["healthy"] is False
    assert told["findings"][0]["name"] == "kl_too_heavy"
    assert set(told["findings"][0]) == {"name", "severity", "title", "evidence", "cause", "remedies"}
    assert told["symptoms"]["swap_z"]["n"] == 180


def test_wrong_use_is_two(broken: Path, vaekit: Any) -> None:
    assert vaekit("doctor").code == 2
    assert vaekit("doctor", broken, "--split", "train").code == 2
    assert vaekit("doctor", broken, "--mend").code == 2


def test_the_first_remedy_is_started_and_compared(broken: Path, vaekit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, ...]] = []
    train = api.train

    def shorter(*overrides: str, **how: Any) -> Any:
        started.append(overrides)
        return train(*overrides, **how)

    monkeypatch.setattr(api, "train", shorter)
    said = vaekit("doctor", broken, "--fix")
    assert "beta=1.0" in started[0]
    assert "beta=50" not in started[0]
    assert "Before and after" in said.out
    assert "The KL weighs too much: not found any more." in said.out
    assert "paired over 180 test examples" in said.out or "no different within its error" in said.out
    new = Path(said.last)
    assert new.parent == broken.parent
    assert new != broken
    assert json.loads((new / "environment.json").read_text())["command"].endswith("beta=1.0")


def test_what_a_training_says_at_its_end_points_to_the_doctor(tmp_path: Path, vaekit: Any) -> None:
    said = vaekit("train", *OWN[1:], "beta=50", "training.epochs=4", f"output_dir={tmp_path}")
    assert said.code == 0
    assert "warning: The KL weighs too much." in said.out
    assert said.out.count("\n  try: ") == 1
    assert f"and --fix: {shlex.join(['vaekit', 'doctor', said.last])}" in said.out


def test_no_run_is_no_health(tmp_path: Path, vaekit: Any) -> None:
    said = vaekit("doctor", tmp_path)
    assert said.code == 2  # 1 says that a run has findings
    assert said.err.startswith(f"vaekit: {tmp_path} is not a run folder")
    assert said.err.count("\n") == 1


@pytest.mark.slow
def test_sigma_one_on_frey_face_is_mended(tmp_path: Path, vaekit: Any) -> None:
    own = ("data=freyfaces", "likelihood=normal", "sigma=1", "hidden_dim=100", "training.epochs=30", "device=cpu")
    try:
        broken = api.train(*own, f"output_dir={tmp_path}", "name=run")
    except DataNotFoundError as error:
        pytest.skip(str(error).splitlines()[0])
    assert broken.metrics["kl"].value < 0.1
    said = vaekit("doctor", broken.path, "--fix", "--json")
    told = json.loads(said.out)
    assert told["findings"][0]["name"] == "sigma_too_large"
    changes = {change["name"]: change for change in told["fix"]["changes"]}
    assert changes["kl"]["after"]["value"] > 5.0
    better = changes["elbo"]["difference"]
    assert better["value"] > 3.0 * better["standard_error"]
    assert said.code == 0
