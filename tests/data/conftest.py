"""What the tests of data share: the real files, if they are here, and a guard on torch's global generator."""

import os

import pytest
import torch

from vaekit.data.catalog import find_files
from vaekit.data.entries import ENTRIES


@pytest.fixture
def need():
    """Skip a test whose data set is not on this machine."""

    def check(name):
        if find_files(ENTRIES[name], None)[1].missing:
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
