"""Compare two models on held-out answers: mean KL divergence and greedy agreement, to verify fused models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..method.triplets import Prompt

_PROMPTS = 16
_POSITIONS = 32  # per prompt: each takes a row of vocabulary size


@dataclass(frozen=True)
class Agreement:
    """A comparison of two models at the positions of the experts' answers.

    Attributes:
        kl: mean over positions of KL(first || second), in nats.
        greedy: share of positions with the same most likely token, in [0, 1].
        prompts, positions: how many were compared.
    """

    kl: float
    greedy: float
    prompts: int
    positions: int


def held_out(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Select the examples to compare on."""
    return list(prompts[:_PROMPTS])


def distributions(model: nn.Module, examples: Sequence[Prompt]) -> list[mx.array]:
    """Compute log-probabilities at the first tokens of each expert's answer, (positions, vocabulary) float32."""
    logprobs = []
    for example in examples:
        answer = example.annotated.tokens[:_POSITIONS]
        tokens = mx.array([[*example.tokens, *answer[:-1]]])
        logits = model(tokens)[0, -len(answer) :].astype(mx.float32)
        logprobs.append(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        mx.eval(logprobs[-1])
    return logprobs


def agreement(first: Sequence[mx.array], second: Sequence[mx.array]) -> Agreement:
    """Compare the :func:`distributions` of two models."""
    kl, same, positions = 0.0, 0, 0
    for p, q in zip(first, second, strict=True):
        kl += (mx.exp(p) * (p - q)).sum().item()
        same += (mx.argmax(p, axis=-1) == mx.argmax(q, axis=-1)).sum().item()
        positions += p.shape[0]
    return Agreement(max(0.0, kl / positions), same / positions, len(first), positions)
