"""Collate examples into a micro-batch: padded rows of token ids with shared prompt prefixes, and scored positions.

Pure; numpy only. The beginning of each prompt is computed once for all its responses, together with prompts of similar
lengths. The rest of the prompt and each response form a row, without the last token and padded at the end: under
causal attention a row cannot see the padding after its end, so no mask is needed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..base.seeds import derive
from ..method.triplets import Prompt, Response

#: One training example: a prompt and the responses that are scored for it.
Example = tuple[Prompt, tuple[Response, ...]]

#: Everything that decides the shapes of a micro-batch's arrays.
Signature = tuple[tuple[int, ...], ...]

#: Cost of one more call of the model on a CPU, in tokens: a group is split if its padding costs more.
CALL_COST = 24

#: Fewest tokens that a row or a prefix has. Metal's attention for up to 8 queries cannot be differentiated
#: (MLX 0.32.4: "the vector kernels do not produce a logsumexp").
_LEAST = 10


@dataclass(frozen=True)
class Rows:
    """Rows of similar lengths.

    Attributes:
        tokens: (g, Q) int32, the tokens after the prefix, padded with 0.
        prompt_index: (g,) int32, the prompt of each row, counted within the part.
    """

    tokens: np.ndarray
    prompt_index: np.ndarray


@dataclass(frozen=True)
class Part:
    """Prompts of similar lengths whose prefixes are computed together.

    Attributes:
        prefix: (m, S) int32, the first S tokens of each prompt; S is 0 if nothing is shared.
        groups: one row per response: the rest of the prompt, then the response without its last token. Their
            ``prompt_index`` counts within the part.
    """

    prefix: np.ndarray
    groups: tuple[Rows, ...]


@dataclass(frozen=True)
class MicroBatch:
    """k responses to each of n prompts; response r to prompt i has index ``r * n + i``.

    Attributes:
        parts: the tokens that the model sees.
        positions: (N,) int32, where the next token is scored: flat indices into the concatenated rows of all groups of
            all parts; padded with 0.
        targets: (N,) int32, the scored tokens; padded with 0.
        response_index: (N,) int32, the response of each scored token; -1 is padding.
        lengths: (k, n) float32, scored tokens per response.
    """

    parts: tuple[Part, ...]
    positions: np.ndarray
    targets: np.ndarray
    response_index: np.ndarray
    lengths: np.ndarray

    @property
    def signature(self) -> Signature:
        """Everything that decides the shapes of the arrays."""
        arrays = [array for part in self.parts for array in (part.prefix, *(rows.tokens for rows in part.groups))]
        return (self.lengths.shape, self.targets.shape, *(array.shape for array in arrays))

    @property
    def longest(self) -> int:
        """The longest sequence that the model sees, in tokens, padding included."""
        lengths = [part.prefix.shape[1] + rows.tokens.shape[1] for part in self.parts for rows in part.groups]
        return int(max(lengths))

    @property
    def computed_tokens(self) -> int:
        """Tokens that go through the model, padding included."""
        return sum(part.prefix.size + sum(rows.tokens.size for rows in part.groups) for part in self.parts)


def collate(examples: Sequence[Example], *, share: bool = True, call_cost: int = CALL_COST) -> MicroBatch:
    """Collate examples, all with the same number of responses, into the arrays of a micro-batch.

    Args:
        share: compute the beginning of each prompt once for all its responses.
        call_cost: cost of one more call of the model, in tokens; each group and each prefix is a call.
    """
    count, responses = len(examples), len(examples[0][1])
    lengths = [len(prompt.tokens) for prompt, _ in examples]
    share = share and responses > 1
    parts: list[Part] = []
    placed: list[tuple[_Row, int]] = []  # every row with its offset among the tokens of all rows
    begin = 0
    for members in split_prompts(lengths, responses, call_cost) if share else [list(range(count))]:
        shared = shared_length([lengths[i] for i in members]) if share else 0
        rows = [
            _row(r * count + i, owner, examples[i][0].tokens[shared:], examples[i][1][r].tokens)
            for r in range(responses)
            for owner, i in enumerate(members)
        ]
        groups = [[rows[n] for n in group] for group in group_rows([len(row.tokens) for row in rows], call_cost)]
        prefix = np.array([examples[i][0].tokens[:shared] for i in members], np.int32).reshape(len(members), shared)
        parts.append(Part(prefix, tuple(map(_rows, groups))))
        for group, padded in zip(groups, parts[-1].groups, strict=True):
            width = padded.tokens.shape[1]
            placed += [(row, begin + place * width) for place, row in enumerate(group)]
            begin += padded.tokens.size
    scored = [
        (begin + row.first + i, token, row.number) for row, begin in placed for i, token in enumerate(row.response)
    ]
    size = bucket(len(scored))
    positions, targets, response_index = zip(*scored, strict=True)
    return MicroBatch(
        parts=tuple(parts),
        positions=_padded(positions, size, 0),
        targets=_padded(targets, size, 0),
        response_index=_padded(response_index, size, -1),
        lengths=np.array([[len(rs[r].tokens) for _, rs in examples] for r in range(responses)], np.float32),
    )


class _Row(NamedTuple):
    """A response: its index, its prompt's, the input tokens, the column predicting its first token, its tokens."""

    number: int
    owner: int
    tokens: tuple[int, ...]
    first: int
    response: tuple[int, ...]


def _row(number: int, owner: int, rest: tuple[int, ...], response: tuple[int, ...]) -> _Row:
    """Build a row. The token after position p is predicted at p: the first scored one at the prompt's last position."""
    return _Row(number, owner, (*rest, *response[:-1]), len(rest) - 1, response)


def _rows(group: Sequence[_Row]) -> Rows:
    tokens = np.zeros((len(group), bucket(max(len(row.tokens) for row in group))), np.int32)
    for place, row in enumerate(group):
        tokens[place, : len(row.tokens)] = row.tokens
    return Rows(tokens, np.array([row.owner for row in group], np.int32))


def split_prompts(lengths: Sequence[int], responses: int, call_cost: int = CALL_COST) -> list[list[int]]:
    """Split prompts into parts of similar lengths; returns their indices.

    A part shares a prefix as long as its shortest prompt; the rest of longer ones is computed for every response.

    Args:
        lengths: of the prompts, in tokens.
        responses: number of responses to each prompt.
        call_cost: fixed cost of a call of the model, in tokens.
    """
    order = sorted(range(len(lengths)), key=lambda n: (-lengths[n], n))

    def cost(start: int, end: int) -> int:
        shared = shared_length([lengths[order[end - 1]]])
        return sum(responses * (lengths[n] - shared) + shared for n in order[start:end]) + 2 * call_cost

    return [[order[n] for n in range(start, end)] for start, end in cheapest_cuts(len(order), cost)]


def shared_length(lengths: Sequence[int]) -> int:
    """Choose how many tokens of each prompt to share: fewer than the shortest has, as its last token is in the rows.

    The rest of the prompt is computed for every response, so this rounds more finely than :func:`bucket`.
    """
    shortest = min(lengths) - 1
    step = max(2, _step(shortest) // 4)
    return shortest // step * step if shortest >= _LEAST else 0


def group_rows(lengths: Sequence[int], call_cost: int = CALL_COST) -> list[list[int]]:
    """Group rows of similar lengths so that padding and calls together cost least; returns indices of rows."""
    order = sorted(range(len(lengths)), key=lambda n: (-lengths[n], n))

    def cost(start: int, end: int) -> int:
        return (end - start) * bucket(lengths[order[start]]) + call_cost

    return [[order[n] for n in range(start, end)] for start, end in cheapest_cuts(len(order), cost)]


def cheapest_cuts(count: int, cost: Callable[[int, int], int]) -> list[tuple[int, int]]:
    """Cut ``range(count)`` into stretches (start, end) with the least total cost, by dynamic programming."""
    best = [0] + [0] * count  # least cost of the first n items
    cut = [0] * (count + 1)
    for end in range(1, count + 1):
        costs = [best[start] + cost(start, end) for start in range(end)]
        best[end] = min(costs)
        cut[end] = costs.index(best[end])
    stretches: list[tuple[int, int]] = []
    end = count
    while end:
        stretches.append((cut[end], end))
        end = cut[end]
    return stretches[::-1]


def bucket(length: int) -> int:
    """Round a length up to one of 10, 12, ..., 64, 68, ..., 128, 136, ...: few shapes to compile, and from 10 tokens on
    one token of padding or less than 7 %."""
    step = _step(length - 1)
    return max(_LEAST, -(-length // step) * step)


def _step(length: int) -> int:
    """Return the distance between neighbouring sizes of :func:`bucket`."""
    return max(2, 1 << max(0, length.bit_length() - 5))


def batch_order(count: int, epochs: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield the indices of the examples of each optimiser step; every epoch is shuffled with its own seed.

    Args:
        count: number of examples.
        batch_size: examples per step; the last step of an epoch may have fewer.
    """
    for epoch in range(epochs):
        order = list(range(count))
        random.Random(derive(seed, "order", epoch)).shuffle(order)
        for start in range(0, count, batch_size):
            yield order[start : start + batch_size]


def micro_batches(examples: Sequence[Example], size: int) -> Iterator[list[Example]]:
    """Split a batch into micro-batches of at most ``size`` prompts of similar lengths, longest first."""
    by_length = sorted(examples, key=_lengths, reverse=True)
    for start in range(0, len(by_length), size):
        yield by_length[start : start + size]


def _lengths(example: Example) -> tuple[int, int]:
    prompt, responses = example
    return len(prompt.tokens), max(len(response.tokens) for response in responses)


def _padded(values: Sequence[int], size: int, filler: int) -> np.ndarray:
    array = np.full(size, filler, np.int32)
    array[: len(values)] = values
    return array
