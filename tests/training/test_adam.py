"""A step of Adam made directly against `Optimizer.step`: the same bits, and torch's own wherever there is more to do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from vaekit.training import adam

SHAPES = ((7, 5), (7,), (3, 7), ())


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]


def give_gradients(moved: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in moved:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def states(optimizer: Optimizer) -> list[Tensor]:
    return [value for state in optimizer.state.values() for value in state.values()]


def kernels(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with an entry for each step that was made directly."""
    made: list[int] = []
    apply = adam.apply

    def noted(*given: Any) -> None:
        made.append(1)
        apply(*given)

    monkeypatch.setattr(adam, "apply", noted)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda moved: Adam(moved, 0.01, fused=True),
        lambda moved: Adam(moved, 0.01, betas=(0.5, 0.9), eps=1e-4, weight_decay=0.1, fused=True),
        lambda moved: AdamW(moved, 0.01, weight_decay=0.1, fused=True),
    ],
)
def test_it_is_the_step_of_torch(
    make: Callable[[list[nn.Parameter]], Optimizer], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, one, other = kernels(monkeypatch), parameters(dtype), parameters(dtype)
    ours, theirs = make(one), make(other)
    for step in range(5):
        give_gradients(one, step)
        give_gradients(other, step)
        if step == 3:  # a parameter that no term reaches
            one[1].grad = other[1].grad = None
        ours.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = 0.01 / (1 + step)
        adam.step(ours)
        theirs.step()
    assert len(made) == 4  # in the first torch makes the averages
    assert all(map(torch.equal, one, other))
    assert len(states(ours)) == len(states(theirs)) == 3 * len(SHAPES)
    assert all(map(torch.equal, states(ours), states(theirs)))


def test_a_state_that_is_loaded_is_gone_on_with() -> None:
    one, other = parameters(), parameters()
    ours, theirs = Adam(one, 0.01, fused=True), Adam(other, 0.01, fused=True)
    for step in range(4):
        give_gradients(one, step)
        give_gradients(other, step)
        adam.step(ours)
        theirs.step()
        if step == 1:
            ours.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert all(map(torch.equal, one, other))
    assert float(ours.state[one[0]]["step"]) == 4.0


@pytest.mark.parametrize(
    "make",
    [
        lambda moved: SGD(moved, 0.01, fused=True),
        lambda moved: Adam(moved, 0.01),
        lambda moved: Adam(moved, 0.01, amsgrad=True, fused=True),
        lambda moved: Adam(moved, 0.01, maximize=True, fused=True),
        lambda moved: Adam(moved, torch.tensor(0.01), fused=True),
        lambda moved: Adam([{"params": moved[:1]}, {"params": moved[1:], "lr": 0.1}], 0.01, fused=True),
    ],
    ids=["another optimizer", "not fused", "amsgrad", "maximize", "a tensor as rate", "two groups"],
)
def test_others_are_left_to_torch(
    make: Callable[[list[nn.Parameter]], Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, one, other = kernels(monkeypatch), parameters(), parameters()
    ours, theirs = make(one), make(other)
    for step in range(3):
        give_gradients(one, step)
        give_gradients(other, step)
        adam.step(ours)
        theirs.step()
    assert not made
    assert all(map(torch.equal, one, other))


def test_who_watches_the_steps_is_called() -> None:
    moved = parameters()
    optimizer, seen = Adam(moved, 0.01, fused=True), []
    optimizer.register_step_post_hook(lambda *given: seen.append(1))
    for step in range(3):
        give_gradients(moved, step)
        adam.step(optimizer)
    assert len(seen) == 3


def test_a_verdict_of_a_device_is_looked_at() -> None:
    moved = parameters()
    optimizer = Adam(moved, 0.01, fused=True)
    for step in range(3):
        give_gradients(moved, step)
        adam.step(optimizer)
    before = [parameter.detach().clone() for parameter in moved]
    optimizer.found_inf, optimizer.grad_scale = torch.ones(()), None  # type: ignore[attr-defined]
    give_gradients(moved, 3)
    adam.step(optimizer)
    assert all(map(torch.equal, before, moved))
    assert float(optimizer.state[moved[0]]["step"]) == 3.0


def test_without_a_gradient_nothing_moves() -> None:
    moved = parameters()
    before = [parameter.detach().clone() for parameter in moved]
    adam.step(Adam(moved, 0.01, fused=True))
    assert all(map(torch.equal, before, moved))
