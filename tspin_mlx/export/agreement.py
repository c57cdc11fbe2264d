"""How much two models agree on held-out examples: the check behind every fused model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from ..method.triplets import Prompt

_PROMPTS = 16
_POSITIONS = 32  # per prompt: whole distributions are kept, a row of the vocabulary's size for each


@dataclass(frozen=True)
class Agreement:
    """Two models compared at the positions of the experts' answers.

    Attributes:
        kl: mean over positions of KL(first || second), in nats.
        greedy: share of positions at which both find the same token the most likely.
        prompts, positions: how many were compared.
    """

    kl: float
    greedy: float
    prompts: int
    positions: int


def held_out(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The examples that are compared."""
    return list(prompts[:_PROMPTS])


def distributions(model: nn.Module, examples: Sequence[Prompt]) -> list[mx.array]:
    """Per example, log-probabilities at the first tokens of the expert's answer: (positions, vocabulary), float32."""
    found = []
    for example in examples:
        answer = example.annotated.tokens[:_POSITIONS]
        tokens = mx.array([[*example.tokens, *answer[:-1]]])
        logits = model(tokens)[0, -len(answer) :].astype(mx.float32)
        found.append(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        mx.eval(found[-1])
    return found


def agreement(first: Sequence[mx.array], second: Sequence[mx.array]) -> Agreement:
    """Compare what :func:`distributions` gave for two models."""
    kl, same, positions = 0.0, 0, 0
    for p, q in zip(first, second, strict=True):
        kl += (mx.exp(p) * (p - q)).sum().item()
        same += (mx.argmax(p, axis=-1) == mx.argmax(q, axis=-1)).sum().item()
        positions += p.shape[0]
    return Agreement(max(0.0, kl / positions), same / positions, len(first), positions)
