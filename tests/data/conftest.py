"""What the tests of data share: the real files, if they are here, and a guard on torch's global generator."""

import os

import pytest
import torch

from vaekit.data.entries import ENTRIES
from vaekit.data.locate import roots, search


@pytest.fixture
def need():
    """Skip a test whose data set is not on this machine."""

    def check(name):
        entry = ENTRIES[name]
        if search([file.name for file in entry.files], entry.folders, roots(None, name)).missing:
            pytest.skip(
                f"needs the data set {name}: put it where VAEKIT_DATA points to, now {os.environ.get('VAEKIT_DATA')}"
            )

    return check


@pytest.fixture
def untouched():
    """Fail a test that draws from torch's global generator."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state())
