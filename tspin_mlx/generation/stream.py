"""The policy's answer to one prompt, as it comes. One of the few modules that touch mlx-lm."""

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
    """What has come since the piece before.

    Attributes:
        text: may be empty, while a character is not complete.
        tokens: of the whole answer so far, its end token included.
        finish_reason: of the last piece ``stop`` if the answer ended by itself, ``length`` if it was cut; else None.
    """

    text: str
    tokens: int
    finish_reason: Literal["stop", "length"] | None = None


class PromptCache:
    """Keys and values of what a policy has read and said last: of a conversation that goes on only what is new is
    computed.

    It belongs to one policy, and to one answer at a time.
    """

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._layers: list[Any] = []

    def take(self, model: nn.Module, prompt: Sequence[int]) -> tuple[list[Any], Sequence[int]]:
        """mlx-lm's caches of the layers, and the tokens of the prompt that they do not hold yet, at least one."""
        from mlx_lm.models.cache import make_prompt_cache

        held = self._cut(common_prefix(self._tokens, prompt[:-1]))
        if not held:
            self._layers = make_prompt_cache(model)
        self._tokens = list(prompt)
        return self._layers, prompt[held:]

    def add(self, token: int) -> None:
        """One more token of the answer."""
        self._tokens.append(token)

    def _cut(self, wanted: int) -> int:
        """Forget all but the first ``wanted`` tokens; how many are left, 0 if it cannot be done."""
        from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

        # An answer that was broken off may have left some layers behind, and not every kind of cache counts.
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
    """Answer one prompt; the texts of all pieces together are the answer.

    Args:
        prompt: token ids, at least one.
        decoding: its batch size is not used.
        seed: of the sampler, as in :func:`tspin_mlx.generation.batch.generate`; None decodes greedily.
        cache: of this policy's last answer; what prompt and answer of that begin with is not computed again.
    """
    from mlx_lm import stream_generate

    policy.model.eval()
    sampler, cache = keyed_sampler(seed, decoding), cache or PromptCache()
    layers, new = cache.take(policy.model, prompt)
    tokens, said = mx.array(new), 0
    for found in stream_generate(
        policy.model, policy.tokenizer, tokens, decoding.max_tokens, sampler=sampler, prompt_cache=layers
    ):
        if found.generation_tokens > said:
            cache.add(found.token)
        said = found.generation_tokens
        yield Piece(found.text, found.generation_tokens, found.finish_reason)
