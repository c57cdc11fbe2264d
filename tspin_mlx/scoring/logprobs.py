"""Log-probabilities of responses under a policy: a forward pass with the LM head on scored tokens only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, takewhile
from typing import Any, TypedDict

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..base.progress import OnProgress
from .collate import CALL_COST, Example, MicroBatch, collate
from .head import LOGITS_AT_ONCE, Differentiate, Head, chunked_logps, frozen_head_logps, token_logps
from .prefix import UnshareableError, shared_features

#: Limits of one forward pass without a gradient: tokens, and examples (grouping many takes time).
TOKENS_AT_ONCE, _EXAMPLES_AT_ONCE = 4096, 64

_PROBE = 12  # tokens


class BatchArrays(TypedDict):
    """A :class:`tspin_mlx.scoring.collate.MicroBatch` as MLX arrays.

    Attributes:
        parts: pairs of a prefix, (m, S) int32, and its groups; a group is a pair of tokens, (g, Q) int32, and the index
            of each row's prompt within the part, (g,) int32.
        positions, targets, response_index: (N,) int32.
        lengths: (k, m) float32.
    """

    parts: list[tuple[mx.array, list[tuple[mx.array, mx.array]]]]
    positions: mx.array
    targets: mx.array
    response_index: mx.array
    lengths: mx.array


class Scorer:
    """Computes log pi(response | prompt) with a policy's model.

    The model is split before its LM head, so that logits exist only at scored positions, and prompt prefixes are
    computed once for all their responses. Both are checked against the model itself; if the outputs differ, all logits
    are computed (``split`` is False), or the whole prompt for each response (``shares`` is False).

    Args:
        call_cost: fixed cost of a call of the model, in tokens.
    """

    def __init__(self, model: nn.Module, call_cost: int = CALL_COST) -> None:
        self.model, self._call_cost = model, call_cost
        probe = mx.arange(2 * _PROBE).reshape(2, _PROBE)
        logits = model(probe)
        head = _head_module(model)
        self._body, self._head = _parts(model, head)
        self.split = head is not None and self._can_split(probe, logits)
        self._vocabulary = logits.shape[-1]
        self._head_is_frozen = head is not None and not tree_flatten(head.trainable_parameters())
        self._windows: set[int] = set()
        self.shares = self.split and self._can_share(probe)

    @property
    def longest_shared(self) -> float:
        """The longest sequence, in tokens with padding, whose prompt can be shared: the smallest sliding window."""
        return min(self._windows, default=math.inf)

    def collate(self, examples: Sequence[Example]) -> MicroBatch:
        """Collate examples, with shared prompts if the model allows it for their lengths."""
        batch = collate(examples, share=self.shares, call_cost=self._call_cost)
        if batch.longest <= self.longest_shared:
            return batch
        return collate(examples, share=False, call_cost=self._call_cost)

    def __call__(
        self, batch: BatchArrays, differentiate: Differentiate = "both", logits_at_once: int = LOGITS_AT_ONCE
    ) -> tuple[mx.array, mx.array]:
        """Score one micro-batch.

        Args:
            batch: see :func:`as_arrays`.
            differentiate: which outputs will be differentiated; ``logps`` alone is cheaper.
            logits_at_once: logits in one chunk of scored positions.

        Returns:
            ``logps`` and ``entropies``, both (k, m) float32, in nats: log pi(token) and the policy's entropy, summed
            over the tokens of each response.
        """
        features, targets = self._features(batch), batch["targets"]
        if self.split and self._head_is_frozen:
            chunk = self._chunk(logits_at_once)
            logps, entropies = frozen_head_logps(self._head, features, targets, chunk, differentiate)
        else:
            logps, entropies = token_logps(self._head(features) if self.split else features, targets)
        return _sums_by_response(logps, batch), _sums_by_response(entropies, batch)

    def logps(self, batch: BatchArrays) -> mx.array:
        """Compute the log-probabilities alone, (k, m) float32, in nats, without a gradient."""
        features, targets = self._features(batch), batch["targets"]
        if self.split:
            logps = chunked_logps(self._head, features, targets, self._chunk(LOGITS_AT_ONCE))
        else:
            logps, _ = token_logps(features, targets)
        return _sums_by_response(logps, batch)

    def _chunk(self, logits_at_once: int) -> int:
        return max(1, logits_at_once // int(self._vocabulary))

    def _features(self, batch: BatchArrays) -> mx.array:
        """Compute the last hidden states, or logits if the model cannot be split, at the scored positions."""
        features = [self._features_of_part(prefix, groups) for prefix, groups in batch["parts"]]
        return mx.concatenate(features)[batch["positions"]]

    def _features_of_part(self, prefix: mx.array, groups: Sequence[tuple[mx.array, mx.array]]) -> mx.array:
        if prefix.shape[1]:
            return shared_features(self._body, len(self.model.layers), prefix, groups, self._windows)
        body = self._body if self.split else self.model
        outputs = [body(tokens) for tokens, _ in groups]
        return mx.concatenate([features.reshape(-1, features.shape[-1]) for features in outputs])

    def _can_split(self, tokens: mx.array, logits: mx.array) -> bool:
        """Return whether body and head together compute the same as the model."""
        try:
            return _same(self._head(self._body(tokens)), logits)
        except (TypeError, AttributeError, ValueError, IndexError):
            return False

    def _can_share(self, tokens: mx.array) -> bool:
        """Return whether shared prompts give the model's own hidden states, tried on two rows.

        A GPU may round differently for other shapes, float32 to 11 bits (TF32); how much that matters in this model is
        measured by computing the first half alone.
        """
        half = _PROBE // 2
        groups = [(tokens[::-1, half:], mx.array([1, 0]))]
        try:
            layers = len(self.model.layers)
            features = shared_features(self._body, layers, tokens[:, :half], groups, self._windows)
        except (UnshareableError, TypeError, AttributeError, ValueError, IndexError):
            return False  # another kind of cache: recurrent, hybrid, or with other methods
        whole = self._body(tokens)
        rounding = 2**-8 if whole.dtype == mx.bfloat16 else 2**-11
        by_shape = distance(self._body(tokens[:, :half]), whole[:, :half])
        return distance(features.reshape(2, half, -1)[::-1], whole[:, half:]) <= 8 * rounding + 4 * by_shape


def as_arrays(batch: MicroBatch) -> BatchArrays:
    """Convert a micro-batch to MLX arrays."""
    parts = [
        (mx.array(part.prefix), [(mx.array(rows.tokens), mx.array(rows.prompt_index)) for rows in part.groups])
        for part in batch.parts
    ]
    return {
        "parts": parts,
        "positions": mx.array(batch.positions),
        "targets": mx.array(batch.targets),
        "response_index": mx.array(batch.response_index),
        "lengths": mx.array(batch.lengths),
    }


def score(
    scorer: Scorer,
    examples: Sequence[Example],
    on_progress: OnProgress | None = None,
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> np.ndarray:
    """Score many examples without a gradient.

    Args:
        examples: prompts, all with the same number k of responses.
        on_progress: called after each forward pass with the numbers of examples and of response tokens scored so far,
            and the seconds since the beginning; an exception from it ends the scoring.
        tokens_at_once: prompt and response tokens in one forward pass, but at least one example.

    Returns:
        Log-probabilities, (k, number of examples) float32, in nats, in the examples' order.
    """
    order = sorted(range(len(examples)), key=lambda i: len(examples[i][0].tokens) + len(examples[i][1][0].tokens))
    logps = np.zeros((len(examples[0][1]), len(examples)), np.float32)
    started, tokens = time.perf_counter(), 0
    done = 0
    while done < len(order):
        chosen = order[done : done + _EXAMPLES_AT_ONCE]
        chosen = chosen[: _fitting([examples[i] for i in chosen], tokens_at_once)]
        logps[:, chosen] = np.array(scorer.logps(as_arrays(scorer.collate([examples[i] for i in chosen]))))
        done += len(chosen)
        tokens += sum(len(response.tokens) for i in chosen for response in examples[i][1])
        if on_progress is not None:
            on_progress(done, tokens, time.perf_counter() - started)
    return logps


def _fitting(examples: Sequence[Example], tokens: int) -> int:
    """Count how many of the first examples fit into ``tokens`` tokens; at least one."""
    sizes = (len(prompt.tokens) + sum(len(response.tokens) for response in responses) for prompt, responses in examples)
    return max(1, sum(1 for _ in takewhile(lambda total: total <= tokens, accumulate(sizes))))


def _language_model(model: nn.Module) -> nn.Module:
    """Return the text part of a multimodal model."""
    return getattr(model, "language_model", model)


def _head_module(model: nn.Module) -> nn.Module | None:
    """Return the LM head, which is the embedding if weights are tied; None if neither has its usual name."""
    language = _language_model(model)
    return getattr(language, "lm_head", None) or getattr(getattr(language, "model", None), "embed_tokens", None)


def _parts(model: nn.Module, module: nn.Module | None) -> tuple[Callable[..., mx.array], Head]:
    """Return two functions: from tokens to last hidden states, and from there to logits."""
    language = _language_model(model)
    cap = getattr(getattr(language, "args", None), "final_logit_softcapping", None)
    linear: Any = getattr(module, "as_linear", module)

    def head(features: mx.array) -> mx.array:
        logits = linear(features)
        return mx.tanh(logits / cap) * cap if cap else logits

    inner = getattr(language, "model", model)

    def body(tokens: mx.array, cache: Any = None) -> mx.array:
        return inner(tokens, cache=cache)  # some models require the argument

    return body, head


def _same(actual: mx.array, expected: mx.array) -> bool:
    """Return whether two arrays are equal up to the order of floating-point operations."""
    return actual.shape == expected.shape and bool(mx.allclose(actual, expected, rtol=1e-3, atol=1e-3))


def distance(actual: mx.array, expected: mx.array) -> float:
    """Compute the norm of the difference of two arrays of one shape, relative to the norm of the second."""
    actual, expected = actual.astype(mx.float32), expected.astype(mx.float32)
    return float((mx.linalg.norm(actual - expected) / mx.linalg.norm(expected)).item())


def _sums_by_response(values: mx.array, batch: BatchArrays) -> mx.array:
    """Sum values by response, (k, m) float32: by masks, not a scatter, to add in the same order on every backend."""
    k, m = batch["lengths"].shape
    mine = batch["response_index"][None] == mx.arange(k * m)[:, None]
    return mx.where(mine, values[None], 0).sum(axis=1).reshape(k, m)
