"""Generation: reproducible whatever the batch, with ids and end tokens kept as they were sampled."""

import dataclasses

import mlx.core as mx
import numpy as np
import pytest

from tspin_mlx.base.seeds import derive
from tspin_mlx.generation import batch
from tspin_mlx.generation.batch import Decoding, common_length, generate
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models.adapters import fused
from tspin_mlx.models.folder import resolve_model
from tspin_mlx.models.load import load_policy
from tspin_mlx.recipe.schema import LoraSection, ModelSection

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


def test_a_gpu_draws_the_same_tokens_by_one_compiled_function(policy, monkeypatch):
    drawn = {}
    for where, on_cpu in (("cpu", True), ("gpu", False)):
        monkeypatch.setattr(batch, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
        batch._draw.cache_clear()
        drawn[where] = batch._draw(), sample(policy, temperature=0.7)
    batch._draw.cache_clear()
    assert drawn["cpu"][0] is not drawn["gpu"][0]
    assert drawn["cpu"][1] == drawn["gpu"][1]


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


@pytest.mark.parametrize(
    ("prompts", "common"),
    [
        (["abcdefgh", "abcdexyz"], 5),
        (["abcdefgh", "abcdexyz", "abcdx"], 4),  # each keeps its last token
        (["abcde", "abcdefgh"], 4),
        (["abcdef", "abcdef"], 5),
        (["abcd", "abxy"], 0),  # two are not worth it
        (["abcdefgh"], 0),
        (["a", "abcdefgh"], 0),
    ],
)
def test_what_all_prompts_begin_with(prompts, common):
    assert common_length([tuple(map(ord, prompt)) for prompt in prompts]) == common


def test_prompts_that_begin_alike_are_answered_as_if_each_came_alone(policy):
    """What is shared is computed once: the model sees fewer tokens, and the answers are the same."""
    begin = tuple(range(40, 60))
    asked = [
        Prompt(id=str(i), tokens=(*begin, *range(10, 12 + 3 * i)), text="", annotated=Response((1,), ""), answer="")
        for i in range(6)
    ]
    decoding = Decoding(1.0, 1.0, 12, 4)
    seeds = list(range(6))
    seen = []
    kind = type(policy.model)
    original = kind.__call__

    def counting(self, inputs, *args, **kwargs):
        seen.append(inputs.size)
        return original(self, inputs, *args, **kwargs)

    alone = [generate(policy, [prompt], [seed], decoding)[0] for prompt, seed in zip(asked, seeds, strict=True)]
    try:
        kind.__call__ = counting
        together = generate(policy, asked, seeds, decoding)
    finally:
        kind.__call__ = original
    assert together == alone
    assert seen[0] == len(begin) + 1  # 10 is common, too
    assert sum(seen) < sum(len(prompt.tokens) + 12 for prompt in asked)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_adapter_is_fused_while_answering_and_is_as_before_afterwards(tiny_model, kind, monkeypatch):
    policy = load_policy(resolve_model(ModelSection(path=str(tiny_model))), "auto", LoraSection(rank=4, kind=kind), 0)
    moved = [(name, value + 0.1) for name, value in policy.adapter().items() if not name.endswith(".m")]
    policy.model.load_weights(moved, strict=False)
    tokens = mx.array([[5, 6, 7, 8]])
    before, names = policy.model(tokens), {name: type(layer) for name, layer in policy.model.named_modules()}
    with fused(policy):
        assert not policy.adapter()
        np.testing.assert_allclose(policy.model(tokens), before, rtol=1e-4, atol=1e-4)
        assert type(policy.model.layers[0].self_attn.q_proj).__name__ == "Linear"
    assert {name: type(layer) for name, layer in policy.model.named_modules()} == names
    np.testing.assert_array_equal(policy.model(tokens), before)
    monkeypatch.setattr("tspin_mlx.models.adapters.device_bytes", lambda: 1000)
    with fused(policy):
        assert policy.adapter()  # there is no room for weights twice
    monkeypatch.undo()
    policy.model.set_dtype(mx.bfloat16)
    with fused(policy):
        assert policy.adapter()  # rounding would make it another policy


def test_no_answer_runs_past_the_models_window(policy):
    narrow = dataclasses.replace(policy, window=16)
    room = {i: 16 - len(prompt.tokens) for i, prompt in enumerate(prompts())}
    found = sample(narrow, max_tokens=8)
    whole = sample(policy, max_tokens=8)
    assert any(left < 8 for left in room.values())
    for i, left in room.items():
        assert found[i].tokens == whole[i].tokens[: max(1, min(8, left))]
