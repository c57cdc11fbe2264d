"""The LM head on scored positions only: log-probabilities, entropies and their gradient, in chunks of logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import mlx.core as mx

#: Maps hidden states (N, d) to logits (N, vocabulary).
Head = Callable[[mx.array], mx.array]

#: Which outputs will be differentiated: the log-probabilities, or the entropies as well.
Differentiate = Literal["logps", "both"]

#: Logits in one chunk of scored positions. MLX works on up to ten operations at a time, so about fifteen float32 arrays
#: of this size live at once.
LOGITS_AT_ONCE = 2**23

#: The same when saving memory matters more than speed.
FEW_LOGITS_AT_ONCE = 2**21


def frozen_head_logps(
    head: Head, features: mx.array, targets: mx.array, chunk: int, differentiate: Differentiate = "logps"
) -> tuple[mx.array, mx.array]:
    """Compute log-probabilities and entropies through a frozen head, and their gradient in the same forward pass.

    At each position d logp / d features does not depend on the loss, so it is computed while the logits are in memory;
    the backward pass only scales it, and no logits are kept.

    Args:
        head: maps features to logits.
        features: (N, d) hidden states.
        targets: (N,) token ids.
        chunk: positions whose logits are in memory at once.
        differentiate: ``logps`` (no gradient flows back from the entropies) or ``both``.

    Returns:
        Two arrays (N,) float32, see :func:`token_logps`.
    """

    def with_slopes(features: mx.array, targets: mx.array) -> tuple[mx.array, ...]:
        def weighted(features: mx.array) -> tuple[mx.array, tuple[mx.array, ...]]:
            logits = head(features).astype(mx.float32)
            logps, entropies, slope_of_logps, slope_of_entropies = _with_slopes(mx.stop_gradient(logits), targets)
            second = (slope_of_entropies,) if differentiate == "both" else ()
            return (logits * slope_of_logps).sum(), (logps, entropies, *second)

        (_, (logps, entropies, *second)), slope = mx.value_and_grad(weighted)(features)
        if not second:
            return logps, entropies, slope
        return logps, entropies, slope, mx.grad(lambda x: (head(x).astype(mx.float32) * second[0]).sum())(features)

    def forward(features: mx.array) -> tuple[mx.array, ...]:
        return _by_chunks(with_slopes, features, targets, chunk)

    def backward(primals: Any, cotangents: Any, outputs: Any) -> mx.array:
        slopes = outputs[2:]
        return sum(_flush_tiny(c)[:, None].astype(s.dtype) * s for c, s in zip(cotangents, slopes, strict=False))

    scored = mx.custom_function(forward)
    scored.vjp(backward)
    logps, entropies, *_ = scored(features)
    return logps, entropies


def _with_slopes(logits: mx.array, targets: mx.array) -> tuple[mx.array, ...]:
    """Compute :func:`token_logps` and its derivatives by the logits, both (N, vocabulary): ``1[target] - p`` for the
    log-probability and ``-p (log p + H)`` for the entropy H."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    weights = mx.exp(shifted)
    total = weights.sum(axis=-1, keepdims=True)
    log_total = mx.log(total)
    chosen = mx.take_along_axis(shifted, targets[:, None], axis=-1)
    entropies = log_total - (weights * shifted).sum(axis=-1, keepdims=True) / total
    shares = weights / total
    of_logps = (mx.arange(logits.shape[-1])[None] == targets[:, None]) - shares
    of_entropies = -shares * (shifted - log_total + entropies)
    return (chosen - log_total)[:, 0], entropies[:, 0], of_logps, of_entropies


def chunked_logps(head: Head, features: mx.array, targets: mx.array, chunk: int) -> mx.array:
    """Compute the log-probabilities alone, (N,) float32, in nats, without a gradient.

    Args:
        head: maps features to logits.
        features: (N, d) hidden states.
        targets: (N,) token ids.
        chunk: positions whose logits are in memory at once.
    """
    (logps,) = _by_chunks(lambda x, y: token_logps(head(x), y)[:1], features, targets, chunk)
    return logps


def _by_chunks(
    function: Callable[..., tuple[mx.array, ...]], features: mx.array, targets: mx.array, chunk: int
) -> tuple[mx.array, ...]:
    """Compute one chunk after another: otherwise MLX may begin them all before it has finished any."""
    results: list[tuple[mx.array, ...]] = []
    for start in range(0, features.shape[0], chunk):
        piece = features[start : start + chunk]
        if results:
            piece = mx.depends([piece], list(results[-1]))[0]
        results.append(function(piece, targets[start : start + chunk]))
    return tuple(mx.concatenate(parts) for parts in zip(*results, strict=True))


def _flush_tiny(cotangents: mx.array) -> mx.array:
    """Set the tiny gradients of saturated triplets to 0: x86 computes several times slower with numbers this small."""
    return mx.where(mx.abs(cotangents) < 1e-30, 0, cotangents)


def token_logps(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    """Compute log pi(target) and the entropy at each position, in float32 whatever the model's dtype.

    Args:
        logits: (N, vocabulary).
        targets: (N,) token ids.

    Returns:
        Two arrays (N,) float32, in nats: log-probabilities, at most 0, and entropies, at least 0.
    """
    logits = logits.astype(mx.float32)
    log_total = mx.logsumexp(logits, axis=-1)
    chosen = mx.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    logprobs = logits - log_total[:, None]
    return chosen - log_total, -(mx.exp(logprobs) * logprobs).sum(axis=-1)
