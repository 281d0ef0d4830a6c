"""Codebooks, temperatures, pseudo-inputs and fitted priors survive a stop bit for bit."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

# a decay this fast kills codes within the training, so that some are revived on either side of the stop
CODES = ("network=mlp", "latent_dim=4", "posterior.codebook.codes=64", "posterior.codebook.decay=0.5", "beta=1.0")
VARIANTS = {
    "running means": ("model=vqvae", *CODES),
    "gradient": ("model=vqvae_gradient", *CODES),
    "temperature": ("model=categorical",),
    "mixture": ("model=mixture_prior", "prior.components=3"),
    "vamp": ("model=vampprior", "prior.components=7"),
    "fitted afterwards": ("model=ae", "data.binarisation=none", "beta=1.0"),
}


@pytest.mark.parametrize("overrides", VARIANTS.values(), ids=VARIANTS.keys())
def test_stopped_and_resumed(
    overrides: tuple[str, ...], train: Any, resume: Any, results: Any, after_step: Any
) -> None:
    whole = train("whole", *overrides)
    path = train("stopped", *overrides, callback=after_step(6, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert not (path / "model.safetensors").exists()
    assert resume(path)
    assert results(path) == results(whole)
