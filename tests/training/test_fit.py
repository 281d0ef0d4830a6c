"""The loop: who moves when, and what the history says of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaekit.data.batch import Batch
from vaekit.errors import TrainingError
from vaekit.likelihoods import Normal as NormalLikelihood
from vaekit.models import VAE, flat
from vaekit.networks import MLP
from vaekit.objectives import KL, Objective, Reconstruction
from vaekit.objectives.base import Loss, Role
from vaekit.priors import StandardNormal
from vaekit.schedules import Linear
from vaekit.training import Callback, History, Player, fit, sole_player

X = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))


def model() -> VAE:
    from vaekit.conditionals import Normal

    torch.manual_seed(0)
    net: Callable[..., Any] = lambda in_shape, out_shape: MLP(in_shape, out_shape, hidden_dims=[4])  # noqa: E731
    return flat(net, net, Normal((2,)), StandardNormal((2,)), NormalLikelihood((3,)))


def objective(beta: Any = 1.0) -> Objective:
    return Objective({"recon": Reconstruction(), "kl": KL()}, {"kl": beta})


def stream(step: int) -> Batch:
    # epochs of two steps, with 7 and 3 examples
    index = torch.arange(7) if step % 2 == 0 else torch.arange(7, 10)
    return Batch(X[index], None, index)


def recon_only(trace: Any, loss: Loss) -> Tensor:
    return 10 * loss.parts["recon"]


def two_players(vae: VAE, **settings: Any) -> list[Player]:
    encoder, decoder = list(vae.encoder.parameters()), list(vae.decoder.parameters())
    return [
        Player("encoder", encoder, torch.optim.SGD(encoder, 0.1)),
        Player("decoder", decoder, torch.optim.SGD(decoder, 0.1), recon_only, **settings),
    ]


def test_each_player_follows_the_gradient_of_its_own_loss_alone() -> None:
    vae, twin, goal = model(), model(), objective()
    torch.manual_seed(3)
    loss = goal(twin(X[:7]))
    wanted_encoder = torch.autograd.grad(loss.total, list(twin.encoder.parameters()), retain_graph=True)
    wanted_decoder = torch.autograd.grad(10 * loss.parts["recon"], list(twin.decoder.parameters()))
    players = two_players(vae)
    torch.manual_seed(3)
    fit(vae, goal, players, stream, steps=1, steps_per_epoch=2)
    # the decoder's loss is ten times as steep: had it reached the encoder, or the other way round, it would show
    for got, before, gradient in zip(vae.encoder.parameters(), twin.encoder.parameters(), wanted_encoder, strict=True):
        torch.testing.assert_close(got, before - 0.1 * gradient)
    for got, before, gradient in zip(vae.decoder.parameters(), twin.decoder.parameters(), wanted_decoder, strict=True):
        torch.testing.assert_close(got, before - 0.1 * gradient)


def test_the_order_of_the_players_does_not_matter() -> None:
    results = []
    for order in (1, -1):
        vae = model()
        torch.manual_seed(3)
        fit(vae, objective(), two_players(vae)[::order], stream, steps=4, steps_per_epoch=2)
        results.append(vae.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_an_inactive_player_does_not_move() -> None:
    vae = model()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    players = two_players(vae, active=lambda step: step == 1)
    fit(vae, objective(), players, stream, steps=1, steps_per_epoch=2)
    for name, value in vae.state_dict().items():
        if not name.startswith("likelihood"):
            assert torch.equal(value, before[name]) == name.startswith("decoder"), name
    fit(vae, objective(), players, stream, steps=2, steps_per_epoch=2, start=1)
    assert not torch.equal(vae.state_dict()["decoder.layers.0.weight"], before["decoder.layers.0.weight"])


def test_a_parameter_that_no_loss_reaches_is_left_alone() -> None:
    vae = model()
    spare = nn.Linear(2, 2)
    before = spare.weight.clone()
    player = sole_player(nn.ModuleList([vae, spare]), lambda p: torch.optim.Adam(p, 0.1), gradient_clip=1.0)
    fit(vae, objective(), [player], stream, steps=2, steps_per_epoch=2)
    assert torch.equal(spare.weight, before)


def test_the_gradient_is_shortened_to_its_largest_norm() -> None:
    for clip, far in ((1e-3, False), (1e6, True), (None, True)):
        vae = model()
        before = torch.cat([p.detach().flatten().clone() for p in vae.parameters()])
        player = sole_player(vae, lambda p: torch.optim.SGD(p, 1.0), gradient_clip=clip)
        fit(vae, objective(), [player], stream, steps=1, steps_per_epoch=2)
        moved = float((torch.cat([p.detach().flatten() for p in vae.parameters()]) - before).norm())
        assert moved > 0.1 if far else moved == pytest.approx(1e-3, rel=1e-3)


def test_an_epochs_mean_is_over_examples_and_not_over_batches() -> None:
    vae = model()
    goal = objective()

    class Watch(Callback):
        losses: list[tuple[float, int]] = []  # noqa: RUF012

        def step(self, progress: Any) -> None:
            self.losses.append((float(progress.loss.total), 7 if progress.step % 2 else 3))

    player = sole_player(vae, lambda p: torch.optim.SGD(p, 0.01))
    history = fit(vae, goal, [player], stream, steps=2, steps_per_epoch=2, callbacks=[Watch()])
    (row,) = history.rows
    mean = sum(loss * n for loss, n in Watch.losses) / 10
    assert row["train/loss"] == pytest.approx(mean, rel=1e-6)
    assert row["train/loss"] != pytest.approx(sum(loss for loss, _ in Watch.losses) / 2, rel=1e-6)
    assert row["examples"] == 10
    assert row["train/elbo"] == pytest.approx(-(row["train/recon_loss"] + row["train/kl_loss"]))


def test_the_clock_moves_before_each_step_and_stays_where_the_last_one_left_it() -> None:
    vae, goal = model(), objective(Linear(0.0, 1.0, 4))
    seen: list[float] = []

    class Watch(Callback):
        def step(self, progress: Any) -> None:
            seen.append(float(progress.loss.coefficients["kl"]))

    player = sole_player(vae, lambda p: torch.optim.SGD(p, 0.01))
    fit(vae, goal, [player], stream, steps=6, steps_per_epoch=2, callbacks=[Watch()])
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    resumed = objective(Linear(0.0, 1.0, 4))
    fit(vae, resumed, [player], stream, steps=6, steps_per_epoch=2, start=6)  # nothing is left to do
    assert float(resumed.weights["kl"]()) == 1.0


def test_callbacks_are_told_of_the_end_whatever_happens() -> None:
    told: list[str] = []

    class Watch(Callback):
        def start(self, progress: Any) -> None:
            told.append("start")

        def epoch(self, progress: Any, row: Any) -> None:
            told.append(f"epoch {progress.epoch}")

        def step(self, progress: Any) -> None:
            told.append(f"step {progress.step}")
            if progress.step == 3:
                raise RuntimeError("stop")

        def end(self, progress: Any) -> None:
            told.append("end")

    vae = model()
    player = sole_player(vae, lambda p: torch.optim.SGD(p, 0.01))
    with pytest.raises(RuntimeError, match="stop"):
        fit(vae, objective(), [player], stream, steps=6, steps_per_epoch=2, callbacks=[Watch()])
    assert told == ["start", "step 1", "epoch 1", "step 2", "step 3", "end"]


def a_loss(number: float) -> Loss:
    recon, kl = torch.tensor(number, dtype=torch.float32), torch.tensor(0.1 + number, dtype=torch.float32)
    ones = {"recon": torch.tensor(1.0), "kl": torch.tensor(1.0)}
    return Loss(recon + kl, {"recon": recon, "kl": kl}, ones, {"recon": Role.DISTORTION, "kl": Role.RATE})


def observe(history: History, loss: Loss, examples: int) -> None:
    history.observe(history.values(loss), examples)


@pytest.mark.parametrize("stop", range(1, 6))
def test_a_history_put_down_and_taken_up_goes_on_as_if_it_had_not_been(stop: int) -> None:
    whole, first = History(constant=0.3), History(constant=0.3)
    for number in range(6):
        observe(whole, a_loss(1 / (3 + number)), 7 + number)
        if number < stop:
            observe(first, a_loss(1 / (3 + number)), 7 + number)
    second = History(constant=0.3)
    second.load(json.loads(json.dumps(first.state())), [], torch.device("cpu"))
    for number in range(stop, 6):
        observe(second, a_loss(1 / (3 + number)), 7 + number)
    assert second.close(1, 6) == whole.close(1, 6)
    assert second.state() == whole.state()


def test_a_history_adds_terms_by_their_names_and_not_by_their_order() -> None:
    history = History()
    observe(history, a_loss(1.0), 2)
    other = History()
    other.load(history.state(), [], torch.device("cpu"))
    swapped = a_loss(1.0)
    observe(other, Loss(swapped.total, dict(reversed(swapped.parts.items())), swapped.coefficients, swapped.roles), 2)
    assert other.means() == pytest.approx({"loss": 2.1, "recon": 1.0, "kl": 1.1})


def test_a_history_that_is_not_finite_is_not_put_down() -> None:
    history = History()
    observe(history, Loss(torch.tensor(math.inf), {"a": torch.tensor(math.inf)}, {"a": torch.ones(())}), 3)
    with pytest.raises(TrainingError, match="no longer finite"):
        history.state()


def test_the_constant_is_left_out_of_the_loss_and_kept_in_the_elbo() -> None:
    rows = []
    for constant in (0.0, 5.0):
        history = History(constant=constant)
        observe(history, a_loss(10.0), 4)
        rows.append(history.close(1, 1))
    kept, left_out = rows
    assert kept["train/loss"] - left_out["train/loss"] == pytest.approx(5.0)
    assert kept["train/recon_loss"] == left_out["train/recon_loss"]
    assert kept["train/kl_loss"] == left_out["train/kl_loss"]
    assert kept["train/elbo"] == left_out["train/elbo"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_name_their_term(value: float) -> None:
    history = History()
    observe(history, a_loss(1.0), 2)
    bad = a_loss(1.0)
    observe(history, Loss(bad.total + value, {**bad.parts, "kl": torch.tensor(value)}, bad.coefficients), 2)
    with pytest.raises(TrainingError, match="'kl'"):
        history.close(1, 2)
    assert history.rows == []
