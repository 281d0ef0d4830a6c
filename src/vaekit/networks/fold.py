"""Fold the leading dimensions of a tensor into one, for layers that take a single batch dimension."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def folded(function: Callable[[Tensor], Tensor], x: Tensor, event_dims: int) -> Tensor:
    """Apply `function`, which knows one batch dimension, to `x` with any number of them.

    Arguments:
        function: From (N, *) to (N, *).
        x: Shape (*lead, *event), where the event has `event_dims` dimensions.
        event_dims: How many dimensions belong to one example.

    Returns:
        Shape (*lead, *): the importance samples were part of the batch.
    """
    lead = x.shape[: x.dim() - event_dims]
    out = function(x.reshape(-1, *x.shape[len(lead) :]))
    return out.view(*lead, *out.shape[1:])
