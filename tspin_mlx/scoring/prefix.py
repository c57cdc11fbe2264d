"""Prompt prefix sharing: compute a prompt once for all its responses, through a differentiable KV cache.

One call of the model records the prompt's keys and values, the next one puts them before those of the responses. Both
calls are causal, so no array mask is needed, and gradients flow through the recorded values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx


class UnshareableError(Exception):
    """The model asks its cache for something that a shared prompt cannot provide."""


class PrefixCache:
    """The KV cache of one layer, with the interface that mlx-lm's models expect.

    Args:
        prefix: keys and values (rows, heads, S, head size) to put before those of the call; empty to record.
        windows: set to which the sizes of the model's sliding windows are added.
    """

    def __init__(self, prefix: tuple[mx.array, ...], windows: set[int]) -> None:
        self.prefix = prefix
        self.recorded: tuple[mx.array, ...] = ()
        self._windows = windows

    @property
    def offset(self) -> int:
        """Number of tokens before those of the call; decides their positions."""
        return self.prefix[0].shape[2] if self.prefix else 0

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> mx.array | str:
        """Return a causal mask, aligned at the last key; a sliding window does not matter for shorter sequences.

        An array is for models that compute attention themselves (Gemma 2, to cap its logits); MLX's own needs none,
        and with one it would lose the memory-efficient backward pass.

        Args:
            count: tokens of the call.
            return_array: return an array instead of ``"causal"``.
            window_size: of sliding-window attention, in tokens.

        Returns:
            ``"causal"``, or (count, tokens before + count) bool, true where a key is visible.

        Raises:
            UnshareableError: the sequence is longer than the window.
        """
        if window_size is not None:
            self._windows.add(window_size)
            if self.offset + count > window_size:
                raise UnshareableError
        if return_array:
            return self.offset + mx.arange(count)[:, None] >= mx.arange(self.offset + count)[None]
        return "causal"

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Return all keys and values up to and including those of the call."""
        if not self.prefix:
            self.recorded = (keys, values)
            return keys, values
        before_keys, before_values = self.prefix
        return mx.concatenate([before_keys, keys], axis=2), mx.concatenate([before_values, values], axis=2)


def shared_features(
    body: Callable[..., mx.array],
    layers: int,
    prefix: mx.array,
    groups: Sequence[tuple[mx.array, mx.array]],
    windows: set[int],
) -> mx.array:
    """Compute the last hidden states of rows that share prompt prefixes; differentiable.

    Args:
        body: the model without its head; takes ``cache``.
        layers: number of layers, each of which takes a cache.
        prefix: (m, S) token ids, S at least 1.
        groups: pairs of rows of token ids that follow a prefix, (g, Q), and the index of each row's prefix, (g,).
        windows: set to which the sizes of the model's sliding windows are added.

    Returns:
        (sum of g * Q, hidden size): the rows of all groups, concatenated.

    Raises:
        UnshareableError: the model does not allow it.
    """
    recorders = [PrefixCache((), windows) for _ in range(layers)]
    body(prefix, cache=recorders)
    hidden = []
    for tokens, prompt_index in groups:
        # A one-hot product, not a gather: its gradient is summed in the same order on every backend.
        chosen = prompt_index[:, None] == mx.arange(prefix.shape[0])[None]
        caches = [PrefixCache(tuple(_rows(chosen, part) for part in r.recorded), windows) for r in recorders]
        features = body(tokens, cache=caches)
        hidden.append(features.reshape(-1, features.shape[-1]))
    return mx.concatenate(hidden)


def _rows(chosen: mx.array, values: mx.array) -> mx.array:
    flat = chosen.astype(values.dtype) @ values.reshape(values.shape[0], -1)
    return flat.reshape(-1, *values.shape[1:])
