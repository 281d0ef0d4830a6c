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
        skip_limit: Steps in a row whose loss or gradient may be infinite or NaN. Such a step moves nothing and is counted; after so
            many the training stops.
        include_const: Whether the logged training loss keeps the likelihood's constant. The ELBO always has it.
        checkpoint_seconds: Longest time between two checkpoints, and so the most work that a kill can cost. Where writing one
            takes a second or more, the next follows after 19 times as long at the earliest, so that a twentieth of the time at most
            goes into them.
        keep_checkpoints: How many of the newest checkpoints stay, at least 2.
        compile: Whether steps are compiled (`torch.compile`) where they can be. It takes up to a minute and a C++ compiler, and on
            a CPU saves a twentieth of a step at most, as steps are recorded anyway. It rounds differently: a run resumed where the
            same steps can be compiled again has the same bits; where one cannot, a line says so.
    """

    epochs: int = 30
    batch_size: int = 128
    samples: int = 1
    gradient_clip: float | None = None
    skip_limit: int = 10
    include_const: bool = False
    checkpoint_seconds: float = 30.0
    keep_checkpoints: int = 2
    compile: bool = False

    def __post_init__(self) -> None:
        for name, low in {
            "epochs": 1,
            "batch_size": 1,
            "samples": 1,
            "keep_checkpoints": 2,
            "skip_limit": 1,
            "checkpoint_seconds": 0,
        }.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {low} or more.")
        if self.gradient_clip is not None and self.gradient_clip <= 0:
            raise ValueError(
                f"gradient_clip is {self.gradient_clip}, expected a norm above 0, or null for no clipping."
            )
