"""A step that is not finite moves nothing: no parameter, no optimizer state, no running average; it is counted and explained."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaekit.conditionals import Normal as Posterior
from vaekit.data.batch import Batch
from vaekit.errors import TrainingError
from vaekit.likelihoods import LearnedScaleNormal
from vaekit.models.factories import flat
from vaekit.models.vae import VAE
from vaekit.networks import MLP
from vaekit.objectives import KL, Constrained, Objective, Reconstruction
from vaekit.priors import Mixture, StandardNormal
from vaekit.training import Player, fit, sole_player
from vaekit.training.history import History, Row
from vaekit.training.loop import Callback, Progress
from vaekit.training.watch import Watch

SIZE, BATCH, BAD = 6, 8, 3


def model(norm: str = "none") -> VAE:
    torch.manual_seed(0)

    def network(**shapes: Any) -> MLP:
        return MLP(hidden_dims=[5], norm=norm, **shapes)  # type: ignore[arg-type]

    return flat(network, network, Posterior([2]), StandardNormal([2]), LearnedScaleNormal([SIZE]))


def objective() -> Objective:
    # with a running average of its own
    return Objective({"recon": Constrained(Reconstruction(), 1.0), "kl": KL()})


def batches(step: int) -> Batch:
    x = torch.randn(BATCH, SIZE, generator=torch.Generator().manual_seed(step))
    return Batch(x, None, torch.arange(BATCH) + 100 * step)


class At(Callback):
    """Acts before the step of a number, and undoes it after."""

    def __init__(self, steps: set[int], act: Callable[[bool], None]) -> None:
        self.steps, self.act = steps, act

    def start(self, progress: Progress) -> None:
        if progress.step in self.steps:
            self.act(True)

    def step(self, progress: Progress) -> None:
        if progress.step - 1 in self.steps:
            self.act(False)
        if progress.step in self.steps:
            self.act(True)


def spoilt_data(value: float, rows: tuple[int, ...]) -> Callable[[int], Batch]:
    def stream(step: int) -> Batch:
        batch = batches(step)
        if step == BAD:
            batch.x[list(rows), 1] = value
        return batch

    return stream


def hook_gradients(module: nn.Module, value: float) -> Callable[[bool], None]:
    handles: list[Any] = []

    def act(on: bool) -> None:
        if on:
            handles.append(module.register_full_backward_pre_hook(lambda _, gradient: (gradient[0] * value,)))
        while not on and handles:
            handles.pop().remove()

    return act


def hook_parameter(parameter: nn.Parameter, value: float) -> Callable[[bool], None]:
    handles: list[Any] = []

    def act(on: bool) -> None:
        if on:
            handles.append(parameter.register_hook(lambda gradient: gradient * value))
        while not on and handles:
            handles.pop().remove()

    return act


def state(vae: VAE, goal: Objective, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    moments = [v for s in optimizer.state_dict()["state"].values() for v in s.values()]
    return [t.clone() for t in (*vae.state_dict().values(), *goal.state_dict().values(), *moments)]


class Record(Callback):
    def __init__(self, look: Callable[[], list[Tensor]]) -> None:
        self.look, self.states, self.progress = look, [], None

    def step(self, progress: Progress) -> None:
        self.progress = progress
        self.states.append(self.look())


CASES = ("nan in data", "inf in data", "gradient", "gradient of the scale", "weights")


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_step_moves_nothing(case: str, norm: str, clip: float | None) -> None:
    vae, goal = model(norm), objective()
    player = sole_player(nn.ModuleList([vae, goal]), lambda p: torch.optim.Adam(p, lr=0.01, fused=True), clip)
    stream, callbacks = batches, []
    if case == "nan in data":
        stream = spoilt_data(math.nan, (2, 5))
    elif case == "inf in data":
        stream = spoilt_data(math.inf, (2,))
    elif case == "gradient":
        callbacks = [At({BAD}, hook_gradients(vae.decoder.layers[-1], math.nan))]
    elif case == "gradient of the scale":
        callbacks = [At({BAD}, hook_parameter(next(vae.likelihood.parameters()), math.inf))]
    else:
        kept = vae.decoder.layers[0].weight.detach().clone()

        def spoil(on: bool) -> None:
            with torch.no_grad():
                vae.decoder.layers[0].weight.copy_(torch.full_like(kept, math.nan) if on else healthy[0])

        healthy: list[Tensor] = []

        class Keep(Callback):
            def step(self, progress: Progress) -> None:
                if progress.step == BAD:
                    healthy.append(vae.decoder.layers[0].weight.detach().clone())

        callbacks = [Keep(), At({BAD}, spoil)]
    record = Record(lambda: state(vae, goal, player.optimizer))
    history = History()
    fit(vae, goal, [player], stream, steps=6, steps_per_epoch=6, callbacks=[*callbacks, record], history=history)
    before, after, next_ = record.states[BAD - 1], record.states[BAD], record.states[BAD + 1]
    if case != "weights":  # which were spoilt by the test itself when the record was made
        for old, new in zip(before, after, strict=True):
            assert torch.equal(old, new)
    assert not all(torch.equal(old, new) for old, new in zip(after, next_, strict=True))
    assert all(bool(tensor.isfinite().all()) for tensor in record.states[-1])
    guard = record.progress.guard
    assert guard.skipped == 1
    assert history.rows[0]["train/skipped_steps"] == 1
    assert math.isfinite(history.rows[0]["train/loss"])
    assert guard.last.step == BAD + 1


def test_what_no_bias_tells_is_looked_at_itself() -> None:
    """Of a mixture the logits, its one vector, say nothing of the means; and a bias that is held has no gradient."""
    vae, goal = model(), objective()
    vae.hierarchy.levels[0].prior = prior = Mixture([2], components=3)
    vae.decoder.layers[0].bias.requires_grad_(False)
    for parameter in (prior.loc, vae.decoder.layers[0].weight):
        player = sole_player(nn.ModuleList([vae, goal]), torch.optim.Adam)
        record = Record(lambda player=player: state(vae, goal, player.optimizer))
        act = At({BAD}, hook_parameter(parameter, math.nan))
        fit(vae, goal, [player], batches, steps=6, steps_per_epoch=6, callbacks=[act, record])
        assert record.progress.guard.skipped == 1
        assert all(bool(tensor.isfinite().all()) for tensor in record.states[-1])


def test_a_player_that_rests_has_no_say() -> None:
    """Its gradients are those of an earlier step."""
    vae, goal = model(), objective()
    scale = next(vae.likelihood.parameters())
    others = [p for p in nn.ModuleList([vae, goal]).parameters() if p is not scale]
    players = [
        Player("others", others, torch.optim.Adam(others)),
        Player("scale", [scale], torch.optim.Adam([scale]), active=lambda step: step == BAD),
    ]
    record = Record(list)
    act = At({BAD}, hook_parameter(scale, math.nan))
    fit(vae, goal, players, batches, steps=9, steps_per_epoch=9, callbacks=[act, record], skip_limit=2)
    assert record.progress.guard.skipped == 1


def test_an_epoch_that_begins_with_steps_left_out_can_be_saved() -> None:
    """Before the first step of an epoch that was made there is no mean to be finite or not."""
    vae, goal = model(), objective()
    player = sole_player(nn.ModuleList([vae, goal]), torch.optim.Adam)
    history = History()

    class Save(Callback):
        def step(self, progress: Progress) -> None:
            assert all(map(math.isfinite, history.means().values()))
            history.state()

    stream = spoilt_data(math.nan, (1,))
    fit(vae, goal, [player], stream, steps=6, steps_per_epoch=3, callbacks=[Save()], history=history)
    assert history.rows[1]["train/skipped_steps"] == 1


def test_an_epoch_without_any_step_is_no_row() -> None:
    vae, goal = model(), objective()
    player = sole_player(nn.ModuleList([vae, goal]), torch.optim.Adam)

    def stream(step: int) -> Batch:
        batch = batches(step)
        batch.x[0, 0] = math.nan
        return batch

    with pytest.raises(TrainingError, match=r"All 3 steps of epoch 1 had to be left out.*optimizer.lr"):
        fit(vae, goal, [player], stream, steps=6, steps_per_epoch=3)


def test_the_row_is_the_mean_of_the_steps_that_were_made() -> None:
    def losses(stream: Callable[[int], Batch]) -> Row:
        vae, goal = model(), objective()
        player = sole_player(nn.ModuleList([vae, goal]), lambda p: torch.optim.SGD(p, lr=0.0))
        torch.manual_seed(0)
        return fit(vae, goal, [player], stream, steps=4, steps_per_epoch=4).rows[0]

    torch.testing.assert_close(losses(spoilt_data(math.nan, (1,)))["train/skipped_steps"], 1)
    whole, part = losses(batches), losses(spoilt_data(math.nan, (1,)))
    assert part["train/loss"] != whole["train/loss"]
    assert part["train/loss"] == pytest.approx(whole["train/loss"], rel=0.2)
    assert "train/skipped_steps" not in whole


def test_term_and_examples_at_fault_are_named() -> None:
    vae, goal = model(), Objective({"recon": Reconstruction(), "kl": KL()})
    player = sole_player(nn.ModuleList([vae, goal]), torch.optim.Adam)
    said: list[str] = []
    fit(
        vae,
        goal,
        [player],
        spoilt_data(math.nan, (2, 5)),
        steps=5,
        steps_per_epoch=5,
        callbacks=[Watch(said.append, vae)],
    )
    assert said == [
        f"Step 4 was left out: the loss is no longer finite (term 'recon'), training examples {BAD}02, {BAD}05."
    ]


def test_a_gradient_at_fault_is_named() -> None:
    vae, goal = model(), Objective({"recon": Reconstruction(), "kl": KL()})
    player = sole_player(nn.ModuleList([vae, goal]), torch.optim.Adam)
    said: list[str] = []
    act = At({1}, hook_gradients(vae.encoder.layers[-1], math.nan))
    fit(vae, goal, [player], batches, steps=3, steps_per_epoch=3, callbacks=[act, Watch(said.append, vae)])
    assert said == ["Step 2 was left out: the gradient of 'encoder.layers.0.weight' is not finite."]


@pytest.mark.parametrize("limit", [1, 4])
def test_several_in_a_row_end_the_training_with_advice(limit: int) -> None:
    vae, goal = model(), objective()
    player = sole_player(nn.ModuleList([vae, goal]), torch.optim.Adam)
    before = copy.deepcopy(vae.state_dict())

    def stream(step: int) -> Batch:
        batch = batches(step)
        batch.x[0, 0] = math.nan
        return batch

    with pytest.raises(TrainingError, match=rf"{limit} steps in a row .*optimizer.lr.*gradient_clip.*activation"):
        fit(vae, goal, [player], stream, steps=20, steps_per_epoch=20, skip_limit=limit)
    for name, tensor in vae.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_steps_that_are_not_in_a_row_do_not_end_it() -> None:
    vae, goal = model(), objective()
    player = sole_player(nn.ModuleList([vae, goal]), torch.optim.Adam)
    said: list[str] = []

    def stream(step: int) -> Batch:
        batch = batches(step)
        if step % 2:
            batch.x[0, 0] = math.nan
        return batch

    history = fit(
        vae, goal, [player], stream, steps=12, steps_per_epoch=12, skip_limit=2, callbacks=[Watch(said.append, vae)]
    )
    assert history.rows[0]["train/skipped_steps"] == 6
    assert len(said) == 3
    assert said[-1].endswith("More of them are counted in metrics.jsonl.")


def test_what_was_left_out_outlives_a_checkpoint() -> None:
    history = History()
    vae, goal = model(), objective()
    player = sole_player(nn.ModuleList([vae, goal]), torch.optim.Adam)
    fit(vae, goal, [player], spoilt_data(math.nan, (1,)), steps=BAD + 1, steps_per_epoch=10, history=history)
    other = History()
    other.load(history.state(), [], torch.device("cpu"))
    assert other.means() == history.means()
    assert other.state() == history.state()


@contextmanager
def on_a_device_that_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where a verdict's device is asked for, it is not the host: the path that reads nothing until the epoch ends."""
    from vaekit.training import guard, history, players

    with monkeypatch.context() as patch:
        patch.setattr(guard, "on_host", lambda tensor: False)
        patch.setattr(players, "on_host", lambda tensor: False)
        patch.setattr(history, "on_host", lambda tensor: False)
        yield


def test_a_device_that_is_not_waited_for_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for waited in (True, False):
        vae, goal = model("batch"), objective()
        player = sole_player(nn.ModuleList([vae, goal]), lambda p: torch.optim.Adam(p, lr=0.01, fused=True))
        torch.manual_seed(1)
        record = Record(lambda vae=vae, goal=goal, player=player: state(vae, goal, player.optimizer))
        arguments: dict[str, Any] = {"steps": 6, "steps_per_epoch": 6, "callbacks": [record]}
        if waited:
            rows = fit(vae, goal, [player], spoilt_data(math.nan, (2,)), **arguments).rows
        else:
            with on_a_device_that_is_not_waited_for(monkeypatch):
                rows = fit(vae, goal, [player], spoilt_data(math.nan, (2,)), **arguments).rows
        results.append((rows, record))
    (rows, record), (other_rows, other) = results
    assert rows == other_rows
    for one, two in zip(record.states[-1], other.states[-1], strict=True):
        assert torch.equal(one, two)
    assert record.progress.guard.skipped == other.progress.guard.skipped == 1


def test_a_latent_that_is_unused_or_overstretched_is_said_once_with_the_right_direction() -> None:
    def lines(*kls: float, settled: int = 0) -> list[str]:
        said: list[str] = []
        watch = Watch(said.append, model(), settled)
        for number, kl in enumerate(kls, 1):
            watch.epoch(Progress(number * 10, len(kls) * 10, 10, History()), {"val/kl_loss": kl})
        return said

    assert lines(3.0, 3.0, 3.0, 3.0) == []
    (line,) = lines(3.0, 0.1, 0.1, 0.1)
    assert "after epoch 2" in line
    assert "weigh the KL less" in line
    (line,) = lines(3.0, 40.0, 50.0, 50.0)
    assert "40 nats after epoch 2, 20.0 for each of 2 latent dimensions" in line
    assert "raise beta" in line
    assert lines(0.1, 3.0, 3.0, 3.0, 3.0, 3.0) == []  # only a beginning
    assert lines(0.1, 0.1, 0.1, 3.0, settled=30) == []  # warmed up until then
