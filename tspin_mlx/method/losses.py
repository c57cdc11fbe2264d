"""Losses per example; the caller averages."""

from __future__ import annotations

import mlx.core as mx

from .advantages import current_advantage, historical_advantage


def tspin_loss(
    annotated_logps: mx.array,
    synthetic_logps: mx.array,
    proto_synthetic_logps: mx.array | None,
    *,
    alpha: float,
    beta: float,
) -> mx.array:
    """The triplet self-play loss, one value per triplet (the training objective of arXiv 2601.08198).

    ``l(alpha * u) + beta * l(alpha * v)`` with ``l(z) = -log sigmoid(z)``, u the current and v the historical
    advantage. With beta 0, as in the first iteration, only the first term is left.

    Args:
        annotated_logps: (batch,) float32, log-probabilities of the expert's answers, at most 0.
        synthetic_logps: (batch,) float32, of the policy's own responses of this iteration.
        proto_synthetic_logps: (batch,) float32, of the initial policy's responses; may be None if beta is 0.
        alpha: weight of the entropy constraint, above 0.
        beta: weight of the historical term, at least 0.

    Returns:
        (batch,) float32, above 0. For -60, -50, -55 with alpha 1 and beta 0.1: 10.000717.

    Raises:
        ValueError: beta is not 0 and there are no proto-synthetic log-probabilities.
    """
    loss = _logistic(alpha * current_advantage(annotated_logps, synthetic_logps))
    if beta == 0:
        return loss
    if proto_synthetic_logps is None:
        raise ValueError("the historical term (beta > 0) needs proto_synthetic_logps")
    return loss + beta * _logistic(alpha * historical_advantage(synthetic_logps, proto_synthetic_logps))


def nll_loss(annotated_logps: mx.array) -> mx.array:
    """Negative log-likelihood of the expert's answers, (batch,) float32, in nats, at least 0: supervised training."""
    return -annotated_logps


def _logistic(z: mx.array) -> mx.array:
    """``-log sigmoid(z)`` without overflow for any z."""
    return mx.logaddexp(mx.zeros_like(z), -z)
