"""From triplets to the arrays of one micro-batch: rows of tokens, and where in them the responses are scored.

Pure; numpy only. Every response is a row of its own, ``prompt + response`` without the last token, padded at
the end: under causal attention padding after a row's end cannot be seen by it, so no mask is needed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .seeds import derive
from .triplets import Prompt, Response

#: One training example: a prompt and the responses that are scored for it.
Scored = tuple[Prompt, tuple[Response, ...]]


@dataclass(frozen=True)
class MicroBatch:
    """k responses to each of m prompts, row ``r * m + i`` being response r to prompt i.

    Attributes:
        tokens: (k * m, L) int32, inputs, padded with 0.
        positions: (N,) int32, flat indices into (k * m) * L whose next token is scored; padded with 0.
        targets: (N,) int32, the scored tokens; padded with 0.
        rows: (N,) int32, the row of each scored token; -1 is padding.
        lengths: (k, m) float32, scored tokens per response.
    """

    tokens: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    rows: np.ndarray
    lengths: np.ndarray


def collate(examples: Sequence[Scored]) -> MicroBatch:
    """The arrays of some examples, which must all have the same number of responses."""
    rows = [(x, r) for x, r in _by_response(examples)]
    width = bucket(max(len(x.tokens) + len(r.tokens) - 1 for x, r in rows))
    tokens = np.zeros((len(rows), width), np.int32)
    positions: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for row, (prompt, response) in enumerate(rows):
        whole = (*prompt.tokens, *response.tokens)
        tokens[row, : len(whole) - 1] = whole[:-1]
        # The token after position p is predicted at p: the first scored token at the prompt's last position.
        first = row * width + len(prompt.tokens) - 1
        positions += range(first, first + len(response.tokens))
        targets += response.tokens
        owners += [row] * len(response.tokens)
    size = bucket(len(targets))
    return MicroBatch(
        tokens=tokens,
        positions=_padded(positions, size, 0),
        targets=_padded(targets, size, 0),
        rows=_padded(owners, size, -1),
        lengths=np.array([len(r.tokens) for _, r in rows], np.float32).reshape(-1, len(examples)),
    )


def bucket(length: int) -> int:
    """The next of 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ...: few shapes to compile, padding below 25 %."""
    step = max(2, 1 << max(0, (length - 1).bit_length() - 3))
    return max(8, -(-length // step) * step)


def batch_order(count: int, epochs: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Indices of the examples of each optimiser step: every epoch is a permutation of its own seed."""
    for epoch in range(epochs):
        order = list(range(count))
        random.Random(derive(seed, "order", epoch)).shuffle(order)
        for start in range(0, count, batch_size):
            yield order[start : start + batch_size]


def micro_batches(examples: Sequence[Scored], size: int) -> Iterator[list[Scored]]:
    """Split an optimiser batch into micro-batches of similar lengths, longest first."""
    by_length = sorted(examples, key=_longest, reverse=True)
    for start in range(0, len(by_length), size):
        yield by_length[start : start + size]


def _by_response(examples: Sequence[Scored]) -> Iterator[tuple[Prompt, Response]]:
    for number in range(len(examples[0][1])):
        for prompt, responses in examples:
            yield prompt, responses[number]


def _longest(example: Scored) -> int:
    prompt, responses = example
    return len(prompt.tokens) + max(len(response.tokens) for response in responses)


def _padded(values: list[int], size: int, filler: int) -> np.ndarray:
    array = np.full(size, filler, np.int32)
    array[: len(values)] = values
    return array
