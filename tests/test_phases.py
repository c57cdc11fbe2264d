"""Parts of phases that are not seen in a whole run."""

from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.phases import shards
from tspin_mlx.recipe import GenerationSection
from tspin_mlx.triplets import Prompt, Response


def prompts(lengths):
    return [Prompt(str(i), (1,) * n, "", Response((1,), ""), "") for i, n in enumerate(lengths)]


def section(max_tokens, shard_tokens):
    return GenerationSection(max_tokens=max_tokens, shard_tokens=shard_tokens)


def test_shards_hold_so_many_tokens_the_longest_prompts_first():
    parts = shards(prompts([3, 9, 5, 1, 20]), section(2, 18))
    assert [[len(prompt.tokens) for prompt in part] for part in parts] == [[20], [9, 5], [3, 1]]


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 50), st.integers(1, 200))
def test_every_prompt_is_in_one_shard_and_none_is_larger_than_allowed(lengths, max_tokens, shard_tokens):
    parts = shards(prompts(lengths), section(max_tokens, shard_tokens))
    assert sorted(prompt.id for part in parts for prompt in part) == sorted(map(str, range(len(lengths))))
    for part in parts:
        assert len(part) == 1 or sum(len(prompt.tokens) + max_tokens for prompt in part) <= shard_tokens
