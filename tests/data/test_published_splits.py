"""Data sets with the splits of papers: the sizes are theirs, and no example is in two parts."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vaekit import data


def test_mnist_as_in_the_paper_on_iwae(need: Callable[..., None]) -> None:
    need("mnist")
    ours, theirs = data.named("mnist"), data.named("mnist_iwae")
    assert [len(split) for split in theirs.splits] == [59_600, 400, 10_000]
    assert torch.equal(theirs.validation.stored, ours.validation.stored[-400:])
    assert torch.equal(theirs.train.stored[:59_000], ours.train.stored)
    assert "validation the last 400 training images" in theirs.description


def test_frey_faces_as_in_the_paper_on_the_vampprior(need: Callable[..., None]) -> None:
    need("freyfaces")
    ours, theirs = data.named("freyfaces"), data.named("freyfaces_vampprior")
    assert [len(split) for split in theirs.splits] == [1565, 200, 200]
    whole, mixed = (torch.cat([split.stored for split in each.splits]).flatten(1) for each in (ours, theirs))
    order = [int((whole == frame).all(1).nonzero()[0]) for frame in mixed[::50]]
    assert order != sorted(order)
    assert torch.equal(whole.sum(1, dtype=torch.int64).sort().values, mixed.sum(1, dtype=torch.int64).sort().values)
    assert torch.equal(data.named("freyfaces_vampprior", seed=3).test.stored, theirs.test.stored)
