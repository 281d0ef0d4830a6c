"""The presets of objectives and autoencoders, from the command line's words to numbers, through the same doors as a user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit import api
from vaekit.compose import compose
from vaekit.errors import ConfigError
from vaekit.evaluation.passes import Plan
from vaekit.evaluation.rate_distortion import bound_terms
from vaekit.objectives.base import Role
from vaekit.recipe import build_objective, make_session, open_data, resolved, validate
from vaekit.runs import Run
from vaekit.schedules import last_end
from vaekit.training.loop import Callback
from vaekit.training.session import Session

SMALL = ("hidden_dim=16", "training.batch_size=200", "optimizer.lr=0.003", "evaluation.samples=2", "device=cpu")
AUTOENCODERS = ("ae", "rae", "rae_gp", "sae")
# overrides, the number that says whether training has helped, whether more of it is better
RUNS = {
    "model=iwae": ("val/iwae_8", True),
    "model=miwae": ("val/iwae_16", True),
    "model=ciwae": ("val/iwae_8", True),
    "model=renyi": ("val/iwae_8", True),
    "objective=vr_max": ("val/elbo", True),
    "model=beta_vae": ("val/loss", False),
    "model=beta_vae_capacity": ("val/recon_loss", False),
    "objective=free_bits": ("val/elbo", True),
    "objective=geco": ("val/recon_loss", False),
    **{f"model={name}": ("val/recon_loss", False) for name in AUTOENCODERS},
}
EXTRA = {
    **dict.fromkeys(("model=iwae", "model=ciwae", "model=renyi"), ("training.samples=8",)),
    "model=miwae": ("training.samples=16",),
    "objective=vr_max": ("training.samples=4",),
    "objective=geco": ("objective.terms.recon.tolerance=22",),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(tmp_path: Path, no_pictures: None) -> Callable[..., Run]:
    return lambda *overrides, **given: api.train(*SMALL, *overrides, f"output_dir={tmp_path}", **given)


def opened(*overrides: str) -> tuple[Session, Any]:
    composed = compose(overrides)
    dataset = open_data({"kind": "data.named", "name": "digits", "path": None, "binarisation": "dynamic", "seed": 0})
    return make_session(resolved(composed, dataset), dataset, torch.device("cpu")), dataset


@pytest.mark.parametrize(("words", "criterion"), RUNS.items(), ids=RUNS.keys())
def test_a_short_training_improves_its_own_criterion(
    words: str, criterion: tuple[str, bool], train: Callable[..., Run]
) -> None:
    name, more = criterion
    rows = train(words, *EXTRA.get(words, ()), "training.epochs=5").history
    first, last = rows[0][name], rows[-1][name]
    assert (last > first) if more else (last < first), f"{name}: {first:.3f} -> {last:.3f}"


@pytest.mark.parametrize("model", AUTOENCODERS)
def test_an_autoencoder_is_judged_by_its_reconstruction(model: str) -> None:
    session, dataset = opened(f"model={model}", *SMALL)
    assert not session.model.bounded
    row, score = validate(session, dataset, Plan())
    assert score == -row["val/recon_loss"]
    assert "val/elbo" not in row
    assert ("val/loss" in row) is (model == "ae")  # of penalties there is no validation


@pytest.mark.parametrize("model", AUTOENCODERS)
def test_autoencoders_are_scored_with_the_squared_error(model: str) -> None:
    """The papers' weights stand beside a sum of squares: the nats are that and nothing else but a constant."""
    session, dataset = opened(f"model={model}", *SMALL)
    x = dataset.train.batch(torch.arange(5)).x
    trace = session.model.eval()(x)
    error = (trace.px.mean[0] - x).square().flatten(1).sum(1)
    torch.testing.assert_close(-trace.log_px[0], error + session.model.likelihood.constant)


def test_the_bound_of_validation_has_as_many_samples_as_training() -> None:
    session, dataset = opened("model=iwae", *SMALL)
    assert session.samples == 50
    assert session.objective.roles == {"iwae": Role.BOUND}
    row, score = validate(session, dataset, Plan())
    assert score == row["val/iwae_50"] == -row["val/loss"]
    assert row["val/iwae_50"] > row["val/elbo"]


@pytest.mark.parametrize("name", ["miwae", "ciwae", "renyi", "piwae", "dreg"])
def test_the_loss_of_validation_is_minus_the_bound_that_is_trained(name: str) -> None:
    """With as many draws as in training; weights are chosen by the importance-weighted bound of these, which all can be."""
    session, dataset = opened(f"model={name}", *SMALL, "training.samples=16")
    row, score = validate(session, dataset, Plan())
    assert score == row["val/iwae_16"]
    (term,) = session.objective.named_terms().values()
    loss = (
        -bound_terms(session.model, dataset.validation, Plan(samples=16, seed=1), {"own": term.bound})
        .bounds["own"]
        .mean()
    )
    assert row["val/loss"] == pytest.approx(float(loss))
    if name in ("piwae", "dreg"):
        assert row["val/loss"] == -score
    else:
        assert -row["val/iwae_16"] < row["val/loss"] < -row["val/elbo"] + 0.2


def test_what_is_no_bound_is_not_chosen_by() -> None:
    session, dataset = opened("objective=vr_max", "training.samples=5", *SMALL)
    row, score = validate(session, dataset, Plan())
    assert score == row["val/elbo"]
    assert "val/loss" not in row
    assert not [name for name in row if name.startswith("val/iwae")]


@pytest.mark.parametrize(("words", "beta"), [("model=beta_vae", 4.0), ("objective=free_bits", 1.0)])
def test_validation_weighs_as_training_does(words: str, beta: float) -> None:
    session, dataset = opened(words, *SMALL)
    row, score = validate(session, dataset, Plan())
    assert score == pytest.approx(-(row["val/recon_loss"] + row["val/kl_loss"]))
    if session.objective.plain:
        assert row["val/loss"] == pytest.approx(row["val/recon_loss"] + beta * row["val/kl_loss"])


@pytest.mark.parametrize("epochs", [1, 3, 30])
def test_the_capacity_rises_over_the_training_however_long(epochs: int) -> None:
    session, _ = opened("model=beta_vae_capacity", f"training.epochs={epochs}", "training.batch_size=128")
    assert last_end(session.objective) == epochs * session.stream.steps_per_epoch
    schedule = session.objective.terms["kl"].target.schedule
    assert schedule(0) == 0.0
    assert schedule(schedule.end) == 25.0
    assert schedule(schedule.end // 2) == pytest.approx(12.5, rel=0.1)


def test_a_capacity_keeps_the_weights_that_it_has_led_to(train: Callable[..., Run]) -> None:
    run = train("model=beta_vae_capacity", "training.epochs=4")
    assert run.folder.environment()["best_epoch"] == 4


def test_a_schedule_in_epochs_can_be_written_on_the_command_line() -> None:
    warm_up = "{kind: schedules.Linear, start: 0.0, stop: 1.0, steps: 2}"
    node = f"beta={{kind: schedules.InEpochs, schedule: {warm_up}, steps_per_epoch: '${{steps_per_epoch}}'}}"
    session, _ = opened(node, "training.epochs=3")
    assert last_end(session.objective) == 2 * session.stream.steps_per_epoch
    with pytest.raises(ConfigError, match="A schedule reaches its final value"):
        opened(node, "training.epochs=1")


def test_a_constraint_needs_a_tolerance() -> None:
    with pytest.raises(ConfigError, match=r"needs tolerance; write objective\.terms\.recon\.tolerance="):
        build_objective({"objective": compose(["objective=geco"]).objective})


def test_a_stopped_constraint_resumes_bit_for_bit(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Callback):
        def step(self, progress: Any) -> None:
            if progress.step == 11:
                raise KeyboardInterrupt

    words = (
        "objective=geco",
        "objective.terms.recon.tolerance=22",
        "training.epochs=3",
        "training.checkpoint_seconds=0",
    )
    whole = train(*words, "name=whole")
    with pytest.raises(KeyboardInterrupt):
        train(*words, "name=stopped", progress=lambda say: Stop())
    (path,) = (whole.path.parent.parent / "stopped").iterdir()
    resumed = api.resume(path)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()
