"""The objective of one optimiser step: the T-SPIN loss and the options around it."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .losses import nll_loss, tspin_loss


@dataclass(frozen=True)
class Objective:
    """What is minimised; the recipe's section ``objective`` for one phase.

    Attributes:
        alpha: inside both logistic terms, above 0.
        beta: weight of the historical term, at least 0.
        nll_weight: weight of the expert's mean negative log-likelihood per token, at least 0.
        entropy_weight: weight of the mean token entropy, which is rewarded, at least 0.
        length_normalize: divide every log-probability in the contrast by its number of tokens.
    """

    alpha: float = 1.0
    beta: float = 0.0
    nll_weight: float = 0.0
    entropy_weight: float = 0.0
    length_normalize: bool = False


#: The warm-up's objective: with the expert's answers alone there is no contrast.
SUPERVISED = Objective(nll_weight=1.0)


@dataclass(frozen=True)
class Counts:
    """Sizes of a whole optimiser batch, by which each micro-batch is divided, so that accumulation is exact.

    Attributes:
        triplets: number of triplets.
        annotated_tokens: scored tokens of the expert's answers.
        scored_tokens: scored tokens of all responses.
    """

    triplets: int
    annotated_tokens: int
    scored_tokens: int


def objective_loss(
    logps: mx.array, entropies: mx.array, lengths: mx.array, counts: mx.array, objective: Objective
) -> mx.array:
    """A micro-batch's share of the batch's loss; the shares of all micro-batches add up to it.

    ``mean(tspin_loss) + nll_weight * NLL(y) / tokens of y - entropy_weight * sum of entropies / tokens``

    Args:
        logps: (k, m) float32, of k responses (y; y, y'; or y, y', y0) to m prompts.
        entropies: (k, m) float32, sum over a response's tokens of the policy's entropy there, in nats.
        lengths: (k, m) float32, tokens per response.
        counts: (3,) float32, the fields of :class:`Counts` of the whole batch, in their order.

    Returns:
        Scalar float32.
    """
    triplets, annotated_tokens, scored_tokens = counts[0], counts[1], counts[2]
    loss = mx.array(0.0)
    if logps.shape[0] > 1:
        contrast = logps / lengths if objective.length_normalize else logps
        initial = contrast[2] if logps.shape[0] > 2 else None
        per_triplet = tspin_loss(contrast[0], contrast[1], initial, alpha=objective.alpha, beta=objective.beta)
        loss = loss + per_triplet.sum() / triplets
    if objective.nll_weight:
        loss = loss + objective.nll_weight * nll_loss(logps[0]).sum() / annotated_tokens
    if objective.entropy_weight:
        loss = loss - objective.entropy_weight * entropies.sum() / scored_tokens
    return loss
