"""Standard errors by leaving out: for numbers of a whole set that are no mean over its examples."""

# n examples, G groups

from __future__ import annotations

import math

import torch
from torch import Tensor


def left_out(n: int, groups: int, seed: int) -> list[Tensor]:
    """What is kept of `n` examples when one of G random groups, equal in size to one example, is left out.

    Arguments:
        n: Examples, at least G.
        groups: G, at least 2.
        seed: Of the division into groups.

    Returns:
        G tensors of positions, increasing, int64.

    Raises:
        ValueError: If there are fewer examples than groups.
    """
    if not 2 <= groups <= n:
        raise ValueError(f"{n} examples cannot be divided into {groups} groups; expected 2 groups or more, none empty.")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    group = torch.empty(n, dtype=torch.int64)
    group[order] = torch.arange(n) % groups
    return [(group != left).nonzero().squeeze(1) for left in range(groups)]


def jackknife_error(values: Tensor) -> float:
    r"""Standard error of a number from its values without one group each.

    .. math:: \sqrt{\frac{G - 1}{G} \sum_g (v_g - \bar v)^2}

    For the mean of n = G m examples it is the standard error that the G group means give.

    Arguments:
        values: The number with group g left out, shape (G,), G at least 2.

    Returns:
        In the unit of the values.

    References:
        | The Jackknife and Bootstrap (Shao and Tu, 1995), the grouped jackknife
        | https://doi.org/10.1007/978-1-4612-0795-5
    """
    groups = len(values)
    values = values.double()
    return math.sqrt((groups - 1) / groups * float((values - values.mean()).square().sum()))
