"""How the context holds several parameters for each value of an event."""

# *lead batch, n parameters, (d, *rest) event

from __future__ import annotations

import torch
from torch import Tensor


def several(event_shape: torch.Size, count: int) -> torch.Size:
    """The event shape with its first dimension `count` times as long: (n d, *rest). Images keep their sides."""
    return torch.Size([count * event_shape[0], *event_shape[1:]])


def parameters(context: Tensor, event_shape: torch.Size, count: int) -> Tensor:
    """The parameters of each value beside each other: (*lead, n d, *rest) to (*lead, d, *rest, n)."""
    lead = context.shape[: context.dim() - len(event_shape)]
    return context.reshape(*lead, count, *event_shape).movedim(len(lead), -1)
