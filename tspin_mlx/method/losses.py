"""The T-SPIN loss (arXiv 2601.08198) and its two advantages, as pure functions of log-probabilities.

A log-probability here is the sum of log pi(token) over the tokens of one response, in nats.
"""

from __future__ import annotations

import mlx.core as mx

from .objective import Objective


def current_advantage(annotated_logps: mx.array, synthetic_logps: mx.array) -> mx.array:
    """Compute how much more likely the policy finds the expert's answer than its own current one.

    ``u = log pi(y | x) - log pi(y' | x)``

    Args:
        annotated_logps: (batch,) float32, of the expert's answers y.
        synthetic_logps: (batch,) float32, of the responses y' sampled at the start of this iteration.

    Returns:
        (batch,) float32, in nats, any sign.
    """
    return annotated_logps - synthetic_logps


def historical_advantage(synthetic_logps: mx.array, proto_synthetic_logps: mx.array) -> mx.array:
    """Compute how much more likely the policy finds its current response than its first one.

    ``v = log pi(y' | x) - log pi(y0 | x)``

    Args:
        synthetic_logps: (batch,) float32, of the responses y' sampled at the start of this iteration.
        proto_synthetic_logps: (batch,) float32, of the responses y0 sampled from the initial policy.

    Returns:
        (batch,) float32, in nats, any sign.
    """
    return synthetic_logps - proto_synthetic_logps


def tspin_loss(
    annotated_logps: mx.array,
    synthetic_logps: mx.array,
    proto_synthetic_logps: mx.array | None,
    *,
    alpha: float,
    beta: float,
) -> mx.array:
    """Compute the triplet self-play loss, one value per triplet (the training objective of arXiv 2601.08198).

    ``l(alpha * u) + beta * l(alpha * v)`` with ``l(z) = -log sigmoid(z)``, u the current and v the historical
    advantage. With beta 0, as in the first iteration, only the first term remains.

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
    """Compute the negative log-likelihood of the expert's answers, (batch,) float32, in nats, at least 0."""
    return -annotated_logps


def batch_loss(
    logps: mx.array,
    entropies: mx.array,
    counts: mx.array,
    objective: Objective,
    *,
    reference: mx.array,
) -> mx.array:
    """Compute a micro-batch's share of the batch loss; the shares of all micro-batches add up to it.

    ``mean(tspin_loss) + nll_weight * NLL(y) / tokens of y - entropy_weight * sum of entropies / tokens``

    Args:
        logps: (k, m) float32, of k responses (y; y, y'; or y, y', y0) to each of m prompts.
        entropies: (k, m) float32, the policy's entropy summed over the tokens of each response, in nats.
        counts: (3,) float32, of the whole batch: triplets, tokens of y, tokens of all responses.
        reference: (k, m) float32, log-probabilities at the start of the iteration; used if the objective has a
            reference. With it and beta 0 the contrast is SPIN's loss (arXiv 2401.01335), with alpha as its lambda.

    Returns:
        Scalar float32.
    """
    triplets, annotated_tokens, scored_tokens = counts[0], counts[1], counts[2]
    loss = mx.array(0.0)
    if logps.shape[0] > 1:
        contrast = logps - reference if objective.reference else logps
        initial = contrast[2] if logps.shape[0] > 2 else None
        per_triplet = tspin_loss(contrast[0], contrast[1], initial, alpha=objective.alpha, beta=objective.beta)
        loss = loss + per_triplet.sum() / triplets
    if objective.nll_weight:
        loss = loss + objective.nll_weight * nll_loss(logps[0]).sum() / annotated_tokens
    if objective.entropy_weight:
        loss = loss - objective.entropy_weight * entropies.sum() / scored_tokens
    return loss


def _logistic(z: mx.array) -> mx.array:
    """Compute ``-log sigmoid(z)`` without overflow for any z."""
    return mx.logaddexp(mx.zeros_like(z), -z)
