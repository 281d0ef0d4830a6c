"""Training: one loop, players, callbacks, checkpoints and the run folder."""

from vaekit.training.history import History
from vaekit.training.loop import Callback, fit
from vaekit.training.plan import Plan
from vaekit.training.players import Player, sole_player
from vaekit.training.rate import Plateau
from vaekit.training.tracking import MLflow, TensorBoard, Tracker, Untracked, WandB

__all__ = [
    "Callback",
    "History",
    "MLflow",
    "Plan",
    "Plateau",
    "Player",
    "TensorBoard",
    "Tracker",
    "Untracked",
    "WandB",
    "fit",
    "sole_player",
]
