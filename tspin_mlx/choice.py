"""Which policy of a run is the best one, by a held-out measure. Pure."""

from __future__ import annotations

import math


def better_is_lower(metric: str) -> bool:
    """Whether a smaller value of a held-out measure is better; true for the likelihood loss only."""
    return metric == "nll"


def choose(values: dict[str, float], *, lower: bool) -> str:
    """The best policy; among equals the earliest, which has moved least from the model it started as.

    Args:
        values: measure by policy, in the order in which the policies came to be; not empty. What is not a
            number is worse than any.
        lower: whether a smaller value is better.
    """

    def badness(name: str) -> float:
        value = values[name] if lower else -values[name]
        return math.inf if math.isnan(value) else value

    return min(values, key=badness)
