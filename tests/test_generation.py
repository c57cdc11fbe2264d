"""Generation: reproducible whatever the batch, with ids and end tokens kept as they were sampled."""

import mlx.core as mx
import numpy as np
import pytest

from tspin_mlx.generation import Decoding, generate
from tspin_mlx.models import load_policy, resolve_model
from tspin_mlx.recipe import LoraSection, ModelSection
from tspin_mlx.seeds import derive
from tspin_mlx.triplets import Prompt, Response

END = 1


@pytest.fixture(scope="module")
def policy(tiny_model):
    lora = LoraSection(rank=4, dropout=0.5)
    return load_policy(resolve_model(ModelSection(path=str(tiny_model))), "auto", lora, 0)


def prompts(count=9):
    return [
        Prompt(id=str(i), tokens=tuple(range(10, 13 + 2 * i)), text="", annotated=Response((1,), ""), answer="")
        for i in range(count)
    ]


def sample(policy, batch_size=4, temperature=1.0, top_p=1.0, max_tokens=24, order=None, seeds=None):
    asked = prompts()
    chosen = order or range(len(asked))
    seeds = seeds or [derive(7, prompt.id) for prompt in asked]
    decoding = Decoding(temperature, top_p, max_tokens, batch_size)
    found = generate(policy, [asked[i] for i in chosen], [seeds[i] for i in chosen], decoding)
    return dict(zip(chosen, found, strict=True))


@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
def test_samples_do_not_depend_on_the_batch_size(policy, batch_size):
    assert sample(policy, batch_size=batch_size) == sample(policy, batch_size=4)


def test_samples_do_not_depend_on_the_order(policy):
    assert sample(policy, order=[8, 3, 0, 5, 1, 7, 2, 6, 4]) == sample(policy)


def test_samples_do_not_depend_on_how_many_tokens_are_allowed(policy):
    short, long = sample(policy, max_tokens=6), sample(policy, max_tokens=24)
    assert all(long[i].tokens[:6] == short[i].tokens[:6] for i in short)


def test_another_seed_gives_other_samples(policy):
    assert sample(policy, seeds=list(range(100, 109))) != sample(policy)


def test_greedy_takes_the_likeliest_token(policy):
    found = sample(policy, seeds=[None] * 9)
    for i, prompt in enumerate(prompts()):
        ids = list(prompt.tokens)
        for token in found[i].tokens:
            assert token == mx.argmax(policy.model(mx.array([ids]))[0, -1]).item()
            ids.append(token)


def test_the_end_token_is_there_exactly_if_the_response_ended_by_itself(policy):
    # The seeds are many, so that among the responses are both kinds.
    asked = prompts(1) * 400
    found = generate(policy, asked, list(range(400)), Decoding(1.0, 1.0, 40, 100))
    assert {response.finish_reason for response in found} == {"stop", "length"}
    for response in found:
        assert END not in response.tokens[:-1]
        assert (response.tokens[-1] == END) == (response.finish_reason == "stop")
        if response.finish_reason == "length":
            assert len(response.tokens) == 40
        assert "<|im_end|>" not in response.text


def test_sampled_tokens_follow_the_policy(policy):
    """The first tokens of many samples have the frequencies that the model gives them."""
    asked = prompts(1) * 2000
    found = generate(policy, asked, list(range(5000, 7000)), Decoding(1.0, 1.0, 1, 500))
    counts = np.bincount([response.tokens[0] for response in found], minlength=258)
    expected = np.array(mx.softmax(policy.model(mx.array([list(asked[0].tokens)]))[0, -1])) * 2000
    likely = expected > 20
    assert likely.sum() > 5
    deviation = (counts[likely] - expected[likely]) / np.sqrt(expected[likely])
    assert np.abs(deviation).max() < 4.5


def test_top_p_leaves_out_the_tail(policy):
    asked = prompts(1) * 300
    found = generate(policy, asked, list(range(300)), Decoding(1.0, 0.3, 1, 100))
    probabilities = np.array(mx.softmax(policy.model(mx.array([list(asked[0].tokens)]))[0, -1]))
    order = np.argsort(-probabilities)
    nucleus = order[: np.searchsorted(np.cumsum(probabilities[order]), 0.3) + 1]
    assert {response.tokens[0] for response in found} <= set(nucleus.tolist())


def test_dropout_is_off_even_if_the_model_was_training(policy):
    expected = sample(policy)
    policy.model.train()
    assert sample(policy) == expected
