"""Prompts computed once for all their responses, through the cache that mlx-lm's models take.

The prompt's keys and values are recorded in one call of the model and put in front of the responses' in the next.
Both calls are plainly causal, so no array mask is needed, and gradients flow through the recorded values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx


class UnshareableError(Exception):
    """The model asks its cache for something that a shared prompt cannot give."""


class PrefixCache:
    """The keys and values of one layer, as mlx-lm's models see them.

    Args:
        prefix: keys and values (rows, heads, S, head size) that stand before those of the call; empty to record.
        windows: takes the sizes of sliding windows that the model asks for.
    """

    def __init__(self, prefix: tuple[mx.array, ...], windows: set[int]) -> None:
        self.prefix = prefix
        self.recorded: tuple[mx.array, ...] = ()
        self._windows = windows

    @property
    def offset(self) -> int:
        """Tokens before those of the call; decides their positions."""
        return self.prefix[0].shape[2] if self.prefix else 0

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> mx.array | str:
        """Causal, aligned at the last key. A window is as good as none for what is shorter than it.

        An array is for models that compute their attention themselves (Gemma 2, to cap its logits); MLX's own needs
        none, and with one loses the backward pass that keeps little memory.

        Args:
            count: tokens of the call.
            window_size: of sliding attention, in tokens.

        Returns:
            ``"causal"``, or (count, tokens before + count) bool, true where a key is seen.

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
        """All keys and values up to and including those of the call."""
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
    """Last hidden states of rows that share the beginnings of prompts; differentiable.

    Args:
        body: the model without its head; takes ``cache``.
        layers: how many caches it wants.
        prefix: (m, S) token ids, S at least 1.
        groups: rows (g, Q) of token ids that follow a prefix, and (g,) which of the m prefixes.
        windows: takes the sizes of sliding windows that the model asks for.

    Returns:
        (sum of g * Q, hidden size): the rows of all groups, one after another.

    Raises:
        UnshareableError: the model cannot be used in this way.
    """
    recorders = [PrefixCache((), windows) for _ in range(layers)]
    body(prefix, cache=recorders)
    found = []
    for tokens, prompt_index in groups:
        # A product with ones and zeros, not a gather: its gradient adds up in one order on every backend.
        chosen = prompt_index[:, None] == mx.arange(prefix.shape[0])[None]
        caches = [PrefixCache(tuple(_rows(chosen, part) for part in r.recorded), windows) for r in recorders]
        features = body(tokens, cache=caches)
        found.append(features.reshape(-1, features.shape[-1]))
    return mx.concatenate(found)


def _rows(chosen: mx.array, values: mx.array) -> mx.array:
    flat = chosen.astype(values.dtype) @ values.reshape(values.shape[0], -1)
    return flat.reshape(-1, *values.shape[1:])
