"""Which policy of a run is the best one, by a held-out measure. Pure."""

from __future__ import annotations


def better_is_lower(metric: str) -> bool:
    """Whether a smaller value of a held-out measure is better; true for the likelihood loss only."""
    return metric == "nll"


def choose(values: dict[str, float], *, lower: bool) -> str:
    """The best policy; among equals the earliest, which has moved least from the model it started as.

    Args:
        values: measure by policy, in the order in which the policies came to be; not empty.
        lower: whether a smaller value is better.
    """
    return min(values, key=lambda name: values[name] if lower else -values[name])
