"""The policy's answer to one prompt, as it comes. One of the few modules that touch mlx-lm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

from .generation import Decoding, keyed_sampler
from .models import Policy


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


def stream(policy: Policy, prompt: Sequence[int], decoding: Decoding, seed: int | None) -> Iterator[Piece]:
    """Answer one prompt; the texts of all pieces together are the answer.

    Args:
        prompt: token ids, at least one.
        decoding: its batch size is not used.
        seed: of the sampler, as in :func:`tspin_mlx.generation.generate`; None decodes greedily.
    """
    from mlx_lm import stream_generate

    policy.model.eval()
    sampler = keyed_sampler(seed, decoding)
    tokens = mx.array(prompt)
    for found in stream_generate(policy.model, policy.tokenizer, tokens, decoding.max_tokens, sampler=sampler):
        yield Piece(found.text, found.generation_tokens, found.finish_reason)
