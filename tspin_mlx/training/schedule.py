"""Learning-rate schedules: linear warm-up, then constant, linear or cosine decay."""

from __future__ import annotations

import math

from ..recipe.phase import Schedule


def learning_rate_at(step: int, steps: int, peak: float, warmup_steps: int, schedule: Schedule) -> float:
    """Compute the learning rate of an optimiser step, at least 0.

    It rises linearly to ``peak`` at step ``warmup_steps + 1`` and then falls, so that the step after the last
    would have rate 0: no step is wasted on a rate of 0.

    Args:
        step: number of the step, from 1.
        steps: number of steps in the phase.
        peak: the highest rate.
        warmup_steps: steps in which the rate rises.
        schedule: how it falls after them.
    """
    if step <= warmup_steps:
        return peak * step / (warmup_steps + 1)
    progress = (step - warmup_steps - 1) / max(1, steps - warmup_steps)
    if schedule == "constant":
        return peak
    if schedule == "linear":
        return peak * (1 - progress)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
