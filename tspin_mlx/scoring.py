"""Log-probabilities of responses under a policy: a forward pass whose vocabulary head sees only scored tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from .batching import MicroBatch, Scored, collate

#: From hidden states (N, d) to logits (N, vocabulary).
Head = Callable[[mx.array], mx.array]

#: Logits held at once (times 4 bytes). More scored positions are computed in chunks, each again in the backward
#: pass.
LOGITS_AT_ONCE = 2**26


class Scorer:
    """Computes log pi(response | prompt) with a policy's model.

    The model is split where its vocabulary head begins, so that logits exist only at scored positions. The
    split is checked against the model itself; where they differ, ``split`` is False and whole logits are used.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        probe = mx.arange(8)[None]
        logits = model(probe)
        head = _head_module(model)
        self._body, self._head = _parts(model, head)
        self.split = head is not None and _agree(self._head(self._body(probe)), logits)
        self._chunk = max(1, LOGITS_AT_ONCE // logits.shape[-1])
        self._head_is_frozen = head is not None and not tree_flatten(head.trainable_parameters())

    def __call__(self, batch: dict[str, mx.array]) -> tuple[mx.array, mx.array]:
        """Score one micro-batch; differentiable.

        Args:
            batch: the arrays of :class:`tspin_mlx.batching.MicroBatch`, see :func:`as_arrays`.

        Returns:
            ``logps`` and ``entropies``, both (k, m) float32: per response, the sum over its tokens of
            log pi(token) and of the policy's entropy at that position, in nats.
        """
        if self.split:
            features, head = self._body(batch["tokens"]), self._head
        else:
            features, head = self.model(batch["tokens"]), _identity
        features = features.reshape(-1, features.shape[-1])[batch["positions"]]
        logps, entropies = self._chunked(head, features, batch["targets"])
        # Sums of masked values, not a scatter: the order of additions is then the same on every backend.
        mine = batch["rows"][None] == mx.arange(batch["tokens"].shape[0])[:, None]
        shape = batch["lengths"].shape
        return _row_sums(mine, logps).reshape(shape), _row_sums(mine, entropies).reshape(shape)

    def _chunked(self, head: Head, features: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
        count = features.shape[0]
        if count <= self._chunk:
            return token_logps(head(features), targets)
        pieces = []
        for start in range(0, count, self._chunk):
            scored = partial(_scored, head, targets[start : start + self._chunk])
            if self._head_is_frozen:  # a checkpoint hands no gradient to weights that it has captured
                scored = mx.checkpoint(scored)
            pieces.append(scored(features[start : start + self._chunk]))
        logps, entropies = zip(*pieces, strict=True)
        return mx.concatenate(logps), mx.concatenate(entropies)


def _scored(head: Head, targets: mx.array, features: mx.array) -> tuple[mx.array, mx.array]:
    return token_logps(head(features), targets)


def token_logps(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    """log pi(target) and the entropy at each position, in float32 whatever the model computes in.

    Args:
        logits: (N, vocabulary).
        targets: (N,) token ids.

    Returns:
        Two arrays (N,) float32, in nats: log-probabilities, at most 0, and entropies, at least 0.
    """
    logits = logits.astype(mx.float32)
    shifted = logits - mx.stop_gradient(logits.max(axis=-1, keepdims=True))
    weights = mx.exp(shifted)
    total = weights.sum(axis=-1)
    log_total = mx.log(total)
    chosen = mx.take_along_axis(shifted, targets[:, None], axis=-1)[:, 0]
    return chosen - log_total, log_total - (weights * shifted).sum(axis=-1) / total


def as_arrays(batch: MicroBatch) -> dict[str, mx.array]:
    """A micro-batch as MLX arrays."""
    return {name: mx.array(value) for name, value in vars(batch).items()}


def score(scorer: Scorer, examples: Sequence[Scored], batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Score many examples without a gradient.

    Args:
        examples: prompts, all with the same number k of responses.
        batch_size: prompts per forward pass.

    Returns:
        ``logps`` and ``entropies``, both (k, number of examples) float32, in the examples' order.
    """
    order = sorted(range(len(examples)), key=lambda i: len(examples[i][0].tokens) + len(examples[i][1][0].tokens))
    logps = np.zeros((len(examples[0][1]), len(examples)), np.float32)
    entropies = np.zeros_like(logps)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        found = scorer(as_arrays(collate([examples[i] for i in chosen])))
        mx.eval(found)
        logps[:, chosen], entropies[:, chosen] = np.array(found[0]), np.array(found[1])
    return logps, entropies


def _language_model(model: nn.Module) -> nn.Module:
    """The text part of a model that also sees or hears."""
    return getattr(model, "language_model", model)


def _head_module(model: nn.Module) -> nn.Module | None:
    """What turns hidden states into logits: a layer of its own, or the embedding; None if it has another name."""
    language = _language_model(model)
    return getattr(language, "lm_head", None) or getattr(getattr(language, "model", None), "embed_tokens", None)


def _parts(model: nn.Module, module: nn.Module | None) -> tuple[Callable[[mx.array], mx.array], Head]:
    """The model up to its last hidden states, and from there to logits."""
    language = _language_model(model)
    cap = getattr(getattr(language, "args", None), "final_logit_softcapping", None)
    linear: Any = getattr(module, "as_linear", module)

    def head(features: mx.array) -> mx.array:
        logits = linear(features)
        return mx.tanh(logits / cap) * cap if cap else logits

    return getattr(language, "model", model), head


def _agree(found: mx.array, expected: mx.array) -> bool:
    return found.shape == expected.shape and bool(mx.allclose(found, expected, rtol=1e-3, atol=1e-3))


def _identity(logits: mx.array) -> mx.array:
    return logits


def _row_sums(mine: mx.array, values: mx.array) -> mx.array:
    return mx.where(mine, values[None], 0).sum(axis=-1)
