"""The objective of one optimiser step: the T-SPIN loss and the options around it."""

from __future__ import annotations

import mlx.core as mx

from ..objective import Objective
from .losses import nll_loss, tspin_loss


def batch_loss(
    logps: mx.array,
    entropies: mx.array,
    lengths: mx.array,
    counts: mx.array,
    objective: Objective,
    *,
    reference: mx.array,
) -> mx.array:
    """A micro-batch's share of the batch's loss; the shares of all micro-batches add up to it.

    ``mean(tspin_loss) + nll_weight * NLL(y) / tokens of y - entropy_weight * sum of entropies / tokens``

    Args:
        logps: (k, m) float32, of k responses (y; y, y'; or y, y', y0) to m prompts.
        entropies: (k, m) float32, sum over a response's tokens of the policy's entropy there, in nats.
        lengths: (k, m) float32, tokens per response.
        counts: (3,) float32, of the whole batch: triplets, tokens of y, tokens of all responses.
        reference: (k, m) float32, log-probabilities at the start of the iteration; read if the objective has a
            reference. With it and beta 0 the contrast is SPIN's loss (arXiv 2401.01335), with alpha for its lambda.

    Returns:
        Scalar float32.
    """
    triplets, annotated_tokens, scored_tokens = counts[0], counts[1], counts[2]
    loss = mx.array(0.0)
    if logps.shape[0] > 1:
        contrast = logps - reference if objective.reference else logps
        contrast = contrast / lengths if objective.length_normalize else contrast
        initial = contrast[2] if logps.shape[0] > 2 else None
        per_triplet = tspin_loss(contrast[0], contrast[1], initial, alpha=objective.alpha, beta=objective.beta)
        loss = loss + per_triplet.sum() / triplets
    if objective.nll_weight:
        loss = loss + objective.nll_weight * nll_loss(logps[0]).sum() / annotated_tokens
    if objective.entropy_weight:
        loss = loss - objective.entropy_weight * entropies.sum() / scored_tokens
    return loss
