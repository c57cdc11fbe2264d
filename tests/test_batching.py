"""Micro-batches: which positions are scored, for which tokens; shapes, orders and partitions."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.batching import batch_order, bucket, collate, micro_batches
from tspin_mlx.triplets import Prompt, Response


def scored(prompt, *responses):
    made = [Response(tuple(tokens), "") for tokens in responses]
    return Prompt("id", tuple(prompt), "", made[0], ""), tuple(made)


tokens = st.lists(st.integers(1, 999), min_size=1, max_size=12)


@st.composite
def batches(draw):
    """Some examples with the same number of responses."""
    count = draw(st.integers(1, 3))
    responses = st.lists(tokens, min_size=count, max_size=count)
    pairs = draw(st.lists(st.tuples(tokens, responses), min_size=1, max_size=5))
    return [scored(prompt, *responses) for prompt, responses in pairs]


def test_the_arrays_of_a_small_batch_are_the_worked_ones():
    batch = collate([scored([5, 6, 7], [8, 9], [10]), scored([3], [4], [11, 12])])
    # Rows: first responses of both prompts, then second ones; the last token of each is no input.
    assert batch.tokens.tolist() == [
        [5, 6, 7, 8, 0, 0, 0, 0],
        [3, 0, 0, 0, 0, 0, 0, 0],
        [5, 6, 7, 0, 0, 0, 0, 0],
        [3, 11, 0, 0, 0, 0, 0, 0],
    ]
    # 8 is predicted at position 2 of row 0, 9 at position 3; 4 at the start of row 1; and so on.
    assert batch.positions.tolist() == [2, 3, 8, 18, 24, 25, 0, 0]
    assert batch.targets.tolist() == [8, 9, 4, 10, 11, 12, 0, 0]
    assert batch.rows.tolist() == [0, 0, 1, 2, 3, 3, -1, -1]
    assert batch.lengths.tolist() == [[2, 1], [1, 2]]
    assert [array.dtype for array in vars(batch).values()] == [np.int32] * 4 + [np.float32]


@given(batches())
def test_every_response_token_is_scored_once_and_padding_never(examples):
    batch = collate(examples)
    rows, width = batch.tokens.shape
    assert rows == len(examples) * len(examples[0][1])
    expected = [
        (row, len(prompt.tokens) - 1 + i, token)
        for row, (prompt, response) in enumerate(
            (prompt, responses[r]) for r in range(len(examples[0][1])) for prompt, responses in examples
        )
        for i, token in enumerate(response.tokens)
    ]
    real = batch.rows >= 0
    assert list(zip(batch.rows[real], batch.positions[real], batch.targets[real], strict=True)) == [
        (row, row * width + column, token) for row, column, token in expected
    ]
    # Every scored position holds a real token, and no token is 0.
    assert batch.tokens.reshape(-1)[batch.positions[real]].all()
    assert not batch.targets[~real].any() and not batch.positions[~real].any()


@given(batches())
def test_inputs_are_prompt_and_response_without_its_last_token(examples):
    batch = collate(examples)
    order = [(prompt, responses[r]) for r in range(len(examples[0][1])) for prompt, responses in examples]
    for row, (prompt, response) in zip(batch.tokens, order, strict=True):
        whole = [*prompt.tokens, *response.tokens[:-1]]
        assert row[: len(whole)].tolist() == whole
        assert not row[len(whole) :].any()


@given(batches())
def test_lengths_count_the_scored_tokens_of_each_row(examples):
    batch = collate(examples)
    counted = np.bincount(batch.rows[batch.rows >= 0], minlength=len(batch.tokens))
    assert batch.lengths.reshape(-1).tolist() == counted.tolist()
    assert batch.lengths.shape == (len(examples[0][1]), len(examples))


@given(batches())
def test_shapes_come_from_the_buckets(examples):
    batch = collate(examples)
    assert batch.tokens.shape[1] == bucket(batch.tokens.shape[1])
    assert len(batch.positions) == len(batch.targets) == len(batch.rows) == bucket(len(batch.rows))


def test_buckets_are_the_documented_ones():
    found = sorted({bucket(length) for length in range(1, 65)})
    assert found == [8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]


@given(st.integers(1, 100_000))
def test_a_bucket_is_the_smallest_that_fits_with_little_padding(length):
    size = bucket(length)
    assert size >= length
    assert bucket(size) == size
    assert size == 8 or (size - length) / length < 0.25


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_buckets_grow_with_the_length(one, other):
    assert bucket(min(one, other)) <= bucket(max(one, other))


@pytest.mark.parametrize("power", range(4, 15))
def test_there_are_four_buckets_between_powers_of_two(power):
    assert len({bucket(length) for length in range(2**power + 1, 2 ** (power + 1) + 1)}) == 4


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 12), st.integers(0, 2**32))
def test_every_epoch_is_a_permutation_in_full_batches(count, epochs, batch_size, seed):
    found = list(batch_order(count, epochs, batch_size, seed))
    per_epoch = -(-count // batch_size)
    assert len(found) == epochs * per_epoch
    for start in range(0, len(found), per_epoch):
        epoch = found[start : start + per_epoch]
        assert sorted(i for batch in epoch for i in batch) == list(range(count))
        assert all(len(batch) == batch_size for batch in epoch[:-1])
    assert found == list(batch_order(count, epochs, batch_size, seed))


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed):
        return [tuple(batch) for batch in batch_order(20, 2, 20, seed)]

    assert len({*order(0), *order(1)}) == 4


@given(batches(), st.integers(1, 6))
def test_micro_batches_are_a_partition_longest_first(examples, size):
    found = list(micro_batches(examples, size))
    assert sorted(id(x) for micro in found for x in micro) == sorted(map(id, examples))
    assert all(len(micro) == size for micro in found[:-1])
    assert 1 <= len(found[-1]) <= size
    lengths = [len(x.tokens) + max(len(r.tokens) for r in rs) for micro in found for x, rs in micro]
    assert all(before >= after for before, after in pairwise(lengths))
