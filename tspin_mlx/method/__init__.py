"""The method as pure functions of log-probabilities: losses and advantages."""

from .advantages import current_advantage, historical_advantage
from .batch_loss import batch_loss
from .losses import nll_loss, tspin_loss

__all__ = ["batch_loss", "current_advantage", "historical_advantage", "nll_loss", "tspin_loss"]
