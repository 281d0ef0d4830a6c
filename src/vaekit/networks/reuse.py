"""Memory for a large gradient that is used again in the next step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# values from which an allocator on a CPU may hand a block back to the system and ask for another, in 4 byte floats 32 MiB
LARGE = 1 << 23


class Reused:
    """Gives a tensor without values, in the memory of the one before it as soon as nobody holds that any longer.

    The gradient of a weight of 32,738 x 2,048 is 256 MiB. A step that asks the system for it anew pays for touching each of its
    pages first, which takes as long as half of the product itself, and one that takes it from a heap leaves holes there, into
    which smaller tensors go, so that the heap grows to half as much again. Whether somebody holds it is asked of the reference
    count of torch's storage, which views, and arrays of NumPy, count in; where torch does not tell it, the memory is always new.

    A copy of this, as in a copy of a model, has memory of its own.
    """

    def __init__(self) -> None:
        self._storage: torch.UntypedStorage | None = None

    def __call__(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of that shape, of the type and on the device of `like`, for a use that fills it."""
        kept = self._storage
        if kept is not None and _free(kept) and kept.nbytes() == like.element_size() * torch.Size(shape).numel():
            again: Tensor = like.new_empty(0).set_(
                kept, 0, torch.Size(shape), torch.empty(shape, device="meta").stride()
            )
            return again
        fresh = like.new_empty(shape)
        self._storage = fresh.untyped_storage() if _COUNT is not None and like.device.type == "cpu" else None
        return fresh

    def __reduce__(self) -> tuple[Any, ...]:
        """As one that has given nothing yet."""
        return Reused, ()


_COUNT: Any = getattr(torch._C, "_storage_Use_Count", None)  # private, and so may go


def _free(storage: torch.UntypedStorage) -> bool:
    return bool(_COUNT(storage._cdata) == 1)
