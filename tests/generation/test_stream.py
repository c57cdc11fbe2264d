"""The prompt cache: a conversation is computed from where it differs, on tiny models of several architectures."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import mamba

from tests.support.tiny_architectures import tiny_architecture
from tspin_mlx.generation.stream import PromptCache

RNG = np.random.default_rng(0)
ASKED, SAID, MORE = (RNG.integers(0, 99, length).tolist() for length in (20, 5, 6))


def answer(model, cache, prompt, said=()):
    """Read the prompt and say something: how many tokens of the prompt were new, and the last logits."""
    layers, new = cache.take(model, prompt)
    logits = model(mx.array([new]), cache=layers)
    for token in said:
        cache.add(token)
        logits = model(mx.array([[token]]), cache=layers)
    return len(new), np.array(logits[0, -1])


def assert_right(model, logits, tokens):
    np.testing.assert_allclose(logits, np.array(model(mx.array([tokens]))[0, -1]), rtol=1e-4, atol=1e-5)


@pytest.fixture(params=["llama", "qwen3", "gemma3_text"])
def model(request):
    return tiny_architecture(request.param)


def test_only_the_new_part_of_a_conversation_is_computed(model):
    cache = PromptCache()
    assert answer(model, cache, ASKED, SAID)[0] == 20
    new, logits = answer(model, cache, ASKED + SAID + MORE)
    assert new == 6
    assert_right(model, logits, ASKED + SAID + MORE)
    new, logits = answer(model, cache, ASKED + SAID + MORE)
    assert new == 1  # the same once more
    assert_right(model, logits, ASKED + SAID + MORE)


def test_the_part_that_differs_is_forgotten(model):
    cache = PromptCache()
    answer(model, cache, ASKED, SAID)
    other = [*ASKED[:10], ASKED[10] ^ 1, *MORE]
    new, logits = answer(model, cache, other, SAID)
    assert new == 7
    assert_right(model, logits, other + SAID)
    assert answer(model, cache, ASKED[:4])[0] == 1  # shorter than what is held
    assert answer(model, cache, [98 - ASKED[0], *ASKED])[0] == 21


def test_tokens_computed_ahead_or_left_half_done_do_not_count(model):
    cache = PromptCache()
    layers, _ = cache.take(model, ASKED)
    model(mx.array([ASKED]), cache=layers)
    model(mx.array([[7]]), cache=layers)  # a next token, which nobody has asked for
    new, logits = answer(model, cache, ASKED + MORE)
    assert new == 6
    assert_right(model, logits, ASKED + MORE)
    layers[0].trim(1)
    new, logits = answer(model, cache, ASKED + MORE)
    assert new == 26
    assert_right(model, logits, ASKED + MORE)
    # Broken off within a prompt: the rest was announced, but not read.
    layers, new = cache.take(model, SAID + MORE)
    model(mx.array([new[:3]]), cache=layers)
    assert answer(model, cache, SAID + MORE)[0] == 11 - 3


def test_a_window_that_has_moved_on_cannot_go_back():
    model, cache = tiny_architecture("gemma3_text", sliding_window=8), PromptCache()
    answer(model, cache, ASKED, SAID)
    new, logits = answer(model, cache, ASKED[:15] + MORE)
    assert new == 21
    assert_right(model, logits, ASKED[:15] + MORE)
    new, _ = answer(model, cache, ASKED[:15] + MORE + SAID)
    assert new == 5  # but it can move forward


def test_a_state_without_positions_is_made_anew():
    config = {
        "model_type": "mamba", "vocab_size": 99, "hidden_size": 16, "intermediate_size": 32, "state_size": 4,
        "num_hidden_layers": 2, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 2,
    }  # fmt: skip
    model, cache = mamba.Model(mamba.ModelArgs(**config)), PromptCache()
    answer(model, cache, ASKED, SAID)
    new, logits = answer(model, cache, ASKED + SAID + MORE)
    assert new == 31
    assert_right(model, logits, ASKED + SAID + MORE)
