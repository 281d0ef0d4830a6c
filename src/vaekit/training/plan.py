"""How a training goes: how long, in what steps, and how safely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Settings of a training.

    Arguments:
        epochs: Passes over the training data.
        batch_size: Examples in a step.
        samples: Posterior draws of each example in a step, K.
        gradient_clip: Largest norm of the gradient; longer ones are shortened to it. None leaves them alone.
        include_const: Whether the logged training loss keeps the likelihood's constant. The ELBO always has it.
        checkpoint_seconds: Longest time between two checkpoints, and so the most work that a kill can cost.
        keep_checkpoints: How many of the newest checkpoints stay, at least 2.
    """

    epochs: int = 30
    batch_size: int = 128
    samples: int = 1
    gradient_clip: float | None = None
    include_const: bool = False
    checkpoint_seconds: float = 30.0
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for name, low in {
            "epochs": 1,
            "batch_size": 1,
            "samples": 1,
            "keep_checkpoints": 2,
            "checkpoint_seconds": 0,
        }.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {low} or more.")
        if self.gradient_clip is not None and self.gradient_clip <= 0:
            raise ValueError(
                f"gradient_clip is {self.gradient_clip}, expected a norm above 0, or null for no clipping."
            )
