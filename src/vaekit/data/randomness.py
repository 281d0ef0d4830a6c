"""Generators of our own, so that loading data never touches torch's global one."""

from __future__ import annotations

import hashlib

import torch


def generator(purpose: str, seed: int) -> torch.Generator:
    """A CPU generator whose stream depends on `purpose` and `seed` only.

    Hashed, so that purposes are independent of each other under one seed, and neighbouring seeds of each other.

    Arguments:
        purpose: What the numbers are for, for example "static binarisation of test".
        seed: Any integer.
    """
    digest = hashlib.sha256(f"{purpose}\0{int(seed)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
