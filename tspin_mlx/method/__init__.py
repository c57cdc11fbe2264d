"""The method as pure functions of log-probabilities: losses, advantages, and what is logged of them."""

from .advantages import current_advantage, historical_advantage
from .losses import nll_loss, tspin_loss
from .objective import Counts, Objective, objective_loss

__all__ = [
    "Counts",
    "Objective",
    "current_advantage",
    "historical_advantage",
    "nll_loss",
    "objective_loss",
    "tspin_loss",
]
