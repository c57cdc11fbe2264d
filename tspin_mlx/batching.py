"""From triplets to the arrays of one micro-batch: rows of tokens, and where in them the responses are scored.

Pure; numpy only. The beginnings of the prompts are computed once for all their responses; what follows of each prompt
and its response is a row of its own, without the last token, padded at the end: under causal attention padding after
a row's end cannot be seen by it, so no mask is needed.
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

#: All that decides the shapes of a micro-batch's arrays.
Signature = tuple[int, ...]

#: What one more group of rows costs, in tokens; padding may cost as much before a group is split.
_GROUP_COST = 24


@dataclass(frozen=True)
class Rows:
    """Rows of similar lengths.

    Attributes:
        tokens: (g, Q) int32, what follows the prefix, padded with 0.
        owners: (g,) int32, the example of each row.
    """

    tokens: np.ndarray
    owners: np.ndarray


@dataclass(frozen=True)
class MicroBatch:
    """k responses to each of m prompts; response r to prompt i is number ``r * m + i``.

    Attributes:
        prefix: (m, S) int32, the first S tokens of each prompt; S is 0 if nothing is shared.
        groups: the rows, each for one response: the rest of the prompt, then the response without its last token.
        positions: (N,) int32, where the next token is scored: flat indices into the rows of all groups, one group
            after another; padded with 0.
        targets: (N,) int32, the scored tokens; padded with 0.
        numbers: (N,) int32, the response of each scored token; -1 is padding.
        lengths: (k, m) float32, scored tokens per response.
    """

    prefix: np.ndarray
    groups: tuple[Rows, ...]
    positions: np.ndarray
    targets: np.ndarray
    numbers: np.ndarray
    lengths: np.ndarray

    @property
    def signature(self) -> Signature:
        """All that decides the shapes of the arrays."""
        rows = (size for group in self.groups for size in group.tokens.shape)
        return (*self.prefix.shape, *self.lengths.shape, len(self.targets), *rows)

    @property
    def longest(self) -> int:
        """The longest sequence that the model sees, in tokens, padding included."""
        return self.prefix.shape[1] + max(group.tokens.shape[1] for group in self.groups)

    @property
    def computed_tokens(self) -> int:
        """Tokens that go through the model, padding included."""
        return self.prefix.size + sum(group.tokens.size for group in self.groups)


def collate(examples: Sequence[Scored], *, share: bool = True) -> MicroBatch:
    """The arrays of some examples, which must all have the same number of responses.

    Args:
        share: compute the beginnings of the prompts once for all their responses.
    """
    count, responses = len(examples), len(examples[0][1])
    shared = shared_length(examples) if share and responses > 1 else 0
    numbered = [(r * count + i, i, x, rs[r]) for r in range(responses) for i, (x, rs) in enumerate(examples)]
    lengths = [len(x.tokens) - shared + len(response.tokens) - 1 for _, _, x, response in numbered]
    groups: list[Rows] = []
    positions: list[int] = []
    targets: list[int] = []
    numbers: list[int] = []
    begin = 0
    for members in group_rows(lengths):
        width = bucket(max(lengths[n] for n in members))
        tokens = np.zeros((len(members), width), np.int32)
        for row, n in enumerate(members):
            number, _, prompt, response = numbered[n]
            rest = prompt.tokens[shared:]
            tokens[row, : lengths[n]] = (*rest, *response.tokens[:-1])
            # The token after position p is predicted at p: the first scored one at the prompt's last position.
            first = begin + row * width + len(rest) - 1
            positions += range(first, first + len(response.tokens))
            targets += response.tokens
            numbers += [number] * len(response.tokens)
        groups.append(Rows(tokens, np.array([numbered[n][1] for n in members], np.int32)))
        begin += tokens.size
    size = bucket(len(targets))
    return MicroBatch(
        prefix=np.array([x.tokens[:shared] for x, _ in examples], np.int32).reshape(count, shared),
        groups=tuple(groups),
        positions=_padded(positions, size, 0),
        targets=_padded(targets, size, 0),
        numbers=_padded(numbers, size, -1),
        lengths=np.array([len(response.tokens) for _, _, _, response in numbered], np.float32).reshape(-1, count),
    )


def shared_length(examples: Sequence[Scored]) -> int:
    """How much of each prompt to compute once: less than any of them, since its last token belongs to the rows."""
    shortest = min(len(prompt.tokens) for prompt, _ in examples) - 1
    return shortest // _step(shortest) * _step(shortest) if shortest >= 8 else 0


def group_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of rows in groups of similar lengths, so that padding and the number of groups cost least together."""
    order = sorted(range(len(lengths)), key=lambda n: (-lengths[n], n))
    best = [0] + [0] * len(order)  # cost of the first so many rows
    cut = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        costs = [best[start] + (end - start) * bucket(lengths[order[start]]) + _GROUP_COST for start in range(end)]
        best[end] = min(costs)
        cut[end] = costs.index(best[end])
    groups: list[list[int]] = []
    end = len(order)
    while end:
        groups.append(order[cut[end] : end])
        end = cut[end]
    return groups[::-1]


def bucket(length: int) -> int:
    """The next of a ladder of sizes, 8, 10, ..., 64, 68, ..., 128, 136, ...: few shapes, and from 8 tokens on padding
    of one token or below 7 %."""
    step = _step(length - 1)
    return max(8, -(-length // step) * step)


def _step(length: int) -> int:
    """The distance between neighbours on the ladder."""
    return max(2, 1 << max(0, length.bit_length() - 5))


def batch_order(count: int, epochs: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Indices of the examples of each optimiser step: every epoch is a permutation of its own seed."""
    for epoch in range(epochs):
        order = list(range(count))
        random.Random(derive(seed, "order", epoch)).shuffle(order)
        for start in range(0, count, batch_size):
            yield order[start : start + batch_size]


def micro_batches(examples: Sequence[Scored], size: int) -> Iterator[list[Scored]]:
    """Split an optimiser batch into micro-batches of prompts of similar lengths, longest first."""
    by_length = sorted(examples, key=_lengths, reverse=True)
    for start in range(0, len(by_length), size):
        yield by_length[start : start + size]


def _lengths(example: Scored) -> tuple[int, int]:
    prompt, responses = example
    return len(prompt.tokens), max(len(response.tokens) for response in responses)


def _padded(values: list[int], size: int, filler: int) -> np.ndarray:
    array = np.full(size, filler, np.int32)
    array[: len(values)] = values
    return array
