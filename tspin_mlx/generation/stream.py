"""Streaming generation for one prompt, with a KV cache reused between turns. Imports mlx-lm, as few modules do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn

from ..method.triplets import common_prefix
from ..models.load import Policy
from .batch import Decoding, keyed_sampler


@dataclass(frozen=True)
class Piece:
    """A piece of a streamed answer.

    Attributes:
        text: new text; empty while a character is incomplete.
        tokens: number of tokens in the answer so far, including the end token.
        finish_reason: in the last piece, ``stop`` if the answer ended by itself, ``length`` if it was cut off.
    """

    text: str
    tokens: int
    finish_reason: Literal["stop", "length"] | None = None


class PromptCache:
    """The KV cache of a policy's last prompt and answer, so that a conversation's next turn computes only new tokens.

    It belongs to one policy, and to one answer at a time.
    """

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._layers: list[Any] = []

    def take(self, model: nn.Module, prompt: Sequence[int]) -> tuple[list[Any], Sequence[int]]:
        """Return mlx-lm's KV caches of the layers, and the prompt's tokens that are not in them, at least one."""
        from mlx_lm.models.cache import make_prompt_cache

        held = self._cut(common_prefix(self._tokens, prompt[:-1]))
        if not held:
            self._layers = make_prompt_cache(model)
        self._tokens = list(prompt)
        return self._layers, prompt[held:]

    def add(self, token: int) -> None:
        """Record one more token of the answer."""
        self._tokens.append(token)

    def _cut(self, wanted: int) -> int:
        """Trim the caches to the first ``wanted`` tokens; returns how many are left, 0 if they cannot be trimmed."""
        from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

        # After an interrupted answer layers may differ in length, and not every kind of cache has an offset.
        counts = {getattr(layer, "offset", 0) for layer in self._layers}
        held = counts.pop() if len(counts) == 1 else 0
        left = min(held, wanted)
        if left < held:
            if not can_trim_prompt_cache(self._layers):
                return 0
            trim_prompt_cache(self._layers, held - left)
        return left


def stream(
    policy: Policy, prompt: Sequence[int], decoding: Decoding, seed: int | None, cache: PromptCache | None = None
) -> Iterator[Piece]:
    """Stream the answer to one prompt in pieces of text.

    Args:
        prompt: token ids, at least one.
        decoding: sampling settings; the batch size is not used.
        seed: of the sampler, as in :func:`tspin_mlx.generation.batch.generate`; None decodes greedily.
        cache: of this policy's last answer; a common prefix is not computed again.
    """
    from mlx_lm import stream_generate

    policy.model.eval()
    sampler, cache = keyed_sampler(seed, decoding), cache or PromptCache()
    layers, new = cache.take(policy.model, prompt)
    tokens, count = mx.array(new), 0
    for part in stream_generate(
        policy.model, policy.tokenizer, tokens, decoding.max_tokens, sampler=sampler, prompt_cache=layers
    ):
        if part.generation_tokens > count:
            cache.add(part.token)
        count = part.generation_tokens
        yield Piece(part.text, part.generation_tokens, part.finish_reason)
