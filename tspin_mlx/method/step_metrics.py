"""Metrics of a training step (rewards, margins, advantages, entropy), under TRL's names where it has them."""

from __future__ import annotations

import numpy as np

_NAMES = ("chosen", "rejected", "initial")


def step_metrics(
    logps: np.ndarray, entropies: np.ndarray, lengths: np.ndarray, alpha: float, reference: np.ndarray
) -> dict[str, float]:
    """Average the metrics of one batch over its triplets.

    Args:
        logps: (k, n), log-probabilities of y, y' and y0, as many as there are, before the update, in nats.
        entropies: (k, n), summed over the tokens of each response, in nats.
        lengths: (k, n), tokens per response.
        alpha: rewards are alpha times log-probabilities.
        reference: (k, n), subtracted in rewards: log-probabilities at the start of the iteration, or zeros.

    Returns:
        ``logps/*``, ``length/*``, ``entropy``, ``nll``; with two responses ``rewards/*`` and ``advantage/current*``;
        with three ``advantage/historical*``. In nats, tokens, and shares in [0, 1].
    """
    names = _NAMES[: len(logps)]
    metrics = {f"logps/{name}": logps[i].mean() for i, name in enumerate(names)}
    metrics |= {f"length/{name}": lengths[i].mean() for i, name in enumerate(names)}
    metrics["entropy"] = entropies.sum() / lengths.sum()
    metrics["nll"] = -logps[0].sum() / lengths[0].sum()
    if len(logps) > 1:
        rewards = alpha * (logps - reference)
        margins = rewards[0] - rewards[1]
        metrics |= {
            "rewards/chosen": rewards[0].mean(),
            "rewards/rejected": rewards[1].mean(),
            "rewards/margins": margins.mean(),
            "rewards/accuracies": (margins > 0).mean(),
        }
        metrics |= _advantage("current", logps[0] - logps[1])
        metrics["advantage/current_per_token"] = (logps[0] / lengths[0] - logps[1] / lengths[1]).mean()
    if len(logps) > 2:
        metrics |= _advantage("historical", logps[1] - logps[2])
        metrics["advantage/historical_per_token"] = (logps[1] / lengths[1] - logps[2] / lengths[2]).mean()
    return {name: float(value) for name, value in metrics.items()}


def significant(value: float) -> float:
    """Round a metric to nine significant digits, all that a float32 has, to keep logs short."""
    return value if isinstance(value, int) else float(f"{value:.9g}")


def _advantage(name: str, values: np.ndarray) -> dict[str, float]:
    return {
        f"advantage/{name}": values.mean(),
        f"advantage/{name}_min": values.min(),
        f"advantage/{name}_max": values.max(),
    }
