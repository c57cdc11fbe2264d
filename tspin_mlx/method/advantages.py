"""The two advantages of T-SPIN (arXiv 2601.08198).

A log-probability here is the sum of log pi(token) over the tokens of one response, in nats.
"""

from __future__ import annotations

import mlx.core as mx


def current_advantage(annotated_logps: mx.array, synthetic_logps: mx.array) -> mx.array:
    """How much more likely the policy finds the expert's answer than its own current one.

    ``u = log pi(y | x) - log pi(y' | x)``

    Args:
        annotated_logps: (batch,) float32, of the expert's answers y.
        synthetic_logps: (batch,) float32, of the responses y' sampled at the start of this iteration.

    Returns:
        (batch,) float32, in nats, any sign.
    """
    return annotated_logps - synthetic_logps


def historical_advantage(synthetic_logps: mx.array, proto_synthetic_logps: mx.array) -> mx.array:
    """How much more likely the policy finds its current response than the one of the very start.

    ``v = log pi(y' | x) - log pi(y0 | x)``

    Args:
        synthetic_logps: (batch,) float32, of the responses y' sampled at the start of this iteration.
        proto_synthetic_logps: (batch,) float32, of the responses y0 sampled from the initial policy.

    Returns:
        (batch,) float32, in nats, any sign.
    """
    return synthetic_logps - proto_synthetic_logps
