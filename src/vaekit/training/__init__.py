"""Training: one loop, players, callbacks, checkpoints and the run folder."""

from vaekit.training.history import History
from vaekit.training.loop import Callback, fit
from vaekit.training.plan import Plan
from vaekit.training.players import Player, sole_player

__all__ = ["Callback", "History", "Plan", "Player", "fit", "sole_player"]
