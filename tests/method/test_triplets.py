"""Prompts, responses and triplets: put together in order, and the same after a way through JSON."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.method.triplets import (
    Prompt,
    Response,
    Triplet,
    build_triplets,
    prompt_from_row,
    response_from_row,
    to_row,
    triplet_from_row,
    until_difference,
)

tokens = st.lists(st.integers(0, 2**31 - 1)).map(tuple)
responses = st.builds(
    Response, tokens, st.text(), st.sampled_from(["stop", "length"]), st.none() | st.integers(0, 2**63 - 1)
)
prompts = st.builds(Prompt, st.text(), tokens, st.text(), responses, st.text())
triplets = st.builds(Triplet, prompts, responses, st.none() | responses)


@given(
    st.one_of(
        st.tuples(st.just(response_from_row), responses),
        st.tuples(st.just(prompt_from_row), prompts),
        st.tuples(st.just(triplet_from_row), triplets),
    )
)
def test_a_record_is_itself_again_after_json(pair):
    from_row, record = pair
    assert from_row(json.loads(json.dumps(to_row(record)))) == record


X, Y = Prompt("x", (1,), "x?", Response((2,), "y"), "y"), Prompt("y", (3,), "y?", Response((4,), "z"), "z")
SAMPLES = [Response((5,), "a"), Response((6,), "b")]
INITIAL = [Response((7,), "c"), Response((8,), "d")]


def test_triplets_are_made_of_what_stands_in_the_same_place():
    one, other = build_triplets([X, Y], SAMPLES, INITIAL)
    assert one == Triplet(X, SAMPLES[0], INITIAL[0])
    assert other.responses() == (Y.annotated, SAMPLES[1], INITIAL[1])


def test_without_proto_synthetic_responses_a_triplet_has_two():
    one, other = build_triplets([X, Y], SAMPLES, None)
    assert one.proto_synthetic is None
    assert other.responses() == (Y.annotated, SAMPLES[1])


@pytest.mark.parametrize(
    ("synthetic", "proto_synthetic"), [(SAMPLES[:1], None), (SAMPLES[:1], INITIAL), (SAMPLES, INITIAL[:1])]
)
def test_a_missing_response_is_an_error(synthetic, proto_synthetic):
    with pytest.raises(ValueError, match="shorter"):
        build_triplets([X, Y], synthetic, proto_synthetic)


@pytest.mark.parametrize(
    ("response", "annotated", "kept"),
    [
        ((1, 2, 7, 8, 9), (1, 2, 3, 4), (1, 2, 7, 8)),  # the first difference and one more
        ((7, 8, 9), (1, 2), (7, 8)),
        ((1, 2, 3), (1, 2, 3), (1, 2, 3)),  # no difference
        ((1, 2), (1, 2, 3), (1, 2)),  # cut off before any
        ((1, 2, 3, 7, 8, 9), (1, 2, 3), (1, 2, 3, 7, 8)),  # went on where y had ended
    ],
)
def test_a_response_counts_from_its_first_difference_on(response, annotated, kept):
    cut = until_difference(Response(response, "said", "length"), Response(annotated, ""), 2)
    assert cut == Response(kept, "said", "length")


def test_only_the_own_responses_of_a_triplet_are_cut():
    prompt = replace(Y, annotated=Response((1, 2, 3, 4), ""))
    triplet = Triplet(prompt, Response((1, 9, 9, 9), ""), Response((8, 8, 8), ""))
    assert [r.tokens for r in triplet.responses(1)] == [(1, 2, 3, 4), (1, 9), (8,)]
