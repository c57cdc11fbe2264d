"""Parts of phases that are not seen in a whole run."""

from types import SimpleNamespace as Fake

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tspin_mlx.engine import train_phases as training
from tspin_mlx.engine.sample_phases import shards
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.recipe.schema import GenerationSection


def prompts(lengths):
    return [Prompt(str(i), (1,) * n, "", Response((1,), ""), "") for i, n in enumerate(lengths)]


def section(max_tokens, shard_tokens):
    return GenerationSection(max_tokens=max_tokens, shard_tokens=shard_tokens)


def test_shards_hold_a_number_of_tokens_the_longest_prompts_first():
    parts = shards(prompts([3, 9, 5, 1, 20]), section(2, 18))
    assert [[len(prompt.tokens) for prompt in part] for part in parts] == [[20], [9, 5], [3, 1]]


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 50), st.integers(1, 200))
def test_every_prompt_is_in_one_shard_and_none_is_larger_than_allowed(lengths, max_tokens, shard_tokens):
    parts = shards(prompts(lengths), section(max_tokens, shard_tokens))
    assert sorted(prompt.id for part in parts for prompt in part) == sorted(map(str, range(len(lengths))))
    for part in parts:
        assert len(part) == 1 or sum(len(prompt.tokens) + max_tokens for prompt in part) <= shard_tokens


@pytest.mark.parametrize(
    ("pause", "saving_s", "saved"),
    [(10, 0, [3, 6, 9]), (0, 0, [1, 2, 3, 4, 5, 6, 7, 8, 9]), (10, 1, [3, 8]), (100, 0, [])],
    ids=["now and then", "always", "rarely, because it takes long", "not at all in so short a phase"],
)
def test_checkpoints_come_after_a_pause_that_grows_with_what_they_cost(monkeypatch, pause, saving_s, saved):
    """Ten steps of four seconds."""
    clock, seen = Fake(now=0.0), []

    def run(examples, on_step, done):
        for step in range(done + 1, 11):
            clock.now += 4
            on_step(step, {})

    def save(trainer, step):
        seen.append(step)
        clock.now += saving_s

    monkeypatch.setattr(training, "time", Fake(monotonic=lambda: clock.now))
    monkeypatch.setattr(training, "Trainer", lambda *_: Fake(run=run, first_logps={}))
    monkeypatch.setattr(training, "Checkpoints", lambda *_: Fake(restore=lambda trainer: 0, save=save))
    recipe = Fake(run=Fake(checkpoint_seconds=pause))
    context = Fake(plan=Fake(recipe=recipe), store=None, policy=None, gradients=None, emit=lambda *_, **__: None,
                warn=print, stop=Fake(now=False, check=lambda: None))  # fmt: skip
    training._optimise(context, Fake(train=Fake(steps=10), objective=Fake(), target="x", iteration=0, seed=0), [])
    assert seen == saved
