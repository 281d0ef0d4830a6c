"""A step of torch's fused Adam without what `Optimizer.step` does around it, which takes as long again where models are small."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

# a tensor: a number would become one for each of the steps
_ONE = torch.ones(())
_ODD = ("amsgrad", "maximize", "capturable", "differentiable")


def ordinary(optimizer: Optimizer) -> bool:
    """Whether it is torch's own fused Adam or AdamW, with one group of parameters and nothing out of the ordinary."""
    if type(optimizer) not in (Adam, AdamW) or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    numbers = not any(isinstance(number, Tensor) for number in (group["lr"], *group["betas"]))
    return bool(group["fused"]) and numbers and not any(group[name] for name in _ODD)


def decoupled(optimizer: Optimizer) -> bool:
    """Whether weight decay is apart from the gradient, as in AdamW."""
    # Adam can do as AdamW does since torch 2.7; before, neither has such a setting
    return isinstance(optimizer, AdamW) or bool(optimizer.param_groups[0].get("decoupled_weight_decay", False))


def kernel(optimizer: Optimizer) -> Callable[..., None]:
    """What moves the parameters of an `ordinary` optimizer."""
    return torch._fused_adamw_ if decoupled(optimizer) else torch._fused_adam_


def apply(
    kernel: Callable[..., None],
    settings: Mapping[str, Any],
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    averages: Sequence[Tensor],
    squares: Sequence[Tensor],
    steps: Sequence[Tensor],
) -> None:
    """One step in place, of parameters with the same settings; `steps` have been counted up already.

    References:
        | Adam: A Method for Stochastic Optimization (Kingma and Ba, 2015), algorithm 1
        | https://arxiv.org/abs/1412.6980
    """
    beta1, beta2 = settings["betas"]
    kernel(
        parameters, gradients, averages, squares, [], steps, lr=settings["lr"], beta1=beta1, beta2=beta2,
        eps=settings["eps"], weight_decay=settings["weight_decay"], amsgrad=False, maximize=False,
    )  # fmt: skip


def step(optimizer: Optimizer) -> None:
    """`optimizer.step()`, the same bits: at once where it is `ordinary`, on the host, and has made a step before."""
    operands = _operands(optimizer) if ordinary(optimizer) and not _watched(optimizer) else None
    if operands is None:
        optimizer.step()
        return
    parameters, gradients, averages, squares, steps = operands
    with torch.no_grad():
        torch._foreach_add_(steps, _ONE)
        apply(kernel(optimizer), optimizer.param_groups[0], parameters, gradients, averages, squares, steps)


def _operands(optimizer: Optimizer) -> tuple[list[Tensor], ...] | None:
    """Parameters, gradients, averages, averages of squares and steps; none where torch would have to look closer."""
    moved = [p for p in optimizer.param_groups[0]["params"] if p.grad is not None]
    states = [optimizer.state.get(parameter, {}) for parameter in moved]
    alike = {(parameter.device.type, parameter.dtype, parameter.grad.layout) for parameter in moved}
    if not all(states) or len(alike) != 1 or next(iter(alike))[0] != "cpu":
        return None
    averages, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
    return moved, [parameter.grad for parameter in moved], averages, squares, steps


def _watched(optimizer: Optimizer) -> bool:
    """Whether somebody wants to be called at its steps, does other ones in their place, or has given it a verdict to look at."""
    hooks = _global_optimizer_pre_hooks or _global_optimizer_post_hooks
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    return bool(hooks or own) or "step" in vars(optimizer) or getattr(optimizer, "found_inf", None) is not None
